"""Published layouts: which files of a data set are the photos, which their labels, and how labels spell the classes.

One function per data set turns a source folder into lists of `Item`, split by split. Nothing is opened here;
`prepare.py` reads the files and refuses broken ones.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .catalog import DATASETS, IGNORE_INDEX, DatasetSpec


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

# A value of a label file (grey level, or RGB) and the class id that it stands for.
LabelCode = Mapping[Any, int]


@dataclasses.dataclass(frozen=True)
class Item:
    """One photo to be stored.

    Attributes:
        id: Unique name within the data set.
        group: Photos that must not be taken for independent of each other: a drive, a run of shots, a city.
        label: File with its labels, None for a photo without.
        code: How that file spells the classes.
    """

    id: str
    group: str
    image: Path
    label: Path | None = None
    code: LabelCode | None = None


Splits = dict[str, list[Item]]


def list_items(dataset: str, source: Path, splits_folder: Path | None, spec: DatasetSpec) -> Splits:
    """The photos of every split, in a fixed order.

    Raises:
        ValueError: Unknown data set, or one that needs no preparation.
        FileNotFoundError: The source has not the published layout, or a split's list is missing.
    """
    if dataset not in _READERS:
        raise ValueError(f"There is nothing to prepare for {dataset!r}: choose one of {', '.join(_READERS)}.")
    splits = _READERS[dataset](source, splits_folder, spec)
    if not any(splits.values()):
        raise FileNotFoundError(f"No photos found in {source}. {spec.title} is expected as: {spec.layout}")
    return splits


def find_images(folder: Path) -> list[Path]:
    """All photos below a folder, sorted by their path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def read_class_file(path: Path) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours of `classes.txt`; classes without a colour get one spread over the hues.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No class, or one name twice.
    """
    import colorsys

    if not path.is_file():
        raise FileNotFoundError(f"No {path}: write one class name a line, optionally followed by its colour R:G:B.")
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    names, colors = [], []
    for number, line in enumerate(lines):
        found = re.fullmatch(r"(.+?)\s+(\d{1,3}):(\d{1,3}):(\d{1,3})", line)
        names.append(found[1] if found else line)
        hue = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.6, 0.9)
        colors.append(tuple(int(level) for level in found.groups()[1:]) if found else tuple(int(255 * x) for x in hue))
    if not names or len(set(names)) < len(names) or len(names) > IGNORE_INDEX:
        raise ValueError(f"{path} must name 1 to {IGNORE_INDEX} classes, each once.")
    return tuple(names), tuple(colors)  # type: ignore[arg-type]


def _outdoor_scenes(source: Path, _: Path | None, spec: DatasetSpec) -> Splits:
    code = {**_grey_code(spec.num_labels), 8: IGNORE_INDEX}
    return {
        split: _pairs(source / split / "images", source / split / "labels", code, prefix=split, labels_optional=True)
        for split in spec.splits
    }


def _cityscapes(source: Path, _: Path | None, spec: DatasetSpec) -> Splits:
    """The paper trains on train + test and reports on val."""
    listed: Splits = {split: [] for split in spec.splits}
    for folder, split in (("train", "train"), ("test", "train"), ("val", "val")):
        for image in find_images(source / "leftImg8bit" / folder):
            city, stem = image.parent.name, image.stem.removesuffix("_leftImg8bit")
            label = source / "gtFine" / folder / city / f"{stem}_gtFine_labelIds.png"
            unlabelled = Item(f"{folder}/{stem}", city, image)
            labelled = dataclasses.replace(unlabelled, label=label, code=_CITYSCAPES_CODE)
            listed[split].append(unlabelled if folder == "test" else labelled)
    return listed


def _camvid(source: Path, _: Path | None, spec: DatasetSpec) -> Splits:
    listed = {}
    for split in spec.splits:
        pairs = _pairs(source / split, source / f"{split}annot", _CAMVID_CODE, prefix=split)
        listed[split] = [dataclasses.replace(item, group=_drive(item.image.stem)) for item in pairs]
    return listed


def _labelmefacade(source: Path, splits_folder: Path | None, spec: DatasetSpec) -> Splits:
    code = {color: number for number, color in enumerate(spec.colors)} | {(0, 0, 0): IGNORE_INDEX}
    lists = {split: _read_list(splits_folder or source, split) for split in spec.splits}
    stems = {split: [Path(name).stem for name in names] for split, names in lists.items()}
    runs = _runs([stem for split in stems.values() for stem in split])
    return {
        split: [
            Item(stem, runs[stem], source / "images" / f"{stem}.jpg", source / "labels" / f"{stem}.png", code)
            for stem in names
        ]
        for split, names in stems.items()
    }


def _street(source: Path, splits_folder: Path | None, spec: DatasetSpec) -> Splits:
    """Split by drive and by run of shots: neighbours are near-duplicates of each other."""
    if splits_folder is None and (source / "street_splits").is_dir():
        splits_folder = source / "street_splits"
    if splits_folder is None:
        folders = json.loads((Path(__file__).parent / "street_splits.json").read_text(encoding="utf-8"))
        lists = {
            split: [f"{folder}/{stem}" for folder, stems in folders[split].items() for stem in stems]
            for split in spec.splits
        }
    else:
        lists = {split: _read_list(splits_folder, split) for split in spec.splits}
    everything = [name.split("/") for names in lists.values() for name in names]
    runs = _runs([parts[-1] for parts in everything if parts[0] == "labelmefacade"])

    def item(name: str) -> Item:
        folder, stem = name.rsplit("/", 1)
        if folder == "labelmefacade":
            image, label = source / folder / "images" / f"{stem}.jpg", source / folder / "labels" / f"{stem}.png"
            return Item(name, f"labelmefacade/{runs[stem]}", image, label, _LABELMEFACADE_AS_CAMVID)
        image, label = _with_suffix(source / folder, stem), source / f"{folder}annot" / f"{stem}.png"
        return Item(name, f"camvid/{_drive(stem)}", image, label, _CAMVID_CODE)

    return {split: [item(name) for name in names] for split, names in lists.items()}


def _places2(source: Path, _: Path | None, spec: DatasetSpec) -> Splits:
    """Whichever of the published folders is there; the scene category, where there is one, is the group."""
    listed: Splits = {}
    for split, folders in (("train", ("train", "data_256", "data_large")), ("val", ("val", "val_256", "val_large"))):
        folder = next((source / name for name in folders if (source / name).is_dir()), source / folders[0])
        images = find_images(folder)
        names = [image.relative_to(folder) for image in images]
        listed[split] = [
            Item(
                f"{split}/{name.with_suffix('').as_posix()}",
                name.parent.as_posix() if name.parts[1:] else split,
                image,
            )
            for name, image in zip(names, images, strict=True)
        ]
    return listed


def _folders(source: Path, _: Path | None, spec: DatasetSpec) -> Splits:
    """Not every photo needs a label, but every label a photo: a name that was mistyped must not pass for none."""
    code = _grey_code(spec.num_labels)
    if (source / "images").is_dir():
        places = {"train": (source, "")}
    else:
        splits = sorted(folder.parent.name for folder in source.glob("*/images"))
        places = {split: (source / split, split) for split in splits}
    found: Splits = {}
    for split, (folder, prefix) in places.items():
        images, labels = folder / "images", folder / "labels"
        found[split] = _pairs(images, labels, code, prefix=prefix, labels_optional=True)
        used = {item.label for item in found[split]}
        files = (path for path in sorted(labels.rglob("*")) if path.is_file() and not path.name.startswith("."))
        if stranger := next((path for path in files if path not in used), None):
            raise ValueError(
                f"{stranger} is the label of no photo in {images}: a label is a PNG of its photo's name. Rename or "
                "remove it."
            )
    return found


def _pairs(images: Path, labels: Path, code: LabelCode, prefix: str = "", labels_optional: bool = False) -> list[Item]:
    """Photos with the PNG of the same name among the labels; without a folder of labels, photos alone."""
    items = []
    for image in find_images(images):
        name = image.relative_to(images).with_suffix("")
        label: Path | None = labels / f"{name}.png"
        if not labels.is_dir() or (labels_optional and not (labels / f"{name}.png").is_file()):
            label = None
        identity = f"{prefix}/{name.as_posix()}" if prefix else name.as_posix()
        items.append(Item(identity, identity, image, label, code if label else None))
    return items


def _read_list(folder: Path, split: str) -> list[str]:
    path = Path(folder) / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"No {path}: name the folder with the lists of the splits (splits_folder).")
    return path.read_text(encoding="utf-8").split()


def _with_suffix(folder: Path, stem: str) -> Path:
    """CamVid's photos are PNGs as published, and JPEGs in many copies."""
    png = folder / f"{stem}.png"
    return png if png.is_file() else png.with_suffix(".jpg")


