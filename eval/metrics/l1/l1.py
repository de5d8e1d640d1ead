"""Mean absolute difference of a filled photo from the truth, over the whole photo or over the hole only.

RGB, uint8 brought to [0, 1]: 0.05 means that a channel is wrong by 5 % of its range on average. (Papers that print
"L1 in %" mean a hundred times this; EdgeConnect's relative error, which divides by the sum of both, is another thing.)
A set's value is the mean of its photos' values.
"""

import datasets
import evaluate
import numpy as np


def l1(prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute difference in [0, 1].

    Args:
        prediction: uint8 (H, W, 3), the composite.
        reference: uint8 (H, W, 3), the photo without a hole.
        mask: bool (H, W), True = hole. The value is taken over the hole; without a mask over the whole photo.

    Raises:
        ValueError: If types or sizes do not fit, or if the mask is empty.
    """
    for image in (prediction, reference):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape != reference.shape:
            raise ValueError(f"L1 needs two uint8 images (H, W, 3) of one size, got {image.dtype} {image.shape}.")
    difference = np.abs(prediction.astype(np.float64) - reference)
    if mask is not None:
        if mask.dtype != np.bool_ or mask.shape != reference.shape[:2] or not mask.any():
            raise ValueError(f"The mask must be bool {reference.shape[:2]} with a hole: {mask.dtype} {mask.shape}.")
        difference = difference[mask]
    return float(difference.mean() / 255)


class L1(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=None)` -> `{"l1": mean of the photos' values}`."""

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
        values = [l1(*triple) for triple in zip(predictions, references, masks, strict=True)]
        super().add_batch(predictions=values, references=[1] * len(values))

    def compute(self, *, predictions=None, references=None, masks=None):
        """Adds the images, if any are given, and returns the value over everything added."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references, masks=masks)
        return super().compute()

    def _compute(self, predictions, references):
        return {"l1": float(np.mean(predictions))}
