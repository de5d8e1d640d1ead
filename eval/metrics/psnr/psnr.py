"""Peak signal-to-noise ratio of a filled photo, over the whole photo or over the hole only.

RGB, uint8, peak 255, one mean squared error over all pixels and channels of a photo; a set's value is the mean of its
photos' decibels. Two equal photos would give infinity and spoil that mean: the mean squared error is therefore never
taken below 6.5e-8, which caps the value at 120 dB: what one grey step in one pixel of a 5-megapixel photo gives.
"""

import datasets
import evaluate
import numpy as np


PEAK = 255.0
MAX_DECIBEL = 120.0


def psnr(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """PSNR in decibel.

    Args:
        prediction: uint8 (H, W, 3), the composite.
        reference: uint8 (H, W, 3), the photo without a hole.
        mask: bool (H, W), True = hole. The value is taken over the hole; without a mask over the whole photo.

    Raises:
        ValueError: If types or sizes do not fit, or if the mask is empty.
    """
    for image in (prediction, reference):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape != reference.shape:
            raise ValueError(f"PSNR needs two uint8 images (H, W, 3) of one size, got {image.dtype} {image.shape}.")
    squared_error = np.square(prediction.astype(np.float64) - reference)
    if mask is not None:
        if mask.dtype != np.bool_ or mask.shape != reference.shape[:2] or not mask.any():
            raise ValueError(f"The mask must be bool {reference.shape[:2]} with a hole: {mask.dtype} {mask.shape}.")
        squared_error = squared_error[mask]
    floor = PEAK**2 * 10 ** (-MAX_DECIBEL / 10)
    return float(10 * np.log10(PEAK**2 / max(squared_error.mean(), floor)))


class Psnr(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=None)` -> `{"psnr": mean of the photos' decibels}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: uint8 (H, W, 3) images; masks: bool (H, W), True = hole.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def add_batch(self, *, predictions=None, references=None, masks=None):
        """Reduces the images to one number each at once: storing them would cost seconds for every hundred."""
        masks = [None] * len(predictions) if masks is None else masks
        values = [psnr(*triple) for triple in zip(predictions, references, masks, strict=True)]
        super().add_batch(predictions=values, references=[1] * len(values))

    def compute(self, *, predictions=None, references=None, masks=None):
        """Adds the images, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references, masks=masks)
        return super().compute()

    def _compute(self, predictions, references):
        return {"psnr": float(np.mean(predictions))}
