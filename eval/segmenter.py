"""Segmentation after inpainting (the paper's Table 4): any `AutoModelForSemanticSegmentation` on filled photos.

Protocol: the composite at its own size, no resizing whatever the processor says -> [0, 1] -> the network's own mean
and standard deviation -> logits enlarged to the photo (bilinear, as published evaluations do) -> the largest among the
classes that the data set knows.
"""

from collections.abc import Sequence

import numpy as np
import torch

from sgenet_hf.segmenters import Segmenter


class SegmenterJudge:
    """Labels whole photos with the classes of a data set.

    Args:
        name_or_path: Hub id or folder; `NAME=ID` says what tables call it.
        device: Where it runs.
    """

    def __init__(self, name_or_path: str, device: str = "cpu"):
        name, equals, source = name_or_path.partition("=")
        self.segmenter = Segmenter(source if equals else name_or_path, device)
        self.model = self.segmenter.model
        self.name = name if equals else self.model.config.model_type

    def class_ids(self, class_names: Sequence[str]) -> np.ndarray:
        """The data set's id of each of the network's classes, -1 for those that it does not know.

        Raises:
            ValueError: If no name is known to both, so that nothing says which class is which.
        """
        return np.array(self.segmenter.ids_among(class_names))

    def __call__(self, photo: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Labels int64 (H, W) in the data set's ids of a uint8 photo (H, W, 3); see `class_ids`."""
        pixels = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
        logits = self.segmenter.logits(pixels)[0]
        logits[torch.from_numpy(class_ids < 0).to(logits.device)] = -torch.inf
        return class_ids[logits.argmax(dim=0).cpu().numpy()]
