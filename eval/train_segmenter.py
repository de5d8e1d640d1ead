r"""Trains the segmenter that judges fills in the paper's Tables 4 and 5, in the place of DPN and DeepLab v3+.

    python -m eval.train_segmenter --backbone google/mobilenet_v2_1.0_224 --data data/street --train-split train \
        --validation-split dev --out runs/segmenter
    torchrun --standalone --nproc_per_node 2 -m eval.train_segmenter ... --cpu      # two CPU processes

`MobileNetV2ForSemanticSegmentation` (a pooled and a 1x1 branch behind a dilated backbone) learns from photos alone, no
holes: random scales, crops, mirrors and light, by `sgenet_hf.data`. `--out` becomes a folder for
`AutoModelForSemanticSegmentation` and `AutoImageProcessor`, so that `eval.run --segmenter`, `train_accelerate.py
--label_model` and `sgenet inpaint --segmenter` take it, with `training.json`: arguments, loss, hashes of the crops,
provenance, and the mean IoU on the validation split, measured on the written folder by the judge of `eval.run`.

`ACCELERATE_MIXED_PRECISION=bf16` trains in bfloat16. The same seed gives the same weights on the same machine, with
the same number of processes and threads.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import BaseImageProcessor, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor
from transformers.utils import logging as transformers_logging

from eval.commands import said_in_a_sentence
from eval.evaluation_set import EvaluationSet
from eval.files import write_whole
from eval.metrics.mean_iou.mean_iou import class_iou, confusion_matrix, mean_iou
from eval.provenance import now, provenance, weights_sha256
from eval.segmenter import SegmenterJudge
from sgenet_hf.catalog import DatasetSpec
from sgenet_hf.data import (
    InpaintingDataset,
    class_counts,
    collate,
    dataset_spec,
    load_inpainting_dataset,
    undecoded,
)
from sgenet_hf.losses import balanced_class_weights, cross_entropy_loss
from sgenet_hf.segmenters import enlarged_logits


# The head starts from nothing, the backbone from ImageNet.
HEAD_RATE = 4.0

# The published 0.997 is TensorFlow's momentum; PyTorch reads it as "forget all but the last batch".
NORM_MOMENTUM = 0.05

# The published 0.8 belongs to the classifier of 1000 classes with its long schedule; DeepLab v3+ drops a tenth.
DROPOUT = 0.1

# No photo has a hole here, but samples come with a mask: the cheapest one.
NO_MASK = "centre-1"


def load_backbone(
    name_or_path: str, spec: DatasetSpec, output_stride: int
) -> tuple[MobileNetV2ForSemanticSegmentation, torch.Tensor, torch.Tensor]:
    """The network with a fresh head for the classes of `spec`, and the mean and deviation (3, 1, 1) of its photos.

    Raises:
        ValueError: If there is no MobileNetV2 with its image processor.
    """
    try:
        model, loading = MobileNetV2ForSemanticSegmentation.from_pretrained(
            name_or_path,
            dtype=torch.float32,
            id2label=spec.id2label,
            label2id={name: index for index, name in spec.id2label.items()},
            output_stride=output_stride,
            classifier_dropout_prob=DROPOUT,
            ignore_mismatched_sizes=True,  # the classifier of a segmenter with other classes
            output_loading_info=True,
        )
        # The settings alone, as `Segmenter` reads them: the processor itself may want torchvision.
        settings, _ = BaseImageProcessor.get_image_processor_dict(name_or_path)
        statistics = settings["image_mean"], settings["image_std"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name_or_path} is no MobileNetV2 with its image processor: {error}") from error
    if missing := sorted(name for name in loading["missing_keys"] if not name.startswith("segmentation_head.")):
        raise ValueError(f"{name_or_path} is no MobileNetV2: it lacks {', '.join(missing[:3])} ...")
    mean, std = (torch.tensor(values)[:, None, None] for values in statistics)
    return model, mean, std


def prepare_for_training(model: MobileNetV2ForSemanticSegmentation, freeze_norm: bool) -> None:
    """Training mode; with `freeze_norm` the backbone keeps the means and deviations that it came with."""
    model.train()
    # The head reads the layer before this one: no gradient ever comes here, for which several processes would wait.
    model.mobilenet_v2.conv_1x1.requires_grad_(False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = NORM_MOMENTUM
    if freeze_norm:
        for module in model.mobilenet_v2.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


def make_optimizer(
    model: MobileNetV2ForSemanticSegmentation, kind: str, rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """`adamw` or `sgd`; the head learns `HEAD_RATE` times as fast as the backbone."""
    backbone = [parameter for parameter in model.mobilenet_v2.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": backbone, "lr": rate},
        {"params": list(model.segmentation_head.parameters()), "lr": rate * HEAD_RATE},
    ]
    if kind == "adamw":
        return torch.optim.AdamW(groups, weight_decay=weight_decay)
    return torch.optim.SGD(groups, momentum=0.9, weight_decay=weight_decay)


def rate_factor(step: int, steps: int, warmup: int, power: float) -> float:
    """Linear rise over `warmup` steps, then (1 - progress)^power: 1 falls in a line, 0.9 is DeepLab's poly."""
    return min(1.0, (step + 1) / max(1, warmup)) * (1 - min(step, steps) / steps) ** power


