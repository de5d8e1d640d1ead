"""How sharp a fill is: mean gradient magnitude inside the hole, the fill's over the truth's.

Fog wins PSNR; this number sees it. 1 = as much detail as the photo had there, below 0.5 = fog, well above 1 = noise.
Gradient: forward differences of the luma (0.299 R + 0.587 G + 0.114 B), magnitude of both, only where the pixel and
its right and lower neighbour are all in the hole, so that the seam is not counted as detail. A set's value is the sum
over all its holes divided by the truth's sum: the mean of the photos' ratios would be ruled by empty skies.
"""

import datasets
import evaluate
import numpy as np


def gradient_sum(image: np.ndarray, mask: np.ndarray) -> float:
    """Sum of the gradient magnitude over the inside of the hole.

    Args:
        image: uint8 (H, W, 3).
        mask: bool (H, W), True = hole.

    Raises:
        ValueError: If types or sizes do not fit, or if no pixel of the hole has both neighbours in it.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or mask.dtype != np.bool_ or mask.shape != image.shape[:2]:
        raise ValueError(f"Need a uint8 image (H, W, 3) and its bool mask (H, W), got {image.shape}, {mask.shape}.")
    inside = mask[:-1, :-1] & mask[:-1, 1:] & mask[1:, :-1]
    if not inside.any():
        raise ValueError("The hole is too thin for a gradient: no pixel has its right and lower neighbour in it.")
    luma = image @ np.array([0.299, 0.587, 0.114])
    across, down = np.diff(luma, axis=1)[:-1], np.diff(luma, axis=0)[:, :-1]
    return float(np.hypot(across, down)[inside].sum())


def sharpness_ratio(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """Gradient in the hole, the fill's over the truth's, of one photo; NaN where the truth is perfectly flat.

    Args:
        prediction: uint8 (H, W, 3), the composite.
        reference: uint8 (H, W, 3), the photo without a hole.
        mask: bool (H, W), True = hole.
    """
    truth = gradient_sum(reference, mask)
    return gradient_sum(prediction, mask) / truth if truth else float("nan")


class SharpnessRatio(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=masks)` -> `{"sharpness_ratio": ratio of the sums}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: uint8 (H, W, 3) images; masks: bool (H, W), True = hole.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, masks=None):
        """Reduces the images to one number each at once: storing them would cost seconds for every hundred."""
        super().add_batch(
            predictions=[gradient_sum(*pair) for pair in zip(predictions, masks, strict=True)],
            references=[gradient_sum(*pair) for pair in zip(references, masks, strict=True)],
        )

    def compute(self, *, predictions=None, references=None, masks=None):
        """Adds the images, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references, masks=masks)
        return super().compute()

    def _compute(self, predictions, references):
        truth = float(np.sum(references))
        return {"sharpness_ratio": float(np.sum(predictions)) / truth if truth else float("nan")}
