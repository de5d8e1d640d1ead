"""Share of pixels with the right class, inside the hole or over the whole photo.

Pixels are counted over the whole set before anything is divided. Pixels whose true label is void count nowhere; a
pixel without an answer is wrong. Loading it through `evaluate` needs the project's folder on Python's path: the pixels
are counted by the function that mean IoU uses.
"""

import datasets
import evaluate
import numpy as np

from eval.metrics.mean_iou.mean_iou import confusion_matrix


def pixel_accuracy(confusion: np.ndarray) -> float:
    """Accuracy in [0, 1]; NaN if no labelled pixel was counted.

    Args:
        confusion: Counts (K, K + 1) as `confusion_matrix` makes them, summed over the set.
    """
    counted = int(confusion.sum())
    return float(np.trace(confusion) / counted) if counted else float("nan")


class PixelAccuracy(evaluate.Metric):
    """`compute(predictions=maps, references=maps, masks=None, num_labels=K)` -> `{"pixel_accuracy": ...}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: integer label maps (H, W); masks: bool (H, W), True = hole.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, masks=None, num_labels=None, ignore_index=255):
        """Reduces each pair of maps to right and counted pixels at once."""
        masks = [None] * len(predictions) if masks is None else masks
        counts = [
            confusion_matrix(prediction, reference, num_labels, mask, ignore_index)
            for prediction, reference, mask in zip(predictions, references, masks, strict=True)
        ]
        super().add_batch(
            predictions=[int(np.trace(count)) for count in counts], references=[int(count.sum()) for count in counts]
        )

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
        counted = int(np.sum(references))
        return {"pixel_accuracy": int(np.sum(predictions)) / counted if counted else float("nan")}
