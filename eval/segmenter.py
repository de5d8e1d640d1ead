"""Segmentation after inpainting (the paper's Table 4): any `AutoModelForSemanticSegmentation` on filled photos.

Protocol: the composite at its own size, no resizing whatever the processor says -> [0, 1] -> the network's own mean
and standard deviation -> logits enlarged to the photo (bilinear, as published evaluations do) -> the largest among the
classes that the data set knows.
"""

from collections.abc import Sequence

import numpy as np
import torch
import transformers
from torch.nn import functional


class Segmenter:
    """Labels whole photos.

    Args:
        name_or_path: Hub id or folder with a `preprocessor_config.json`; `NAME=ID` says what tables call it.
        device: Where it runs.
    """

    def __init__(self, name_or_path: str, device: str = "cpu"):
        name, equals, source = name_or_path.partition("=")
        source = source if equals else name_or_path
        settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(source)
        self.mean = torch.tensor(settings["image_mean"], dtype=torch.float32).view(1, 3, 1, 1)
        self.std = torch.tensor(settings["image_std"], dtype=torch.float32).view(1, 3, 1, 1)
        model = transformers.AutoModelForSemanticSegmentation.from_pretrained(source, dtype=torch.float32)
        self.model = model.to(device).eval()
        self.name = name if equals else self.model.config.model_type

    def class_ids(self, class_names: Sequence[str]) -> np.ndarray:
        """The data set's id of each of the network's classes, -1 for those that it does not know.

        By name, capitals and separators aside.

        Raises:
            ValueError: If no name is known to both, so that nothing says which class is which.
        """
        known = {_plain(name): index for index, name in enumerate(class_names)}
        own = self.model.config.id2label
        ids = np.array([known.get(_plain(own[index]), -1) for index in range(len(own))])
        if (ids < 0).all():
            raise ValueError(
                f"No class of {self.name} ({', '.join(map(str, own.values()))}) has the name of a class of the data "
                f"({', '.join(class_names)}): set id2label and label2id in its config.json."
            )
        return ids

    @torch.inference_mode()
    def __call__(self, photo: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Labels int64 (H, W) in the data set's ids of a uint8 photo (H, W, 3); see `class_ids`."""
        pixels = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 255
        logits = self.model(pixel_values=((pixels - self.mean) / self.std).to(self.model.device)).logits
        logits = functional.interpolate(logits, size=photo.shape[:2], mode="bilinear", align_corners=False)[0]
        logits[torch.from_numpy(class_ids < 0).to(logits.device)] = -torch.inf
        return class_ids[logits.argmax(dim=0).cpu().numpy()]


def _plain(name: str) -> str:
    return "".join(letter for letter in str(name).lower() if letter.isalnum())
