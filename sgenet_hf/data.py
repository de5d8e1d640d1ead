"""Rows and samples: loads a data set and turns its rows into what the network is trained on.

Section 4.1 of the paper: the shorter side of every photo becomes 256 (512 for Cityscapes), then random crops of
256x256. A sample is the whole photo, a mask, its class labels and, for a share of the samples, a partial semantic
prompt. The network cuts the hole out itself; the whole photo is the target.

What the data sets are is in `catalog.py`; `sgenet prepare` (`prepare.py`) writes the folders that are read here.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .catalog import DATASETS, IGNORE_INDEX, DatasetSpec
from .layouts import find_images, read_class_file
from .masks import (
    IrregularMaskFiles,
    check_mask_mix,
    check_mask_set,
    counterfactual_prompt,
    evaluation_mask,
    partial_prompt,
    training_mask,
)
from .toy import draw_scene


DATASET_FILE = "dataset.json"

# Scenes of `toy` without a number; `dev` and `report` hold a fifth of that.
TOY_COUNT = 400

# The splits of `toy` are other scenes, however many there are of each.
_TOY_FIRST_SEEDS = {"train": 0, "dev": 1_000_000, "report": 2_000_000}


_NEITHER_FOLDER_NOR_DATASET = (
    "No folder {0} here, and no data set of that name could be had from the Hub ({1}). `sgenet prepare` makes a "
    "folder, and its path is taken from where the command runs."
)


def load_inpainting_dataset(name_or_path: str, split: str, streaming: bool = False) -> Any:
    """Loads rows with the columns `image`, `label` (class ids, None without labels), `id` and `group`.

    Args:
        name_or_path: A folder written by `sgenet prepare`, any other folder or Hub id that `datasets` can load, `toy`
            or `toy:COUNT` (COUNT training scenes, a fifth of that in the other splits), or `folders:IMAGES[:LABELS]`.
        split: Name of the split; `folders:` has only `train`.
        streaming: Read rows as they come instead of indexing them.

    Returns:
        A `datasets.Dataset`, or a `datasets.IterableDataset` if streaming.

    Raises:
        FileNotFoundError: Neither a folder nor a data set on the Hub, or photos without a label file.
        ValueError: An unknown split, or a data set without a column of images.
    """
    import datasets

    name_or_path = str(name_or_path)
    kind, _, rest = name_or_path.partition(":")
    if kind == "toy":
        return _from_rows(_toy_rows, _toy_seeds(rest, split), streaming)
    if kind == "folders":
        if split != "train":
            raise ValueError(f"{name_or_path} has one split, `train`, not {split!r}.")
        return _from_rows(_pair_rows, _pairs(rest), streaming)

    folder = Path(name_or_path)
    shards = sorted(folder.glob("*.parquet"))
    if shards:
        files = [str(path) for path in shards if path.name.startswith(f"{split}-")]
        if not files:
            splits = sorted({path.name.rsplit("-", 3)[0] for path in shards})
            raise ValueError(f"{folder} has no split {split!r}, but {', '.join(splits)}.")
        promised = {int(name.rsplit("-of-", 1)[1].split(".")[0]) for name in files if "-of-" in name}
        if promised and promised != {len(files)}:
            raise ValueError(
                f"{folder} holds {len(files)} of {max(promised)} shards of {split!r}: copy it again, or run `sgenet "
                "prepare` again to finish it."
            )
        rows = datasets.load_dataset("parquet", data_files=files, split="train", streaming=streaming)
    elif not folder.is_dir() and (folder.is_absolute() or name_or_path.startswith(".") or len(folder.parts) > 2):
        raise FileNotFoundError(f"No folder {folder}: run `sgenet prepare` first, or name a data set on the Hub.")
    else:
        try:
            rows = datasets.load_dataset(name_or_path, split=split, streaming=streaming)
        except OSError as error:  # no such data set, no connection, no network wanted
            if folder.is_dir():
                raise
            raise FileNotFoundError(_NEITHER_FOLDER_NOR_DATASET.format(name_or_path, error)) from error
    return _with_our_columns(rows, name_or_path)


def dataset_spec(name_or_path: str) -> DatasetSpec:
    """Classes, colours and terms of whatever `load_inpainting_dataset` takes, or of a key of `DATASETS`.

    Prepared folders, and their copies on the Hub, hold them in `dataset.json`; `folders:` needs a `classes.txt` beside
    the folder of labels (without labels: beside the photos).

    Raises:
        ValueError: Nothing says what the classes are, or not in full.
        FileNotFoundError: `folders:` without `classes.txt`, or neither a folder nor a data set on the Hub.
    """
    kind, _, rest = str(name_or_path).partition(":")
    if kind == "folders" and rest:
        classes, colors = read_class_file(Path(rest.split(":")[-1]).parent / "classes.txt")
        return dataclasses.replace(DATASETS["folders"], classes=classes, colors=colors)
    if kind in DATASETS:
        return DATASETS[kind]
    file = Path(name_or_path) / DATASET_FILE
    if not file.is_file() and not Path(name_or_path).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError, RemoteEntryNotFoundError

        try:
            file = Path(hf_hub_download(str(name_or_path), DATASET_FILE, repo_type="dataset"))
        except RemoteEntryNotFoundError:
            pass
        except (OSError, HFValidationError) as error:
            raise FileNotFoundError(_NEITHER_FOLDER_NOR_DATASET.format(name_or_path, error)) from error
    if not file.is_file():
        raise ValueError(
            f"{name_or_path} has no {DATASET_FILE}, so its classes are unknown: prepare it with `sgenet prepare`, or "
            f"name a data set with the same classes ({', '.join(DATASETS)})."
        )
    facts = json.loads(file.read_text(encoding="utf-8"))
    missing = [field.name for field in dataclasses.fields(DatasetSpec) if field.name not in facts]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}: another version wrote it; prepare it again.")
    known = {field.name: facts[field.name] for field in dataclasses.fields(DatasetSpec)}
    known |= {"classes": tuple(known["classes"]), "splits": tuple(known["splits"])}
    return DatasetSpec(**known | {"colors": tuple(tuple(color) for color in known["colors"])})


def row_features() -> Any:
    """The columns of every data set of ours, as `datasets.Features`."""
    import datasets

    return datasets.Features(
        image=datasets.Image(), label=datasets.Image(), id=datasets.Value("string"), group=datasets.Value("string")
    )


def _from_rows(make: Any, sources: list[Any], streaming: bool) -> Any:
    import datasets

    if streaming:  # lists in gen_kwargs are shared out among loader processes
        return datasets.IterableDataset.from_generator(make, features=row_features(), gen_kwargs={"sources": sources})
    return datasets.Dataset.from_list(list(make(sources)), features=row_features())


def _toy_seeds(count: str, split: str) -> list[int]:
    if split not in _TOY_FIRST_SEEDS:
        raise ValueError(f"toy has the splits {', '.join(_TOY_FIRST_SEEDS)}, not {split!r}.")
    if count and not (count.isdigit() and int(count) > 0):
        raise ValueError(f"toy:COUNT needs a number of scenes of at least 1, not {count!r}.")
    scenes = int(count or TOY_COUNT)
    first = _TOY_FIRST_SEEDS[split]
    return list(range(first, first + (scenes if split == "train" else -(-scenes // 5))))


def _toy_rows(sources: list[int]) -> Iterator[dict[str, Any]]:
    palette = [level for color in DATASETS["toy"].colors for level in color]
    for seed in sources:
        picture, labels = draw_scene(seed)
        label = Image.fromarray(labels)
        label.putpalette(palette + [0] * (768 - len(palette)))
        yield {
            "image": _png(Image.fromarray(picture)),
            "label": _png(label),
            "id": f"toy/{seed}",
            "group": f"toy/{seed}",
        }


def _png(image: Image.Image) -> dict[str, Any]:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return {"bytes": stream.getvalue(), "path": None}


def _pairs(folders: str) -> list[tuple[str, str, str | None]]:
    """(id, photo, label) of `IMAGES[:LABELS]`."""
    images, _, labels = folders.partition(":")
    photos = find_images(Path(images))
    if not photos:
        raise FileNotFoundError(f"No photos in {images!r}: write folders:IMAGES or folders:IMAGES:LABELS.")
    pairs, missing = [], []
    for photo in photos:
        name = photo.relative_to(images).with_suffix("")
        label = Path(labels) / name.with_suffix(".png") if labels else None
        if label is not None and not label.is_file():
            missing.append(str(label))
        pairs.append((name.as_posix(), str(photo), None if label is None else str(label)))
    if missing:
        raise FileNotFoundError(f"{len(missing)} photo(s) without a label, e.g. {', '.join(missing[:5])}.")
    return pairs


def _pair_rows(sources: list[tuple[str, str, str | None]]) -> Iterator[dict[str, Any]]:
    for name, image, label in sources:
        yield {"image": image, "label": label, "id": name, "group": name}


def _with_our_columns(rows: Any, name: str) -> Any:
    """Foreign data sets get ids and groups; a `label` that is not a picture (a category) is left out."""
    import datasets

    features = rows.features
    if features is None or not isinstance(features.get("image"), datasets.Image):
        raise ValueError(f"{name} has no column `image` with pictures, but {sorted(features or {})}: rename one.")
    if "label" in features and not isinstance(features["label"], datasets.Image):
        rows = rows.remove_columns("label")
    if "id" in features and "group" in features:
        return rows
    # Without a declared group, every photo stands for itself.
    identity = {column: datasets.Value("string") for column in ("id", "group")}

    def name_row(row: dict[str, Any], number: int) -> dict[str, str]:
        row_id = str(row.get("id", number))
        return {"id": row_id, "group": str(row.get("group", row_id))}

    features = datasets.Features({**rows.features, **identity})
    if isinstance(rows, datasets.IterableDataset):
        return rows.map(name_row, with_indices=True, features=features)
    kept = [column for column in ("id", "group") if column in rows.column_names]
    named = [name_row(row, number) for number, row in enumerate(rows.select_columns(kept))] if kept else None
    named = named or [name_row({}, number) for number in range(len(rows))]
    for column in ("id", "group"):
        rows = rows.remove_columns(column) if column in rows.column_names else rows
        rows = rows.add_column(column, [row[column] for row in named])
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SampleMaker:
    """Turns a row into a sample: decode once, resize once, crop, mirror, mask, prompt.

    Everything random is drawn from the generator passed in, in a fixed order.
    """

    size: int = 256
    resize_shorter: int = 256
    scale_range: tuple[float, float] = (1.0, 1.0)
    seed: int = 0
    mask_mix: Mapping[str, float] | None = None
    irregular_files: IrregularMaskFiles | None = None
    prompt_share: float = 0.0
    counterfactual_share: float = 0.0
    counterfactual_classes: Sequence[int] | None = None
    num_labels: int
    ignore_index: int = IGNORE_INDEX
    train: bool = True
    evaluation_mask: str | None = None
    flip: bool = True
    stretch: float = 0.0
    photometric: float = 0.0
    recoloring: float = 0.0

    def __post_init__(self) -> None:
        if self.resize_shorter < self.size:
            raise ValueError(
                f"Crops of {self.size} do not fit photos whose shorter side is {self.resize_shorter}: "
                "raise resize_shorter."
            )
        smallest, largest = self.scale_range
        if not 0 < smallest <= largest:
            raise ValueError(
                "scale_range is (smallest_scale, largest_scale) with 0 < smallest_scale <= largest_scale, not "
                f"{tuple(self.scale_range)}."
            )
        if not 0 <= self.prompt_share <= 1:
            raise ValueError(f"prompt_share is a share between 0 and 1, not {self.prompt_share}.")
        if not 0 <= self.counterfactual_share <= 1:
            raise ValueError(f"counterfactual_share is a share between 0 and 1, not {self.counterfactual_share}.")
        if not 0 <= self.stretch < 1:
            raise ValueError(f"stretch is 0 or more and below 1, not {self.stretch}.")
        for name in ("photometric", "recoloring"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a strength between 0 and 1, not {getattr(self, name)}.")
        if self.mask_mix is not None:
            check_mask_mix(self.mask_mix)
        if self.evaluation_mask is not None:
            check_mask_set(self.evaluation_mask)

    def __call__(self, row: Mapping[str, Any], rng: np.random.Generator, index: int) -> dict[str, torch.Tensor]:
        image, label = decode_image(row["image"]).convert("RGB"), row.get("label")
        label = None if label is None else decode_image(label)
        if label is not None and label.size != image.size:
            raise ValueError(f"Label of {row.get('id', index)!r} is {label.size}, its photo {image.size}.")
        image, label = self._crop(image, label, rng)
        pixels = np.array(image, dtype=np.uint8)
        labels = np.full(pixels.shape[:2], IGNORE_INDEX, np.uint8) if label is None else np.array(label)
        if labels.ndim != 2:
            raise ValueError(f"Label of {row.get('id', index)!r} is a colour image: store class ids (modes L or P).")
        if self.ignore_index != IGNORE_INDEX:
            labels = np.where(labels == self.ignore_index, IGNORE_INDEX, labels)
        if (unknown := labels[(labels != IGNORE_INDEX) & (labels >= self.num_labels)]).size:
            raise ValueError(
                f"Label of {row.get('id', index)!r} holds class {unknown.max()}, but there are {self.num_labels} "
                f"classes, and {self.ignore_index} for void: prepare the data with their classes."
            )
        mask = self._mask(rng, index)
        prompt = np.full(labels.shape, -1, dtype=np.int64)
        if self.prompt_share and rng.random() < self.prompt_share:
            prompt = partial_prompt(labels, mask, rng, self.num_labels, IGNORE_INDEX)
        if self.counterfactual_share and rng.random() < self.counterfactual_share:
            classes = self.counterfactual_classes or range(self.num_labels)
            prompt = counterfactual_prompt(mask, rng, classes)
        if self.train and self.photometric:
            pixels = relight(pixels, rng, self.photometric)
        if self.train and self.recoloring:
            pixels = recolor(pixels, rng, self.recoloring)
        return {
            "pixel_values": torch.from_numpy(pixels).permute(2, 0, 1).float().div_(127.5).sub_(1.0),
            "mask": torch.from_numpy(mask)[None].float(),
            "labels": torch.from_numpy(labels.astype(np.int64)),
            "has_labels": torch.tensor(float(label is not None)),
            "semantic_prompt": torch.from_numpy(prompt),
            "index": torch.tensor(index, dtype=torch.int64),
        }

    def _crop(
        self, image: Image.Image, label: Image.Image | None, rng: np.random.Generator
    ) -> tuple[Image.Image, Image.Image | None]:
        """The crop is cut out of the source and resized once; the shrunk photo as a whole is never made."""
        width, height = image.size
        shorter = self.resize_shorter
        if self.train and tuple(self.scale_range) != (1.0, 1.0):
            shorter = max(self.size, round(shorter * rng.uniform(*self.scale_range)))
        scaled = scaled_size((width, height), shorter)
        if self.train and self.stretch:
            wider = np.exp(rng.uniform(-self.stretch, self.stretch) / 2)
            scaled = max(self.size, round(scaled[0] * wider)), max(self.size, round(scaled[1] / wider))
        room = scaled[0] - self.size, scaled[1] - self.size
        if self.train:
            left, top = (int(rng.integers(0, free + 1)) for free in room)
            mirror = self.flip and rng.random() < 0.5
        else:
            left, top, mirror = room[0] // 2, room[1] // 2, False
        across, down = width / scaled[0], height / scaled[1]
        box = (left * across, top * down, (left + self.size) * across, (top + self.size) * down)
        target = (self.size, self.size)
        if scaled == image.size:
            image = image.crop((left, top, left + self.size, top + self.size))
        else:
            image = image.resize(target, Image.Resampling.LANCZOS, box=box)
        if label is not None:
            label = label.resize(target, Image.Resampling.NEAREST, box=box)
        if mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            label = None if label is None else label.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return image, label

    def _mask(self, rng: np.random.Generator, index: int) -> np.ndarray:
        if self.evaluation_mask is not None:
            return evaluation_mask(self.evaluation_mask, self.seed, index, self.size, self.size, self.irregular_files)
        return training_mask(self.size, self.size, rng, self.mask_mix, self.irregular_files)


class InpaintingDataset(torch.utils.data.Dataset):
    """Samples from rows that can be indexed; a sample depends on (seed, epoch, index) and nothing else.

    A sample is a dict of tensors:
        pixel_values: (3, size, size) float in [-1, 1], the whole photo.
        mask: (1, size, size) float, 1 = hole.
        labels: (size, size) int64 class ids, 255 = ignore (everywhere for photos without labels).
        has_labels: float scalar, 1 or 0.
        semantic_prompt: (size, size) int64 class ids inside the hole, -1 = the model decides.
        index: int64 scalar, the row.

    Args:
        dataset: Rows as from `load_inpainting_dataset`.
        size: Side of the square crop, in pixels.
        resize_shorter: Shorter side to which photos are brought before cropping; photos already there are not touched.
        scale_range: In training the shorter side is multiplied by a random factor from this range, but never below
            `size`. Factors above 1 show details that photos stored at `resize_shorter` do not hold.
        mask_mix: Weights of the kinds of mask, see `masks.training_mask`.
        irregular_files: Files for irregular masks; generated without them.
        prompt_share: Share of the samples that carry a partial semantic prompt of true classes.
        counterfactual_share: Share of the samples whose prompt is of a class drawn at random, true or not, instead.
        counterfactual_classes: Ids to draw it from; all without them.
        num_labels: Number of classes; larger ids never enter a prompt.
        ignore_index: The value that means "ignore" in the stored labels; it becomes 255.
        train: False takes the centre crop, unmirrored and unscaled.
        evaluation_mask: Name of an evaluation set (see `masks.evaluation_mask`), instead of training masks.
        flip: Mirror half of the training samples.
        stretch: In training width over height is multiplied by a random factor from exp(-stretch) to exp(stretch), as
            far as both sides stay as long as the crop.
        photometric: Strength in [0, 1] of random light in training, see `relight`.
        recoloring: Strength in [0, 1] of random paint in training, see `recolor`.
    """

    def __init__(self, dataset: Any, *, seed: int = 0, **arguments: Any):
        self.rows = undecoded(dataset)
        self.seed = seed
        self._make = _SampleMaker(seed=seed, **arguments)
        self.num_labels, self.ignore_index = self._make.num_labels, self._make.ignore_index
        self.resize_shorter = self._make.resize_shorter
        # Shared memory: workers that live on between epochs must see the new epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Other crops and masks for the coming epoch; reaches persistent workers as well."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.sample(index, int(self._epoch))

    def sample(self, index: int, epoch: int) -> dict[str, torch.Tensor]:
        """The sample of row `index` in an epoch, whatever `set_epoch` said."""
        index = range(len(self))[index]
        return self._make(self.rows[index], np.random.default_rng([self.seed, epoch, index]), index)


class IterableInpaintingDataset(torch.utils.data.IterableDataset):
    """Samples from a stream; otherwise as `InpaintingDataset`, with the same arguments.

    A sample depends on (seed, epoch, id of the row); `index` is a hash of that id. In training the stream is shuffled
    within a buffer. Every process of a distributed run and every loader process reads its own share. The place in a
    shuffled stream cannot be resumed exactly.

    Args:
        dataset: A `datasets.IterableDataset`.
        shuffle_buffer: Rows among which training picks the next one at random; 0 keeps the order.
    """

    def __init__(
        self, dataset: Any, *, seed: int = 0, train: bool = True, shuffle_buffer: int = 256, **arguments: Any
    ):
        from datasets.distributed import split_dataset_by_node

        rows = undecoded(dataset)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rows = split_dataset_by_node(rows, torch.distributed.get_rank(), torch.distributed.get_world_size())
        self.rows = rows.shuffle(seed=seed, buffer_size=shuffle_buffer) if train and shuffle_buffer else rows
        self.seed = seed
        self._make = _SampleMaker(seed=seed, train=train, **arguments)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Another order, other crops and masks for the coming epoch; reaches persistent workers as well."""
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        epoch = int(self._epoch)
        self.rows.set_epoch(epoch)
        for row in self.rows:
            index = zlib.crc32(row["id"].encode())
            yield self._make(row, np.random.default_rng([self.seed, epoch, index]), index)


