"""Many photos at once: filled one by one, so that memory stays that of one photo, then sorted by confidence."""

import csv
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .photos import PhotoError, SizeError, load_photo, save_photo
from .pipeline import Inpainter
from .thoughts import classes_in_hole


COLUMNS = ("photo", "confidence", "expected error (of 255)", "strategy", "classes in the hole", "note")


class BatchRow(NamedTuple):
    """What became of one photo; `file` is None where it failed, and `note` says why."""

    photo: str
    confidence: float | None
    strategy: str
    classes: str
    note: str
    file: Path | None
    expected_error: float | None = None

    def cells(self) -> list[str]:
        """The row of the table, in the order of `COLUMNS`."""
        confidence = "" if self.confidence is None else f"{self.confidence:.4f}"
        error = "" if self.expected_error is None else f"{self.expected_error:.1f}"
        return [self.photo, confidence, error, self.strategy, self.classes, self.note]


def fill_each(
    inpainter: Inpainter, photos: Sequence[Path], masks: Sequence[Path], folder: Path, **options: Any
) -> Iterator[BatchRow]:
    """Fills photos with the masks of the same stem; a failed photo is a row that says why.

    Args:
        inpainter: The network.
        photos: Photo files.
        masks: Mask files, white = hole.
        folder: Where the filled photos go, as PNG.
        options: Of `Inpainter.prepare`, for all photos alike.
    """
    for number, path in enumerate(photos):
        try:
            yield _fill(inpainter, path, _mask_of(path, photos, masks), folder / f"{number}.png", options)
        except SizeError as error:
            yield BatchRow(path.name, None, "", "", f"failed: {error.facts} Send one of the photo's size.", None)
        except (ValueError, OSError, MemoryError) as error:
            yield BatchRow(path.name, None, "", "", f"failed: {error}", None)


def sort_rows(rows: Sequence[BatchRow]) -> list[BatchRow]:
    """Sorts the least confident first, since a person should look at them; what was not filled comes last."""
    return sorted(rows, key=lambda row: (row.file is None, row.confidence is None, row.confidence or 0, row.photo))


def write_scores(rows: Sequence[BatchRow], path: Path) -> Path:
    """Writes the table as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *(row.cells() for row in rows)])
    return path


def write_zip(rows: Sequence[BatchRow], scores: Path, path: Path) -> Path:
    """Packs the filled photos, named so that they sort as `rows` do, and the CSV of scores."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
        archive.write(scores, scores.name)
        for rank, row in enumerate(rows, start=1):
            if row.file is not None:
                score = "unchanged" if row.confidence is None else f"{row.confidence:.3f}"
                archive.write(row.file, f"{rank:03d}_{score}_{Path(row.photo).stem}.png")
    return path


def _mask_of(photo: Path, photos: Sequence[Path], masks: Sequence[Path]) -> Path:
    twins = [other.name for other in photos if other.stem == photo.stem]
    found = [mask for mask in masks if mask.stem == photo.stem]
    if len(twins) != 1:
        raise PhotoError(f"{' and '.join(twins)} share a name: rename one, and its mask.")
    if len(found) != 1:
        names = ", ".join(mask.name for mask in found) or "none"
        raise PhotoError(f"needs one mask named {photo.stem}.*, found {names}.")
    return found[0]


def _fill(inpainter: Inpainter, path: Path, mask: Path, out: Path, options: dict[str, Any]) -> BatchRow:
    photo = load_photo(path)
    result = inpainter(photo, mask, **options)
    classes = ", ".join(f"{item.name} {item.share:.0%}" for item in classes_in_hole(result)[:3])
    notes = " ".join(result.warnings)
    file = save_photo(photo, result.image, out)
    return BatchRow(path.name, result.score, result.strategy, classes, notes, file, result.expected_error)


__all__ = ["COLUMNS", "BatchRow", "fill_each", "sort_rows", "write_scores", "write_zip"]