def endless(loader: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of epoch after epoch, each with its own order and crops."""
    epoch = 0
    while True:
        loader.set_epoch(epoch)  # the data set's, too
        yield from loader
        epoch += 1


def train(
    arguments: argparse.Namespace,
    accelerator: Accelerator,
    model: MobileNetV2ForSemanticSegmentation,
    mean: torch.Tensor,
    std: torch.Tensor,
    samples: InpaintingDataset,
) -> list[list[float]]:
    """Trains in place.

    Returns:
        About a hundred pairs (images seen, mean loss of the main process since the pair before).
    """
    update = arguments.batch_size * accelerator.num_processes
    weights = None
    if arguments.class_balance:
        weights = balanced_class_weights(class_counts(samples), arguments.class_balance).to(accelerator.device)
    steps = math.ceil(arguments.samples / update)
    prepare_for_training(model, not arguments.train_norm)
    optimizer = make_optimizer(model, arguments.optimizer, arguments.learning_rate, arguments.weight_decay)
    power = 1.0 if arguments.decay == "linear" else 0.9
    # Not prepared by Accelerate, which would step it once for each process.
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate_factor(step, steps, min(50, steps // 10), power)
    )
    loader = DataLoader(
        samples,
        batch_size=arguments.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        num_workers=arguments.num_workers,
        persistent_workers=arguments.num_workers > 0,
        generator=torch.Generator().manual_seed(arguments.seed),
    )
    network, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    mean, std = mean.to(accelerator.device), std.to(accelerator.device)

    curve, recent, every = [], [], max(1, steps // 100)
    bar = tqdm(total=steps * update, unit="photo", disable=None if accelerator.is_main_process else True)
    for step, batch in zip(range(steps), endless(loader), strict=False):
        logits = enlarged_logits(network, batch["pixel_values"], mean, std)
        loss = cross_entropy_loss(logits, batch["labels"], scale=0, class_weights=weights).mean()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        recent.append(loss.detach())
        if (step + 1) % every == 0 or step + 1 == steps:
            curve.append([(step + 1) * update, torch.stack(recent).mean().item()])
            recent.clear()
            bar.set_postfix(loss=f"{curve[-1][1]:.3f}")
        bar.update(update)
    bar.close()
    return curve


def validate(folder: Path, samples: EvaluationSet, spec: DatasetSpec, device: str) -> dict:
    """Mean IoU of the written folder, and IoU of each class (None where it is neither there nor predicted)."""
    judge = SegmenterJudge(str(folder), device)
    class_ids = judge.class_ids(spec.classes)
    confusion = np.zeros((spec.num_labels, spec.num_labels + 1), np.int64)
    for sample in tqdm(samples, desc="validation", unit="photo", disable=None):
        confusion += confusion_matrix(judge(sample.photo, class_ids), sample.labels, spec.num_labels)
    ious = [None if math.isnan(value) else float(value) for value in class_iou(confusion)]
    correct = np.diagonal(confusion).sum() / max(1, confusion.sum())
    return {
        "n": len(samples),
        "mean_iou": mean_iou(confusion),
        "pixel_accuracy": float(correct),
        "class_iou": dict(zip(spec.classes, ious, strict=True)),
        "weights_sha256": weights_sha256(judge.model),
    }


def fingerprint(samples: EvaluationSet) -> dict:
    """What the photos are: hashes of all centre crops with their labels, without the masks that nobody used."""
    facts = samples.fingerprint()
    return {name: facts[name] for name in ("data", "split", "size", "n", "crops_sha256", "domains")}


def labelled_rows(data: str, split: str) -> Any:
    """The rows of a split.

    Raises:
        ValueError: If there is no such split, or none of its photos has a label.
    """
    rows = load_inpainting_dataset(data, split)
    if "label" not in rows.column_names or all(label is None for label in undecoded(rows)["label"]):
        raise ValueError(f"{data} has no labels in {split!r}: a segmenter needs photos that somebody labelled.")
    return rows


def check_out_folder(folder: Path) -> None:
    """Raises FileExistsError unless `folder` is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name a new folder for --out.")


def save(
    folder: Path, model: MobileNetV2ForSemanticSegmentation, mean: torch.Tensor, std: torch.Tensor, spec: DatasetSpec
) -> None:
    """Network, classes and processor; photos keep their shape, only their shorter side follows the training data."""
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(
        image_mean=mean.flatten().tolist(),
        image_std=std.flatten().tolist(),
        size={"shortest_edge": spec.resize_shorter},
        do_center_crop=False,
    ).save_pretrained(folder)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.train_segmenter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--backbone", required=True, help="folder or Hub id of a MobileNetV2")
    parser.add_argument("--data", required=True, help="prepared folder, Hub id, toy:COUNT")
    parser.add_argument("--train-split", default="train", help="what it learns from")
    parser.add_argument("--validation-split", default="dev", help="what it is scored on, once, at the end")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the segmenter")
    parser.add_argument("--samples", type=positive(int), default=20_000, help="images seen, by all processes together")
    parser.add_argument("--batch-size", type=positive(int), default=8, help="of each process, 2 or more")
    parser.add_argument("--crop-size", type=positive(int), default=224, help="side of the training crops, in pixels")
    parser.add_argument(
        "--scales", nargs=2, type=positive(float), default=[0.875, 1.5], help="random factors of the photos' size"
    )
    parser.add_argument("--photometric", type=float, default=0.5, help="strength of random light, 0 to 1")
    parser.add_argument("--output-stride", type=int, choices=[8, 16, 32], default=16, help="photo pixels per logit")
    parser.add_argument(
        "--train-norm", action="store_true", help="let the backbone's batch statistics follow the data"
    )
    parser.add_argument("--class-balance", type=float, default=0.0, help="0 weighs all pixels alike, 1 all classes")
    parser.add_argument("--optimizer", choices=["adamw", "sgd"], default="adamw")
    parser.add_argument(
        "--learning-rate", type=positive(float), default=5e-4, help="of the backbone; the head's is 4x"
    )
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--decay", choices=["poly", "linear"], default="poly", help="how the learning rate falls")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-workers", type=int, default=0, help="processes that load photos; 0 loads in this one")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    arguments = parser.parse_args(argv)
    if arguments.batch_size < 2:
        parser.error("--batch-size 1 has no batch statistics: the pooled branch needs 2 photos or more.")
    return arguments