def class_textures(
    dataset: InpaintingDataset, classes: Sequence[int], side: int, share: float = 0.9, each: int = 48
) -> dict[int, torch.Tensor]:
    """Windows of training photos that show one class and little else, for losses that ask for a class's texture.

    Args:
        dataset: Photos of a fixed order, with labels.
        classes: Ids to look for.
        side: Of the windows, in pixels.
        share: Least share of a window that is of its class.
        each: Most windows of a class, one a photo; photos and windows are drawn from the data set's seed.

    Returns:
        Class id -> (N, 3, side, side) in [-1, 1], at the scale to which `dataset` brings its photos and in the light
        that they were taken in; a class of which there is no such window is left out.
    """
    found: dict[int, list[torch.Tensor]] = {index: [] for index in classes}
    rng = np.random.default_rng(dataset.seed)
    for row in rng.permutation(len(dataset)).tolist():
        wanted = [index for index in classes if len(found[index]) < each]
        if not wanted:
            break
        if dataset.rows[row].get("label") is None:
            continue
        image, label = (
            decode_image(dataset.rows[row]["image"]).convert("RGB"),
            decode_image(dataset.rows[row]["label"]),
        )
        size = scaled_size(image.size, dataset.resize_shorter)
        labels = torch.from_numpy(np.array(label.resize(size, Image.Resampling.NEAREST)))
        here = torch.stack([labels == index for index in wanted])[None].float()
        shares = torch.nn.functional.avg_pool2d(here, side, stride=8)[0]  # (classes, rows, columns) of windows
        pixels = torch.from_numpy(np.array(image.resize(size, Image.Resampling.LANCZOS))).permute(2, 0, 1)
        for index, of_class in zip(wanted, shares, strict=True):
            places = (of_class >= share).nonzero()
            if len(places):
                top, left = (8 * place for place in places[int(rng.integers(len(places)))].tolist())
                window = pixels[:, top : top + side, left : left + side]
                found[index].append(window.float() / 127.5 - 1)
    return {index: torch.stack(windows) for index, windows in found.items() if windows}


