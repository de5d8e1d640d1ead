"""`sgenet prepare`: a published layout becomes a folder of parquet shards that `datasets` and the Hub understand.

Photos are stored at the paper's shorter side, labels as palette PNGs of class ids (255 = ignore). Broken files are
refused by name. A shard appears under its name only when it is complete, and a run that was stopped goes on where it
stopped.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .catalog import DATASETS, DatasetSpec
from .data import DATASET_FILE, row_features, scaled_size
from .layouts import Item, LabelCode, list_items, read_class_file


# Raised when the same source would give other bytes, so that unfinished folders are not continued with other rules.
FORMAT_VERSION = 1

MANIFEST_FILE = ".prepare.json"


class BrokenFilesError(ValueError):
    """Files of the source that cannot be used; the message names them with the reason."""

    def __init__(self, problems: Sequence[str]):
        self.problems = list(problems)
        shown = "\n  ".join(self.problems[:50])
        more = f"\n  and {len(self.problems) - 50} more" if len(self.problems) > 50 else ""
        super().__init__(
            f"{len(self.problems)} broken file(s). Repair or remove them and run again; "
            f"finished shards are kept.\n  {shown}{more}"
        )


def prepare(
    dataset: str,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    splits_folder: str | os.PathLike | None = None,
    shard_rows: int = 500,
    resize_shorter: int | None = None,
    progress: bool = True,
) -> dict[str, int]:
    """Writes `out/<split>-00000-of-0000N.parquet`, `out/dataset.json` and a data-set card, `out/README.md`.

    Args:
        dataset: A key of `data.DATASETS` whose layout `source` has.
        source: The folder with the published files.
        splits_folder: Folder with the lists of the splits, for `street` (`train.txt`, `dev.txt`, `report.txt`;
            default: ours) and `labelmefacade` (`train.txt`, `test.txt`; default: `source`).
        shard_rows: Photos per shard.
        resize_shorter: Shorter side in pixels; default: the paper's for this data set. Smaller photos stay as they
            are.
        progress: Show a progress bar, if there is a terminal.

    Returns:
        The number of photos of each split.

    Raises:
        ValueError: Unknown data set, or one that needs no preparation.
        FileNotFoundError: `source` has not the data set's layout.
        BrokenFilesError: Missing or unreadable photos or labels, labels of another size, values outside the classes.
        FileExistsError: `out` holds parquet files that this function did not write.
    """
    if dataset not in DATASETS:
        raise ValueError(f"Unknown data set {dataset!r}: choose one of {', '.join(DATASETS)}.")
    spec, source, out = DATASETS[dataset], Path(source), Path(out)
    shorter = spec.resize_shorter if resize_shorter is None else resize_shorter
    if shorter < 1 or shard_rows < 1:
        raise ValueError(f"resize_shorter ({shorter}) and shard_rows ({shard_rows}) must be at least 1.")
    if not source.is_dir():
        raise FileNotFoundError(f"No folder {source}. {spec.title} is expected as: {spec.layout}")
    if not spec.classes:
        classes, colors = read_class_file(source / "classes.txt")
        spec = dataclasses.replace(spec, classes=classes, colors=colors)
    splits = list_items(dataset, source, None if splits_folder is None else Path(splits_folder), spec)
    if not any(item.image.is_file() for items in splits.values() for item in items):  # nothing at all of a list
        raise FileNotFoundError(f"No photos found in {source}. {spec.title} is expected as: {spec.layout}")
    shards = {
        f"{split}-{number:05d}-of-{-(-len(items) // shard_rows):05d}.parquet": items[start : start + shard_rows]
        for split, items in splits.items()
        for number, start in enumerate(range(0, len(items), shard_rows))
    }
    _write_shards(shards, source, out, spec, shorter, progress)
    counts = {split: len(items) for split, items in splits.items()}
    labelled = {split: sum(item.label is not None for item in items) for split, items in splits.items()}
    description = _describe(spec, shorter, counts, labelled, sorted(shards))
    _write_file(out / DATASET_FILE, (json.dumps(description, indent=2) + "\n").encode())
    _write_file(out / "README.md", _card(spec, shorter, counts, labelled).encode())
    return counts


def _write_shards(
    shards: Mapping[str, Sequence[Item]], source: Path, out: Path, spec: DatasetSpec, shorter: int, progress: bool
) -> None:
    """Writes what is missing; broken files are collected over all shards, so that one run finds them all."""
    from tqdm import tqdm

    out.mkdir(parents=True, exist_ok=True)
    for leftover in out.glob(".*.partial"):
        leftover.unlink()
    finished = _finished_shards(out, shards)
    problems: list[str] = []
    with (
        tqdm(
            total=sum(map(len, shards.values())), unit="photo", disable=None if progress else True, desc=spec.name
        ) as bar,
        ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
    ):
        for name, items in shards.items():
            plan = _plan(items, source, spec, shorter)
            if finished.get(name, {}).get("plan") == plan:
                bar.update(len(items))
                continue
            rows, broken = [], []
            for row, problem in pool.map(functools.partial(_row, spec=spec, shorter=shorter), items):
                bar.update()
                rows.append(row)
                broken += [problem] if problem else []
            problems += broken
            if not broken:
                content = _parquet(rows)
                finished[name] = {"plan": plan, "sha256": hashlib.sha256(content).hexdigest()}
                # The manifest first: killed in between, the shard is missing and written again, never a stranger.
                _write_file(out / MANIFEST_FILE, (json.dumps(finished, indent=1) + "\n").encode())
                _write_file(out / name, content)
    if problems:
        raise BrokenFilesError(problems)


def _finished_shards(out: Path, shards: Mapping[str, Sequence[Item]]) -> dict[str, dict[str, str]]:
    """Shards of an earlier run that are whole; damaged ones, and those that no split needs any more, are removed."""
    manifest = out / MANIFEST_FILE
    known = json.loads(manifest.read_text()) if manifest.is_file() else {}
    foreign = sorted(path.name for path in out.glob("*.parquet") if path.name not in known)
    if foreign:
        raise FileExistsError(
            f"{out} holds parquet files of another origin ({', '.join(foreign[:3])}): choose a new folder."
        )
    finished = {}
    for name, entry in known.items():
        path = out / name
        if name in shards and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]:
            finished[name] = entry
        else:
            path.unlink(missing_ok=True)
    return finished


def _plan(items: Sequence[Item], source: Path, spec: DatasetSpec, shorter: int) -> str:
    """Fingerprint of all that decides a shard's content: rules, and the source files by name, size and time."""
    facts: list[Any] = [FORMAT_VERSION, spec.name, shorter, spec.colors]
    for item in items:
        files = [path for path in (item.image, item.label) if path is not None]
        stats = [(path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None for path in files]
        names = [os.path.relpath(path, source) for path in files]
        code = sorted((str(value), target) for value, target in (item.code or {}).items())
        facts.append([item.id, item.group, names, stats, code])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _row(item: Item, spec: DatasetSpec, shorter: int) -> tuple[dict[str, Any], str]:
    """One row of a shard and what is wrong with its files; one of the two is empty."""
    try:
        photo, original = _read_photo(item.image)
        size = photo.size
        target = scaled_size(size, min(shorter, *size))
        label = None if item.label is None else _read_label(item.label, size, item.code or {}, target, spec)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return {}, str(error)
    content = original
    if content is None or target != size:
        stream = io.BytesIO()
        photo.resize(target, Image.Resampling.LANCZOS).save(stream, "JPEG", quality=95, subsampling=0)
        content = stream.getvalue()
    return {
        "image": {"bytes": content, "path": None},
        "label": None if label is None else {"bytes": label, "path": None},
        "id": item.id,
        "group": item.group,
    }, ""


def _read_photo(path: Path) -> tuple[Image.Image, bytes | None]:
    """The photo upright in RGB, and its bytes if they can be stored as they are.

    Raises:
        ValueError: Missing, damaged, not an image, or of more than 8 bits a channel.
    """
    content = _read_bytes(path, "photo")
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            upright = ImageOps.exif_transpose(file)
            plain = file.format in ("JPEG", "PNG") and file.mode == "RGB" and file.getexif().get(0x0112, 1) == 1
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable photo ({error})") from error
    if upright.mode.startswith(("I", "F")):
        raise ValueError(f"{path}: a photo of more than 8 bits a channel ({upright.mode})")
    return upright.convert("RGB"), content if plain else None


def _read_label(
    path: Path, photo_size: tuple[int, int], code: LabelCode, target: tuple[int, int], spec: DatasetSpec
) -> bytes:
    """Class ids at the target size as a palette PNG.

    Raises:
        ValueError: Missing, damaged, of another size than the photo, or with a value that stands for no class.
    """
    content = _read_bytes(path, "label")
    try:
        with Image.open(io.BytesIO(content)) as file:
            file.load()
            by_color = any(isinstance(value, tuple) for value in code)
            values = np.array(file.convert("RGB") if by_color else file)
            size = file.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable label ({error})") from error
    if size != photo_size:
        raise ValueError(f"{path}: label of {size[0]}x{size[1]} for a photo of {photo_size[0]}x{photo_size[1]}")
    try:
        labels = encode_labels(values, code)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    image = Image.fromarray(labels)
    image.putpalette(label_palette(spec))
    stream = io.BytesIO()
    image.resize(target, Image.Resampling.NEAREST).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def encode_labels(values: np.ndarray, code: LabelCode) -> np.ndarray:
    """Class ids (uint8) of a label file's values: (H, W) grey levels or (H, W, 3) colours.

    Raises:
        ValueError: A value that `code` does not know, or an array of another form than its keys.
    """
    in_color = any(isinstance(value, tuple) for value in code)
    if values.ndim != (3 if in_color else 2):
        raise ValueError(f"a label of {'RGB colours' if in_color else 'class numbers'} was expected")
    keys = values.astype(np.int32)
    if in_color:
        keys = keys @ np.array([65536, 256, 1], dtype=np.int32)
        code = {(red << 16) + (green << 8) + blue: target for (red, green, blue), target in code.items()}
    labels = np.zeros(keys.shape, dtype=np.uint8)
    known = np.zeros(keys.shape, dtype=bool)
    for value, target in code.items():
        here = keys == value
        labels[here] = target
        known |= here
    if not known.all():
        unknown = np.unique(keys[~known])[:5].tolist()
        shown = [f"{value >> 16}:{value >> 8 & 255}:{value & 255}" if in_color else str(value) for value in unknown]
        raise ValueError(f"unknown label {'colours' if in_color else 'values'} {', '.join(shown)}")
    return labels


def label_palette(spec: DatasetSpec) -> list[int]:
    """256 RGB triples, flat: the classes' colours, black for everything else."""
    flat = [level for color in spec.colors for level in color]
    return flat + [0] * (768 - len(flat))


def _read_bytes(path: Path, kind: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"{path}: {kind} is missing")
    return path.read_bytes()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """One shard with the column types that `datasets` reads back as images."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    table = pyarrow.Table.from_pylist(list(rows), schema=row_features().arrow_schema)
    # Small row groups: the Hub's viewer and streaming readers fetch one at a time.
    pyarrow.parquet.write_table(table, stream, row_group_size=100)
    return stream.getvalue()


def _write_file(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)


def _describe(
    spec: DatasetSpec, shorter: int, counts: Mapping[str, int], labelled: Mapping[str, int], files: Sequence[str]
) -> dict[str, Any]:
    """What `data.dataset_spec` reads back, and how many photos of each split have labels."""
    facts = {"resize_shorter": shorter, "splits": dict(counts), "labelled": dict(labelled), "files": list(files)}
    return dataclasses.asdict(spec) | facts


def _card(spec: DatasetSpec, shorter: int, counts: Mapping[str, int], labelled: Mapping[str, int]) -> str:
    """The data-set card: which file is which split (for the Hub and `load_dataset`), classes, terms."""
    filled = [split for split, count in counts.items() if count]
    configs = "".join(f"  - split: {split}\n    path: {split}-*.parquet\n" for split in filled)
    classes = "\n".join(
        f"| {number} | {name} | {':'.join(map(str, color))} |"
        for number, (name, color) in enumerate(zip(spec.classes, spec.colors, strict=True))
    )
    sizes = "\n".join(f"| {split} | {count} | {labelled[split]} |" for split, count in counts.items())
    return f"""---
pretty_name: "{spec.title}"
license: other
task_categories: [image-to-image, image-segmentation]
tags: [image-inpainting, semantic-segmentation]
configs:
- config_name: default
  data_files:
{configs}---

# {spec.title}

Prepared by `sgenet prepare {spec.name}`: photos with a shorter side of {shorter} pixels (smaller ones as they were),
labels as PNGs of class ids, {spec.ignore_index} = ignore. Columns: `image`, `label` (empty for photos without labels),
`id`, and `group`, which names photos that are not independent of each other (a drive, a run of shots, a scene
category).

**Terms.** {spec.license_note}

Source: {spec.homepage} ({spec.citation})

| split | photos | with labels |
|---|---|---|
{sizes}

| id | class | colour |
|---|---|---|
{classes}
"""
