"""Discriminators of the systems that the paper compares with. SPG-Net's is the multi-scale PatchGAN of
`discriminator.py`.

Each is called like [`SGENetDiscriminator`] and gives the same: a tuple of maps of logits, and their features.
"""

from itertools import pairwise

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from transformers import PreTrainedConfig, PreTrainedModel

from .discriminator import PatchDiscriminator


@strict
class GatedConvDiscriminatorConfig(PreTrainedConfig):
    """Configuration of [`GatedConvDiscriminator`].

    Args:
        width: Channels of the first layer; 64 as published.
    """

    model_type = "sgenet_gatedconv_discriminator"

    width: int = 64


class GatedConvDiscriminator(PreTrainedModel):
    """SN-PatchGAN (Yu et al., ICCV 2019, section 3.2): six strided convolutions with spectral norm; the last one's
    features are all judged, every channel at every place."""

    config: GatedConvDiscriminatorConfig
    config_class = GatedConvDiscriminatorConfig
    base_model_prefix = "discriminator"
    main_input_name = "pixel_values"

    def __init__(self, config: GatedConvDiscriminatorConfig):
        super().__init__(config)
        width = config.width
        channels = (4, width, 2 * width, 4 * width, 4 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 5, stride=2, padding=2)) for before, after in pairwise(channels)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module):
        """Spectral norm takes any scale away, and its vectors belong to the weights that it was made with."""

    def forward(
        self, pixel_values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], list[tuple[torch.Tensor, ...]]]:
        """Judges photos (B, 3, H, W) in [-1, 1] under their masks (B, 1, H, W): one map (B, 4 width, h, w)."""
        hidden_states, features = torch.cat([pixel_values, mask], dim=1), []
        for layer in self.layers[:-1]:
            hidden_states = F.leaky_relu(layer(hidden_states), 0.2)
            features.append(hidden_states)
        return (self.layers[-1](hidden_states),), [tuple(features)]


@strict
class EdgeConnectDiscriminatorConfig(PreTrainedConfig):
    """Configuration of [`EdgeConnectDiscriminator`].

    Args:
        width: Channels of the first layer of both; 64 as published.
    """

    model_type = "sgenet_edgeconnect_discriminator"

    width: int = 64


class EdgeConnectDiscriminator(PreTrainedModel):
    """D1 and D2 of EdgeConnect (section 3): 70x70 PatchGANs, on edges under their grey photo and on photos under their
    edges. One network, so that a checkpoint and an optimiser hold both."""

    config: EdgeConnectDiscriminatorConfig
    config_class = EdgeConnectDiscriminatorConfig
    base_model_prefix = "discriminator"
    main_input_name = "pixel_values"

    def __init__(self, config: EdgeConnectDiscriminatorConfig):
        super().__init__(config)
        self.edges = PatchDiscriminator(channels_in=2, width=config.width, num_layers=3)
        self.photos = PatchDiscriminator(channels_in=4, width=config.width, num_layers=3)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        """Spectral norm takes any scale away, and its vectors belong to the weights that it was made with."""

    def forward(
        self, pixel_values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], list[tuple[torch.Tensor, ...]]]:
        """Judges edges and photos.

        Args:
            pixel_values: Grey photo, edges to judge, photo to judge, its edges: shape (B, 1 + 1 + 3 + 1, H, W).
            mask: Not looked at; neither is the paper's.

        Returns:
            Two maps of logits (B, 1, h, w), of the edges and of the photo, and the features of each.
        """
        edge_logits, edge_features = self.edges(pixel_values[:, :2])
        photo_logits, photo_features = self.photos(pixel_values[:, 2:])
        return (edge_logits, photo_logits), [edge_features, photo_features]


__all__ = [
    "EdgeConnectDiscriminator",
    "EdgeConnectDiscriminatorConfig",
    "GatedConvDiscriminator",
    "GatedConvDiscriminatorConfig",
]