def class_counts(
    dataset: InpaintingDataset,
    at_most: int = 512,
    labeller: Callable[[torch.Tensor], torch.Tensor] | None = None,
    labeller_only: bool = False,
) -> torch.Tensor:
    """Labelled pixels of each class, int64 (num_labels,), counted over at most `at_most` evenly spaced rows.

    Args:
        dataset: Photos of a fixed order.
        at_most: Rows to look at.
        labeller: Photos (B, 3, H, W) in [-1, 1] -> class ids (B, H, W), for rows without labels: on their crops.
        labeller_only: Ask it for all rows and look at no stored label.

    Raises:
        ValueError: If none of them has labels.
    """
    counts = np.zeros(256, np.int64)
    for index in np.linspace(0, len(dataset) - 1, min(at_most, len(dataset))).round().astype(int).tolist():
        label = None if labeller_only else dataset.rows[index].get("label")
        if label is not None:
            counts += np.bincount(np.asarray(decode_image(label)).ravel(), minlength=256)
        elif labeller is not None:
            crop = labeller(dataset[index]["pixel_values"][None]).cpu().numpy().ravel()
            width, height = decode_image(dataset.rows[index]["image"]).size
            # As many pixels as a stored label of this photo would count.
            counts += np.bincount(crop, minlength=256) * (width * height) // crop.size
    counts[dataset.ignore_index] = 0
    counts = counts[: dataset.num_labels]
    if not counts.any():
        raise ValueError("These photos have no labels to balance: set class_balance to 0.")
    return torch.from_numpy(counts)