def positive(kind: type) -> Any:
    """A reader of numbers above 0 for `argparse`."""

    def read(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return read


def main(argv: list[str] | None = None) -> int:
    """Trains, writes the folder, scores it and prints the scores."""
    arguments = parse_arguments(argv)
    with said_in_a_sentence("eval.train_segmenter"):
        check_out_folder(arguments.out)
    accelerator = Accelerator(cpu=arguments.cpu)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    # Dropout differs by process; the head does not: the first process hands its own around.
    set_seed(arguments.seed, device_specific=True)
    with said_in_a_sentence("eval.train_segmenter"):
        spec = dataset_spec(arguments.data)
        rows = labelled_rows(arguments.data, arguments.train_split)
        labelled_rows(arguments.data, arguments.validation_split)
        update = arguments.batch_size * accelerator.num_processes
        if len(rows) < update:
            raise ValueError(f"{len(rows)} photos do not fill one batch of {update}: lower --batch-size.")
        model, mean, std = load_backbone(arguments.backbone, spec, arguments.output_stride)
    samples = InpaintingDataset(
        rows,
        seed=arguments.seed,
        size=arguments.crop_size,
        resize_shorter=spec.resize_shorter,
        scale_range=tuple(arguments.scales),
        num_labels=spec.num_labels,
        ignore_index=spec.ignore_index,
        photometric=arguments.photometric,
        evaluation_mask=NO_MASK,
    )
    # Before training: while it lasts, somebody may edit the code on disk.
    command = ["python", "-m", "eval.train_segmenter", *(sys.argv[1:] if argv is None else argv)]
    origin = provenance(command, accelerator.num_processes)
    started = time.monotonic()
    curve = train(arguments, accelerator, model, mean, std, samples)
    minutes = (time.monotonic() - started) / 60

    if accelerator.is_main_process:
        partial = arguments.out.with_name(f"{arguments.out.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        save(partial, model, mean, std, spec)
        sets = {
            kind: EvaluationSet(arguments.data, split, NO_MASK, size=spec.resize_shorter)
            for kind, split in (("train", arguments.train_split), ("validation", arguments.validation_split))
        }
        scores = validate(partial, sets["validation"], spec, str(accelerator.device))
        record = {
            "provenance": origin,
            "mixed_precision": accelerator.mixed_precision,
            "arguments": {name: str(value) if name == "out" else value for name, value in vars(arguments).items()},
            "data": {kind: fingerprint(evaluated) for kind, evaluated in sets.items()},
            "license_note": spec.license_note,
            "loss": curve,
            "minutes": round(minutes, 2),
            "validation": scores,
            "finished": now(),
        }
        write_whole(partial / "training.json", json.dumps(record, indent=2) + "\n")
        os.replace(partial, arguments.out)
        print(json.dumps(scores, indent=2))
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    sys.exit(main())
