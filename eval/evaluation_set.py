"""The photos, labels and holes that every system is measured on, pinned by hashes.

Protocol: shorter side 256, centre crop 256 (or another `size`, for both), rows in the order of their ids, mask number
i of the named mask set for row i. Two people who see the same hashes had the same crops and the same holes.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sgenet_hf.catalog import IGNORE_INDEX, DatasetSpec
from sgenet_hf.data import InpaintingDataset, dataset_spec, load_inpainting_dataset
from sgenet_hf.masks import IrregularMaskFiles, mask_set_sha256


@dataclass(frozen=True)
class Sample:
    """One photo with a hole.

    Attributes:
        id: Name of the photo in its data set.
        group: Photos that are not independent of each other: `domain/drive or run of shots`.
        photo: uint8 (H, W, 3), the truth.
        labels: int64 (H, W), 255 = void, everywhere for unlabelled photos.
        mask: bool (H, W), True = hole.
    """

    id: str
    group: str
    photo: np.ndarray
    labels: np.ndarray
    mask: np.ndarray

    @property
    def domain(self) -> str:
        """What the tables keep apart."""
        return self.group.split("/")[0]

    def emptied(self, value: int) -> np.ndarray:
        """uint8 (H, W, 3): the photo with `value` in the hole."""
        return np.where(self.mask[..., None], np.uint8(value), self.photo)


def spread(length: int, count: int) -> list[int]:
    """`count` of the places 0 to `length - 1`, evenly spread with both ends; all of them if there are no more."""
    return [int(place) for place in np.linspace(0, length - 1, min(count, length)).round()]


def class_names_of_data(data: str) -> list[str] | None:
    """The classes of a data set by id, None if it does not name them: it can be scored all the same."""
    spec = spec_of(data)
    return None if spec is None else list(spec.classes)


def name_of_data(data: str) -> str:
    """A folder goes by its name: where it lies on this machine is nobody's business."""
    return Path(data).resolve().name if Path(data).is_dir() else data


def spec_of(data: str) -> DatasetSpec | None:
    """What a data set says of itself, None if it says nothing."""
    try:
        return dataset_spec(data)
    except (OSError, ValueError):
        return None


class EvaluationSet(Sequence[Sample]):
    """A split under a mask set.

    Args:
        data: Prepared folder, Hub id, `toy:COUNT`, ...: whatever `load_inpainting_dataset` takes.
        split: Its split.
        masks: Name of a mask set, e.g. `centre-96` or `irregular-20-30`.
        size: Side of the crop in pixels, also the shorter side before cropping.
        seed: Seed of random mask sets.
        limit: Take this many photos, evenly spread over the split, with the masks that they have in the full set.
        mask_files: Folder of irregular mask files; without it those sets are generated.
    """

    def __init__(
        self,
        data: str,
        split: str,
        masks: str,
        *,
        size: int = 256,
        seed: int = 0,
        limit: int | None = None,
        mask_files: str | None = None,
    ):
        rows = load_inpainting_dataset(data, split)
        names = rows.select_columns(["id", "group"]).with_format(None)
        order = sorted(range(len(rows)), key=lambda index: names[index]["id"])
        self.names = [names[index] for index in order]
        self.data = name_of_data(data)
        self.split, self.masks, self.size, self.seed = split, masks, size, seed
        spec = spec_of(data)
        self.class_names = None if spec is None else list(spec.classes)
        self.ignore_index = IGNORE_INDEX if spec is None else spec.ignore_index
        self._samples = InpaintingDataset(
            rows.select(order),
            size=size,
            resize_shorter=size,
            seed=seed,
            irregular_files=IrregularMaskFiles(mask_files) if mask_files else None,
            num_labels=256,  # only prompts would need the number, and there are none here
            ignore_index=self.ignore_index,
            train=False,
            evaluation_mask=masks,
        )
        self.indices = spread(len(order), len(order) if limit is None else limit)
        for index in self.indices[:1]:
            self._samples[index]  # what cannot be read, or a hole that does not fit, is said before the work begins

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position):
        index = self.indices[position]
        sample = self._samples[index]
        photo = sample["pixel_values"].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        return Sample(
            id=self.names[index]["id"],
            group=self.names[index]["group"],
            photo=np.ascontiguousarray(photo),
            labels=sample["labels"].numpy(),
            mask=sample["mask"][0].numpy() > 0.5,
        )

    def fingerprint(self) -> dict:
        """Reads everything once: N, hashes of crops with labels and of masks, number of classes, domains."""
        digest = hashlib.sha256()
        masks, num_labels, domains = [], 0, set()
        for sample in self:
            digest.update(sample.id.encode() + b"\0" + sample.photo.tobytes() + sample.labels.astype("u1").tobytes())
            masks.append(sample.mask)
            named = sample.labels[sample.labels != 255]
            num_labels = max(num_labels, int(named.max()) + 1 if named.size else 0)
            domains.add(sample.domain)
        return {
            "data": self.data,
            "split": self.split,
            "masks": self.masks,
            "size": self.size,
            "seed": self.seed,
            "n": len(self),
            "crops_sha256": digest.hexdigest(),
            "mask_set_sha256": mask_set_sha256(masks),
            "num_labels": num_labels,
            "class_names": self.class_names,
            "domains": sorted(domains),
        }


def add_set_options(parser: argparse.ArgumentParser, split: str = "report") -> None:
    """Adds the options that say which photos and holes; see `samples_of`."""
    parser.add_argument("--data", required=True, help="prepared folder, Hub id or toy:COUNT")
    parser.add_argument("--split", default=split)
    parser.add_argument("--masks", default="centre-96", help="mask set")
    parser.add_argument("--mask-files", help="folder of irregular mask files; generated without it")
    parser.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of whatever is drawn at random")
    parser.add_argument("--limit", type=int, help="photos, evenly spread over the split (default: all)")


def samples_of(arguments: argparse.Namespace) -> EvaluationSet:
    """The photos and holes that the options of `add_set_options` name."""
    return EvaluationSet(
        arguments.data,
        arguments.split,
        arguments.masks,
        size=arguments.size,
        seed=arguments.seed,
        limit=arguments.limit,
        mask_files=arguments.mask_files,
    )
