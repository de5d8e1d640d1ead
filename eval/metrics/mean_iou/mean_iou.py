"""Mean intersection over union of a segmentation inside the hole (or over the whole photo).

Pixels are counted over the whole set before anything is divided: the mean of the photos' own IoU would let a class of
twenty pixels in one photo weigh as much as the road. Pixels whose true label is void count nowhere. The mean goes over
the classes that occur in the truth, so it goes over the same classes for every system; a pixel wrongly given to a
class that occurs nowhere (LabelMeFacade knows no poles) is missing from its true class and is punished there.
"""

import datasets
import evaluate
import numpy as np


def confusion_matrix(
    prediction: np.ndarray,
    reference: np.ndarray,
    num_labels: int,
    mask: np.ndarray | None = None,
    ignore_index: int = 255,
) -> np.ndarray:
    """Counts pixels: int64 (K, K + 1), row = true class, column = predicted class, last column = none of the K.

    Args:
        prediction: integers (H, W).
        reference: integers (H, W), 0 to K - 1, or `ignore_index` for void.
        num_labels: K.
        mask: bool (H, W), True = hole; without a mask the whole photo counts.
        ignore_index: Label of void pixels.

    Raises:
        ValueError: If sizes do not fit or the truth holds a label that is neither a class nor void.
    """
    if prediction.shape != reference.shape or (mask is not None and mask.shape != reference.shape):
        raise ValueError(f"Prediction {prediction.shape}, truth {reference.shape} and mask must have one size.")
    counted = reference != ignore_index
    if mask is not None:
        counted &= mask
    rows, columns = reference[counted].astype(np.int64), prediction[counted].astype(np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < num_labels:
        raise ValueError(f"The truth holds label {rows.max()}, expected 0 to {num_labels - 1} or void {ignore_index}.")
    columns = np.where((columns < 0) | (columns >= num_labels), num_labels, columns)
    counts = np.bincount(rows * (num_labels + 1) + columns, minlength=num_labels * (num_labels + 1))
    return counts.reshape(num_labels, num_labels + 1)


def class_iou(confusion: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 (K,), from the summed counts; NaN where a class is neither there nor predicted."""
    num_labels = confusion.shape[0]
    intersection = np.diagonal(confusion[:, :num_labels]).astype(np.float64)
    union = confusion.sum(axis=1) + confusion[:, :num_labels].sum(axis=0) - intersection
    return np.divide(intersection, union, out=np.full(num_labels, np.nan), where=union > 0)


def mean_iou(confusion: np.ndarray) -> float:
    """Mean IoU in [0, 1] of the summed counts of `confusion_matrix`; NaN if no labelled pixel was counted."""
    present = confusion.sum(axis=1) > 0
    return float(class_iou(confusion)[present].mean()) if present.any() else float("nan")


class MeanIoU(evaluate.Metric):
    """`compute(predictions=maps, references=maps, masks=None, num_labels=K)` -> `{"mean_iou": ...}` in [0, 1]."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: integer label maps (H, W); masks: bool (H, W), True = hole.",
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("int64")), "references": datasets.Value("int64")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, masks=None, num_labels=None, ignore_index=255):
        """Reduces each pair of maps to its pixel counts at once."""
        masks = [None] * len(predictions) if masks is None else masks
        counts = [
            confusion_matrix(prediction, reference, num_labels, mask, ignore_index).ravel()
            for prediction, reference, mask in zip(predictions, references, masks, strict=True)
        ]
        super().add_batch(predictions=counts, references=[num_labels] * len(counts))

    def compute(self, *, predictions=None, references=None, masks=None, num_labels=None, ignore_index=255):
        """Adds the maps, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(
                predictions=predictions,
                references=references,
                masks=masks,
                num_labels=num_labels,
                ignore_index=ignore_index,
            )
        return super().compute()

    def _compute(self, predictions, references):
        total = np.sum(predictions, axis=0).reshape(references[0], references[0] + 1)
        return {"mean_iou": mean_iou(total)}
