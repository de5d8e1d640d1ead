"""Other people's segmenters: any `AutoModelForSemanticSegmentation` by Hub id or folder.

They label photos for training that nobody labelled (`train_accelerate.py --label_model`), find what is to be removed
(`sgenet inpaint --remove car --segmenter ...`), and judge filled photos (`eval/run.py --segmenter`).
"""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AutoModelForSemanticSegmentation, BaseImageProcessor


class Segmenter:
    """A segmenter and its normalisation, loaded once.

    Args:
        name_or_path: Folder or Hub id of an `AutoModelForSemanticSegmentation` with its image processor.
        device: Where it runs.

    Raises:
        ValueError: If there is none, or only a backbone of one.
    """

    def __init__(self, name_or_path: str | os.PathLike, device: str | torch.device = "cpu"):
        self.name = os.fspath(name_or_path)
        try:
            # Callers pass float32; transformers would keep the checkpoint's own type.
            model, loading = AutoModelForSemanticSegmentation.from_pretrained(
                name_or_path, dtype=torch.float32, output_loading_info=True
            )
            # The settings alone: some processors cannot be made without packages that nothing here needs.
            settings, _ = BaseImageProcessor.get_image_processor_dict(name_or_path)
            statistics = settings["image_mean"], settings["image_std"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"{name_or_path} is no segmenter: name a folder or Hub id of an AutoModelForSemanticSegmentation with "
                f"its image processor. {error}"
            ) from error
        if loading["missing_keys"]:  # a bare backbone would get a random head and no complaint
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise ValueError(f"{name_or_path} lacks {missing} ...: it was not trained for segmentation.")
        self.model: Any = model.to(device).eval()
        self.classes = {int(index): str(name) for index, name in self.model.config.id2label.items()}
        self.mean, self.std = (torch.tensor(values, device=device)[:, None, None] for values in statistics)

    def ids_among(self, names: Sequence[str]) -> list[int]:
        """For each of its own classes the place of the same name in `names`, -1 where there is none.

        Capitals and separators do not count.

        Raises:
            ValueError: If no name is known to both, so that nothing says which class is which.
        """
        places = {_plain(name): index for index, name in enumerate(names)}
        own = [self.classes[index] for index in range(len(self.classes))]
        ids = [places.get(_plain(name), -1) for name in own]
        if max(ids) < 0:
            raise ValueError(
                f"{self.name} knows none of the classes {', '.join(names)}; its own: {', '.join(own)}. Set id2label "
                "and label2id in its config.json."
            )
        return ids

    @torch.no_grad()
    def logits(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, H, W) of its own classes, enlarged to the photos, for photos (B, 3, H, W) in [-1, 1].

        Photos keep their size, whatever the processor says.
        """
        pixels = pixel_values.to(self.mean.device)
        return enlarged_logits(self.model, pixels, self.mean, self.std)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Its own class ids, int64 (B, H, W), for photos (B, 3, H, W) in [-1, 1]."""
        return self.logits(pixel_values).argmax(dim=1)


def enlarged_logits(
    model: torch.nn.Module, pixel_values: torch.Tensor, mean: torch.Tensor, std: torch.Tensor
) -> torch.Tensor:
    """Logits (B, K, H, W) of a segmenter, float32, enlarged to the photos.

    Args:
        model: Gives coarse `logits` for normalised photos.
        pixel_values: Photos (B, 3, H, W) in [-1, 1].
        mean: (3, 1, 1), of photos in [0, 1].
        std: (3, 1, 1), likewise.
    """
    logits = model((pixel_values * 0.5 + 0.5 - mean) / std).logits.float()
    return F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