def _drive(stem: str) -> str:
    """CamVid names are DRIVE_FRAME."""
    return stem.split("_")[0]


def _runs(names: Sequence[str]) -> dict[str, str]:
    """Run of shots of every LabelMeFacade name: an album's frames whose numbers are at most 4 apart.

    A run is called like its first shot. In the street lists no run lies in two splits.
    """
    frames: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        album, number = re.match(r"(.*?)(\d*)\D*$", name).groups()  # type: ignore[union-attr]
        frames.setdefault(album, []).append((int(number or 0), name))
    runs = {}
    for shots in frames.values():
        shots.sort()
        previous, first = shots[0]
        for number, name in shots:
            if number - previous > 4:
                first = name
            runs[name], previous = first, number
    return runs


def _grey_code(num_labels: int) -> dict[int, int]:
    return {number: number for number in range(num_labels)} | {IGNORE_INDEX: IGNORE_INDEX}


_CAMVID_CODE = {number: number for number in range(11)} | {11: IGNORE_INDEX}

_CAMVID_IDS = {name: number for number, name in enumerate(DATASETS["street"].classes)}
_LABELMEFACADE_COLORS = dict(zip(DATASETS["labelmefacade"].classes, DATASETS["labelmefacade"].colors, strict=True))
_LABELMEFACADE_AS_CAMVID = {
    (0, 0, 0): IGNORE_INDEX,
    **{
        _LABELMEFACADE_COLORS[theirs]: _CAMVID_IDS[ours]
        for theirs, ours in (
            ("building", "building"),
            ("car", "car"),
            ("door", "building"),
            ("pavement", "pavement"),
            ("road", "road"),
            ("sky", "sky"),
            ("vegetation", "tree"),
            ("window", "building"),
        )
    },
}

# Label ids of the published PNGs. Void (0-3) and the licence plate (-1, 255 in a PNG) are ignored; the labelled rest
# that the benchmark leaves out (4-6, 9, 10, 14-16, 18, 29, 30) is class 19, "other".
_CITYSCAPES_TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_CITYSCAPES_CODE = {
    **dict.fromkeys(range(34), 19),
    **{number: train_id for train_id, number in enumerate(_CITYSCAPES_TRAIN_IDS)},
    **dict.fromkeys((0, 1, 2, 3, 255), IGNORE_INDEX),
}

_READERS: dict[str, Callable[[Path, Path | None, DatasetSpec], Splits]] = {
    "outdoor_scenes": _outdoor_scenes,
    "cityscapes": _cityscapes,
    "camvid": _camvid,
    "labelmefacade": _labelmefacade,
    "street": _street,
    "places2": _places2,
    "folders": _folders,
}

PREPARABLE = tuple(_READERS)
"""Names of the data sets that have a published layout to read."""
