"""How visible the hole's edge is: the mean jump across it in the fill, less the mean jump that the photo has there.

Pairs: every hole pixel with each of its four neighbours that is known. Jump: absolute difference of the two, RGB,
uint8 brought to [0, 1], mean over pairs and channels. 0 = the edge is as rough as in the photo; above 0 = a seam can
be seen; below 0 = the fill smears the rim inwards, as diffusion does. A set's value is the mean of its photos' values.
"""

import datasets
import evaluate
import numpy as np


def _mean_jump(image: np.ndarray, mask: np.ndarray) -> float:
    values = image.astype(np.float64)
    jumps = []
    for axis in (0, 1):
        across_edge = np.diff(mask, axis=axis)  # of bools: where the two differ
        jumps.append(np.abs(np.diff(values, axis=axis))[across_edge])
    return float(np.concatenate(jumps).mean() / 255)


def seam_error(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """Mean jump of the fill less that of the truth, in [-1, 1].

    Args:
        prediction: uint8 (H, W, 3), the composite.
        reference: uint8 (H, W, 3), the photo without a hole.
        mask: bool (H, W), True = hole.

    Raises:
        ValueError: If types or sizes do not fit, or if no hole pixel has a known neighbour.
    """
    for image in (prediction, reference):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape != reference.shape:
            raise ValueError(f"Seams need two uint8 images (H, W, 3) of one size, got {image.dtype} {image.shape}.")
    if mask.dtype != np.bool_ or mask.shape != reference.shape[:2] or not mask.any() or mask.all():
        raise ValueError(f"The mask must be bool {reference.shape[:2]} with hole and known pixels: {mask.shape}.")
    return _mean_jump(prediction, mask) - _mean_jump(reference, mask)


class SeamError(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=masks)` -> `{"seam_error": mean over photos}`."""

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
        values = [seam_error(*triple) for triple in zip(predictions, references, masks, strict=True)]
        super().add_batch(predictions=values, references=[1] * len(values))

    def compute(self, *, predictions=None, references=None, masks=None):
        """Adds the images, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references, masks=masks)
        return super().compute()

    def _compute(self, predictions, references):
        return {"seam_error": float(np.mean(predictions))}