def undecoded(dataset: Any) -> Any:
    """The same rows with images as stored bytes, which we decode ourselves: at most once per sample."""
    import datasets

    if not isinstance(dataset, datasets.Dataset | datasets.IterableDataset) or dataset.features is None:
        return dataset
    for column, feature in dataset.features.items():
        if isinstance(feature, datasets.Image):
            dataset = dataset.cast_column(column, datasets.Image(decode=False))
    return dataset


def decode_image(value: Any) -> Image.Image:
    """An image as `datasets` stores it ({"bytes", "path"}), or one that is decoded already."""
    if isinstance(value, Image.Image):
        return value
    return Image.open(value["path"] if value["bytes"] is None else io.BytesIO(value["bytes"]))


def relight(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The photo as another hour and another camera would have it: random exposure, gamma, contrast and white balance.

    At strength 1 exposure reaches from a third of the light to a third more, gamma from 0.6 to 1.6; white balance
    moves each channel by some 3 %. Darkening is the wider side: street cameras meet shade and dusk.

    Args:
        pixels: uint8 (H, W, 3).
        rng: Source of the draw.
        strength: 0 changes nothing.
    """
    exposure = np.exp(strength * rng.uniform(np.log(0.35), np.log(1.3)))
    gamma = np.exp(strength * rng.uniform(np.log(0.6), np.log(1.6)))
    contrast = np.exp(strength * rng.uniform(-0.2, 0.2))
    balance = np.exp(strength * rng.normal(0, 0.03, 3))
    levels = np.linspace(0, 1, 256)[:, None] ** gamma * exposure * balance  # (256, 3): a table is all it takes
    levels = (levels - levels.mean()) * contrast + levels.mean()
    table = (levels.clip(0, 1) * 255).round().astype(np.uint8)
    return np.stack([table[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def recolor(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The photo as another town's paint and bricks would have it: random hue and saturation at the same luma, up to
    what 8 bits can hold.

    At strength 1 hues turn by up to 30 degrees and saturation reaches from a third to one and a half.

    Args:
        pixels: uint8 (H, W, 3).
        rng: Source of the draw.
        strength: 0 changes nothing.
    """
    angle = strength * rng.uniform(-np.pi / 6, np.pi / 6)
    saturation = np.exp(strength * rng.uniform(np.log(1 / 3), np.log(1.5)))
    turn = saturation * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    moved = np.eye(3)
    moved[1:, 1:] = turn  # of the two chroma axes
    matrix = np.linalg.inv(to_yiq) @ moved @ to_yiq
    return (pixels @ matrix.T.astype(np.float32)).round().clip(0, 255).astype(np.uint8)


def scaled_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """(width, height) after the shorter side became `shorter`, aspect kept, longer side rounded."""
    width, height = size
    if width <= height:
        return shorter, max(shorter, round(height * shorter / width))
    return max(shorter, round(width * shorter / height)), shorter


def collate(batch: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stacks samples into a batch: every tensor gains a first dimension."""
    return {name: torch.stack([sample[name] for sample in batch]) for name in batch[0]}
