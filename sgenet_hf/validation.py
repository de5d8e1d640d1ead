"""Quick scores and pictures while a network trains. The protocol for published numbers is in `eval/`."""

import math
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_sgenet import as_drawn
from .data import collate
from .visualization import class_palette, colour_labels, panel


@torch.no_grad()
def validate(model: PreTrainedModel, dataset: Dataset, device: torch.device, picture: Path) -> dict[str, float]:
    """Fills the validation photos and draws the first six, as the network draws: what it learns is to be seen, and not
    what patches make of it.

    Returns:
        Means over photos: `hole_l1` and `hole_psnr` (0 to 255 scale, dB), `hole_accuracy` of the segmentation if there
        is one; and `sharpness`, the gradients in all holes, ours over the truth's.
    """
    scores, rows = [], []
    for index in range(len(dataset)):
        batch = {name: value.to(device) for name, value in collate([dataset[index]]).items()}
        output = model(batch["pixel_values"], batch["mask"], **as_drawn(model.config))
        scores.append(hole_scores(output, batch))
        if len(rows) < 6:
            rows.append(validation_row(output, batch, model.config))
    picture.parent.mkdir(parents=True, exist_ok=True)
    panel([list(row.values()) for row in rows], list(rows[0]), cell=160).save(picture)
    means = {name: float(np.nanmean([score[name] for score in scores])) for name in scores[0]}
    means["sharpness"] = means.pop("gradient") / max(1e-6, means.pop("true_gradient"))
    return {f"validation_{name}": value for name, value in means.items()}


def hole_scores(output: ModelOutput, batch: dict[str, torch.Tensor]) -> dict[str, float]:
    """Scores of one photo, inside the hole."""
    hole, truth = batch["mask"] > 0.5, batch["pixel_values"]
    difference = ((output.composite - truth) * 127.5)[hole.expand_as(truth)]
    scores = {
        "hole_l1": difference.abs().mean().item(),
        "hole_psnr": 10 * math.log10(255**2 / max(1e-6, difference.square().mean().item())),
        "gradient": gradient_sum(output.composite, hole),
        "true_gradient": gradient_sum(truth, hole),
    }
    if "logits" in output:
        labels, predicted = batch["labels"], output.logits[-1].argmax(dim=1)
        judged = hole[:, 0] & (labels != 255)
        scores["hole_accuracy"] = (predicted == labels)[judged].float().mean().item()  # NaN without labels
    return scores


def gradient_sum(image: torch.Tensor, hole: torch.Tensor) -> float:
    """Sum of the luma's gradient over the inside of the hole, as in `eval/metrics/sharpness_ratio`."""
    luma = (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    corner = luma[..., :-1, :-1]
    across, down = luma[..., :-1, 1:] - corner, luma[..., 1:, :-1] - corner
    inside = hole[..., :-1, :-1] & hole[..., :-1, 1:] & hole[..., 1:, :-1]
    return torch.hypot(across, down)[inside].sum().item()


def validation_row(
    output: ModelOutput, batch: dict[str, torch.Tensor], config: PreTrainedConfig
) -> dict[str, np.ndarray]:
    """Pictures of one photo by their captions; what a system does not have is left out."""
    holed = torch.where(batch["mask"] > 0.5, 1.0, batch["pixel_values"])
    pictures = {"photo": batch["pixel_values"], "input": holed}
    # SGE-Net has scales 4 to 0, GatedConv two stages, the others one image.
    last = len(output.images) - 1
    pictures |= {f"scale {last - index}": image for index, image in enumerate(output.images)}
    row = {caption: to_uint8(picture) for caption, picture in (pictures | {"fill": output.composite}).items()}
    if "logits" in output:
        labels = output.logits[-1].argmax(dim=1)[0].cpu().numpy()
        row["segmentation"] = colour_labels(labels, class_palette(config.num_labels, config.label_colors))
    if "confidences" in output:
        row["confidence"] = (output.confidences[-1][0, 0] * 255).byte().cpu().numpy()
    if "edges" in output:
        row["edges"] = (output.edges[0, 0].float() * 255).byte().cpu().numpy()
    return row


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [-1, 1] to (H, W, 3) in 0..255."""
    return ((image[0].float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
