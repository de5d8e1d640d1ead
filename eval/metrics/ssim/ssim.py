"""Structural similarity of a filled photo, over the whole photo or over the hole only.

Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: Gaussian window 11x11
with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances, uint8 range 255. One map for each RGB channel, averaged
over the channels; only windows that lie wholly inside the photo count (valid crop: a border of 5 pixels is left out).
Over the hole: windows centred on hole pixels. A set's value is the mean of its photos' values. The same as
scikit-image's `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2)`.
"""

import datasets
import evaluate
import numpy as np


WINDOW = 11
SIGMA = 1.5


def _blur(planes: np.ndarray) -> np.ndarray:
    """Gaussian mean over every window that lies inside: (C, H, W) -> (C, H - 10, W - 10)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    height, width = planes.shape[1] - WINDOW + 1, planes.shape[2] - WINDOW + 1
    rows = sum(weight * planes[:, start : start + height] for start, weight in enumerate(weights))
    return sum(weight * rows[:, :, start : start + width] for start, weight in enumerate(weights))


def ssim(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """SSIM, at most 1.

    Args:
        prediction: uint8 (H, W, 3), the composite, at least 11 pixels a side.
        reference: uint8 (H, W, 3), the photo without a hole.
        mask: bool (H, W), True = hole. The value is taken over the hole; without a mask over the whole photo.

    Raises:
        ValueError: If types or sizes do not fit, or if no window is centred on the hole.
    """
    for image in (prediction, reference):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape != reference.shape:
            raise ValueError(f"SSIM needs two uint8 images (H, W, 3) of one size, got {image.dtype} {image.shape}.")
    if min(reference.shape[:2]) < WINDOW:
        raise ValueError(f"SSIM needs at least {WINDOW} pixels a side, got {reference.shape[:2]}.")
    x = prediction.astype(np.float64).transpose(2, 0, 1)
    y = reference.astype(np.float64).transpose(2, 0, 1)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    similarity = similarity.mean(axis=0)
    if mask is not None:
        if mask.dtype != np.bool_ or mask.shape != reference.shape[:2]:
            raise ValueError(f"The mask must be bool {reference.shape[:2]}, got {mask.dtype} {mask.shape}.")
        border = WINDOW // 2
        centres = mask[border:-border, border:-border]
        if not centres.any():
            raise ValueError("The hole lies wholly in the border of 5 pixels that SSIM leaves out.")
        similarity = similarity[centres]
    return float(similarity.mean())


class Ssim(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=None)` -> `{"ssim": mean of the photos' values}`."""

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
        values = [ssim(*triple) for triple in zip(predictions, references, masks, strict=True)]
        super().add_batch(predictions=values, references=[1] * len(values))

    def compute(self, *, predictions=None, references=None, masks=None):
        """Adds the images, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references, masks=masks)
        return super().compute()

    def _compute(self, predictions, references):
        return {"ssim": float(np.mean(predictions))}
