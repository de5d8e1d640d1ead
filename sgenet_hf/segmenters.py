"""Other people's segmenters: any `AutoModelForSemanticSegmentation` by Hub id or folder.

They label photos for training that nobody labelled (`train_accelerate.py --label_model`), and find what is to be
removed (`sgenet inpaint --remove car --segmenter ...`).
"""

import os
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation


class Segmenter:
    """A segmenter and its normalisation, loaded once.

    Args:
        name_or_path: Folder or Hub id of an `AutoModelForSemanticSegmentation` with its image processor.
        device: Where it runs.

    Raises:
        ValueError: If there is none, or only a backbone of one.
    """

    def __init__(self, name_or_path: str | os.PathLike, device: str | torch.device = "cpu"):
        try:
            self.model, loading = AutoModelForSemanticSegmentation.from_pretrained(
                name_or_path, output_loading_info=True
            )
            processor: Any = AutoImageProcessor.from_pretrained(name_or_path)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{name_or_path} is no segmenter: name a folder or Hub id of an AutoModelForSemanticSegmentation with "
                f"its image processor. {error}"
            ) from error
        if loading["missing_keys"]:  # a bare backbone would get a random head and no complaint
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise ValueError(f"{name_or_path} lacks {missing} ...: it was not trained for segmentation.")
        self.model.to(device).eval()
        self.classes = {int(index): str(name) for index, name in self.model.config.id2label.items()}
        self.mean, self.std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (processor.image_mean, processor.image_std)
        )

    @torch.no_grad()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Its own class ids, int64 (B, H, W), for photos (B, 3, H, W) in [-1, 1]."""
        pixels = pixel_values.to(self.mean.device)
        logits = self.model((pixels * 0.5 + 0.5 - self.mean) / self.std).logits.float()
        return F.interpolate(logits, size=pixels.shape[-2:], mode="bilinear", align_corners=False).argmax(dim=1)
