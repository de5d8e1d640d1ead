"""One row for each photo and system, kept in files so that a run that was stopped goes on where it was."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from eval.evaluation_set import EvaluationSet, Sample
from eval.files import slug
from eval.judges import Judges
from eval.metrics.l1.l1 import l1
from eval.metrics.mean_iou.mean_iou import confusion_matrix
from eval.metrics.psnr.psnr import psnr
from eval.metrics.seam_error.seam_error import seam_error
from eval.metrics.sharpness_ratio.sharpness_ratio import gradient_sum
from eval.metrics.ssim.ssim import ssim
from eval.processes import Processes
from eval.scores import CONFUSIONS, MEANS
from eval.systems import System, answer


ROWS_PER_FILE = 8  # how much work a kill can cost, and the share that a process takes at a time
SMALLEST_SHARE = 0.01  # of the labelled pixels that a class must have to count as part of a scene


def schema(judges: Judges) -> pa.Schema:
    """The columns of a row; empty where a system gives nothing or nothing looks."""
    numbers = [*MEANS, "hole_gradient", "true_hole_gradient", "photo_distance"]
    return pa.schema(
        [
            ("id", pa.string()),
            ("group", pa.string()),
            ("hole_pixels", pa.int64()),
            ("num_classes", pa.int64()),
            *((name, pa.float64()) for name in numbers),
            *((name, pa.list_(pa.int64())) for name in CONFUSIONS),
            *((f"features:{network.name}", pa.list_(pa.float64())) for network in judges.networks),
        ]
    )


def count_classes(labels: np.ndarray) -> int:
    """Classes of a scene: those with at least 1 % of the labelled pixels (the paper does not say what counts)."""
    named = labels[labels != 255]
    if not named.size:
        return 0
    return int((np.bincount(named) >= SMALLEST_SHARE * named.size).sum())


def score(
    system: System,
    sample: Sample,
    num_labels: int,
    judges: Judges,
    class_ids: np.ndarray | None = None,
    truth: dict | None = None,
) -> dict:
    """One row: everything that the tables need to know about one fill.

    Args:
        system: What fills.
        sample: Photo, labels and hole.
        num_labels: Classes that are counted.
        judges: What looks at the fill.
        class_ids: From `SegmenterJudge.class_ids`, for a segmenter.
        truth: The row of the true photo, for the distance of its features.

    Raises:
        ValueError: If the system changes known pixels.
    """
    filled = answer(system, sample)
    row = {"id": sample.id, "group": sample.group, "hole_pixels": int(sample.mask.sum())}
    row |= {"num_classes": count_classes(sample.labels)}
    if filled.image is not None:
        row |= score_image(filled.image, sample, judges, truth)
        if judges.segmenter is not None:
            row |= count_pixels("segmenter_", judges.segmenter(filled.image, class_ids), sample, num_labels)
    if filled.labels is not None:
        row |= count_pixels("", filled.labels, sample, num_labels)
    return row


def score_image(image: np.ndarray, sample: Sample, judges: Judges, truth: dict | None) -> dict:
    """The part of a row that looks at pixels."""
    row: dict = {}
    for metric in (psnr, ssim, l1):
        row[f"hole_{metric.__name__}"] = metric(image, sample.photo, sample.mask)
        row[metric.__name__] = metric(image, sample.photo)
    row["hole_gradient"] = gradient_sum(image, sample.mask)
    row["true_hole_gradient"] = gradient_sum(sample.photo, sample.mask)
    row["seam_error"] = seam_error(image, sample.photo, sample.mask)
    for network in judges.networks:
        row[f"features:{network.name}"] = network([image])[0]
    if judges.lpips is not None:
        row["lpips"], row["hole_lpips"] = judges.lpips(image, sample.photo, sample.mask)
        row["photo_distance"] = row["lpips"]
    elif judges.networks and truth is not None:
        column = f"features:{judges.networks[0].name}"
        row["photo_distance"] = cosine_distance(row[column], np.array(truth[column]))
    return row


def cosine_distance(first: np.ndarray, second: np.ndarray) -> float:
    """1 less the cosine of the angle between two vectors, in [0, 2]."""
    lengths = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float(1 - (first * second).sum() / lengths) if lengths else 0.0


def count_pixels(prefix: str, labels: np.ndarray, sample: Sample, num_labels: int) -> dict:
    """Counts of (true, predicted) class in the hole and in the whole photo."""
    return {
        f"{prefix}hole_confusion": confusion_matrix(labels, sample.labels, num_labels, sample.mask).ravel(),
        f"{prefix}confusion": confusion_matrix(labels, sample.labels, num_labels).ravel(),
    }


def truth_row(judges: Judges, sample: Sample) -> dict:
    """The true photo's features, the other side of the distances."""
    row = {"id": sample.id, "group": sample.group}
    return row | {f"features:{network.name}": network([sample.photo])[0] for network in judges.networks}


def rows_of_unit(
    folder: Path,
    unit: str,
    identity: dict,
    samples: EvaluationSet,
    judges: Judges,
    make_row: Callable[[Sample], dict],
    processes: Processes,
) -> list[dict]:
    """Rows of one system on one set, in the order of the ids, in every process.

    Finished files are used where their identity is the same; the others are computed, each by one process, and kept.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    columns = schema(judges).with_metadata({"sgenet_eval": key})
    starts = range(0, len(samples), ROWS_PER_FILE)
    paths = [folder / f"{slug(unit)}-{start:06d}.parquet" for start in starts]
    with tqdm(total=len(samples), desc=unit, unit="photo", disable=not processes.is_first) as progress:
        for number, (start, path) in enumerate(zip(starts, paths, strict=True)):
            count = min(ROWS_PER_FILE, len(samples) - start)
            # By number, not by what is missing: another process may have just written its part.
            if number % processes.count == processes.index and not is_finished(path, key):
                rows = []
                for position in range(start, start + count):
                    rows.append(make_row(samples[position]))
                    progress.update()
                unfinished = path.with_suffix(".partial")
                pq.write_table(pa.Table.from_pylist(rows, schema=columns), unfinished)
                os.replace(unfinished, path)
            else:
                progress.update(count)
    processes.wait()
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def is_finished(path: Path, key: str) -> bool:
    """Whether the file is there and its rows are of the same code, weights, photos and masks."""
    return path.exists() and (pq.read_schema(path).metadata or {}).get(b"sgenet_eval") == key.encode()
