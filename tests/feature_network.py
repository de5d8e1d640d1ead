"""A tiny network for feature distances, saved the way `AutoModel` loads it. Shared by the tests of `eval`."""

from pathlib import Path

import torch
from transformers import MobileNetV2Config, MobileNetV2ImageProcessor, MobileNetV2Model


def save_tiny_feature_network(folder: Path) -> Path:
    """Writes a MobileNetV2 of a tenth of the width with random weights into `folder`."""
    torch.manual_seed(0)
    model = MobileNetV2Model(MobileNetV2Config(depth_multiplier=0.1, finegrained_output=False))
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            # The library's own start is so small that nothing of the photo is left after fifty layers.
            torch.nn.init.kaiming_normal_(module.weight)
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder
