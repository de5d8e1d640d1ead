"""Draws the README's picture: a toy scene, its hole, the fill, and every scale of the network.

python -m eval.readme_picture [CHECKPOINT]        # docs/images/readme.png; the bundled weights by default
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import sgenet_hf
from sgenet_hf.masks import grow_mask
from sgenet_hf.toy import CAR, draw_scene
from sgenet_hf.visualization import class_palette, colour_labels, confidence_heat_map, draw_reliability, panel


OUT = Path(__file__).resolve().parent.parent / "docs" / "images" / "readme.png"
SEED, HEIGHT, WIDTH = 7, 384, 576  # a scene with cars near enough to leave holes worth filling


def draw(checkpoint: str = "street") -> Image.Image:
    """Removes the cars of a toy scene and sets everything out in rows."""
    photo, labels = draw_scene(SEED, HEIGHT, WIDTH)
    hole = grow_mask(labels == CAR, 4)
    inpainter = sgenet_hf.Inpainter(checkpoint)
    result = inpainter(photo, hole)
    config = inpainter.model.config
    palette = class_palette(config.num_labels, config.label_colors)
    holed = np.where(hole[..., None], np.uint8(255), photo)
    top = panel([[photo, holed, result.image]], ["photo", "hole", "filled"], cell=320)
    rows = [
        [scale.image for scale in result.scales],
        [colour_labels(scale.labels, palette) for scale in result.scales],
        [confidence_heat_map(scale.confidence) for scale in result.scales],
        [draw_reliability(scale.reliability) for scale in result.scales],
    ]
    names = [f"scale {scale.level}" for scale in result.scales]
    captions = ["image", "segmentation", "confidence", "unreliable = white"]
    below = panel(rows, names, captions, cell=160)
    page = Image.new("RGB", (max(top.width, below.width), top.height + below.height), "white")
    page.paste(top, ((page.width - top.width) // 2, 0))
    page.paste(below, ((page.width - below.width) // 2, top.height))
    return page


if __name__ == "__main__":
    OUT.parent.mkdir(parents=True, exist_ok=True)
    draw(*sys.argv[1:2]).save(OUT, optimize=True)
