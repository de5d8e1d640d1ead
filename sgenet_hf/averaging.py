"""The mean of several networks of one kind, parameter by parameter.

Weights of one run, or of runs that went on from one another, lie close enough together for their mean to be a network
too, and often a better one on unseen photos (Wortsman et al., "Model soups", 2022, for classifiers). Measure it.
"""

import math
import os
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from .pipeline import load_model


# What a configuration says that is not about the weights: the first network's stands.
NOT_OF_THE_WEIGHTS = {
    *("image_size", "noise_strength", "pasted_share", "redrawn_share", "guidance_scale", "label_colors"),
    *("dtype", "auto_map", "transformers_version", "_name_or_path"),
}


def mean_of_networks(parts: Sequence[tuple[str | os.PathLike, float]]) -> PreTrainedModel:
    """The weighted mean of networks, float32 on the CPU, with the first one's configuration and buffers.

    Args:
        parts: Bundled name, folder or Hub id of each network, and how much it counts; the weights are divided by their
            sum.

    Raises:
        ValueError: If there are not two networks, a weight is no positive number, or they are of different kinds.
        CheckpointError: See `load_model`.
    """
    if len(parts) < 2:
        raise ValueError("A mean needs two networks or more.")
    for name, weight in parts:
        if not 0 < weight < math.inf:
            raise ValueError(f"{name} has the weight {weight:g}: give a finite number above 0.")
    whole = sum(weight for _, weight in parts)
    mean: PreTrainedModel | None = None
    for name, weight in parts:
        network = load_model(name, device="cpu", dtype=torch.float32)
        if mean is None:
            mean, total = network, {key: torch.zeros_like(value) for key, value in network.named_parameters()}
        if differing := differing_settings(mean, network):
            raise ValueError(
                f"{name} and {parts[0][0]} differ in {', '.join(differing)}: only networks of one kind have a mean."
            )
        for key, value in network.named_parameters():
            total[key] += weight / whole * value.detach()
    assert mean is not None  # there are two
    mean.load_state_dict(total, strict=False)  # a mean of unit vectors, such as spectral norm's buffers, is none
    return mean


def differing_settings(one: PreTrainedModel, other: PreTrainedModel) -> list[str]:
    """Names of the settings in which two networks' weights cannot be compared."""
    if type(one) is not type(other):
        return ["their architecture"]
    ours, theirs = one.config.to_dict(), other.config.to_dict()
    names = (ours.keys() | theirs.keys()) - NOT_OF_THE_WEIGHTS
    return sorted(name for name in names if ours.get(name) != theirs.get(name))


__all__ = ["mean_of_networks"]
