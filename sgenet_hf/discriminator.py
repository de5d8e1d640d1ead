"""Multi-scale PatchGAN (Eq. 8): one small network per image scale k = 1, 2, 3 judges overlapping patches.

The paper takes it from CISI-Net without numbers; we follow the usual one of pix2pixHD (4x4 convolutions, spectral
norm, hinge loss), and show it the mask, so that it need not guess where to look.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init


@strict
class SGENetDiscriminatorConfig(PreTrainedConfig):
    """Configuration of [`SGENetDiscriminator`].

    Args:
        num_scales: Image scales k of Eq. 8; each halves the one before.
        width: Channels of the first layer; they double up to 8 times that.
        num_layers: Strided layers per scale.
        see_mask: Whether the mask is a fourth input channel.
    """

    model_type = "sgenet_discriminator"

    num_scales: int = 3
    width: int = 64
    num_layers: int = 3
    see_mask: bool = True

    def validate_architecture(self):
        """Checks the values.

        Raises:
            ValueError: If a count is not positive.
        """
        super().validate_architecture()
        if min(self.num_scales, self.width, self.num_layers) < 1:
            raise ValueError("`num_scales`, `width` and `num_layers` must be positive.")


class PatchDiscriminator(nn.Module):
    """PatchGAN of one scale: strided convolutions, one stride-1 layer, one map of logits."""

    def __init__(self, channels_in: int, width: int, num_layers: int):
        super().__init__()
        widths = [width * min(2**layer, 8) for layer in range(num_layers + 1)]
        channels = [channels_in, *widths]
        strides = [2] * num_layers + [1]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=stride, padding=2))
            for before, after, stride in zip(channels[:-1], channels[1:], strides, strict=True)
        )
        self.logits = spectral_norm(nn.Conv2d(widths[-1], 1, 4, padding=2))

    def forward(self, photo_and_mask: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        hidden_states, features = photo_and_mask, []
        for layer in self.layers:
            hidden_states = F.leaky_relu(layer(hidden_states), 0.2)
            features.append(hidden_states)
        return self.logits(hidden_states), tuple(features)


class SGENetDiscriminator(PreTrainedModel):
    """D of Eq. 8 at all its scales; saved and loaded like the generator, so that training resumes exactly."""

    config: SGENetDiscriminatorConfig
    config_class = SGENetDiscriminatorConfig
    base_model_prefix = "discriminator"
    main_input_name = "pixel_values"

    def __init__(self, config: SGENetDiscriminatorConfig):
        super().__init__(config)
        channels_in = 4 if config.see_mask else 3
        self.scales = nn.ModuleList(
            PatchDiscriminator(channels_in, config.width, config.num_layers) for _ in range(config.num_scales)
        )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d):
            # The weight of a spectrally normalised layer is computed; writing to it would change nothing.
            init.normal_(module.parametrizations.weight.original, std=0.02)
            init.zeros_(module.bias)

    def forward(
        self, pixel_values: torch.Tensor, mask: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], list[tuple[torch.Tensor, ...]]]:
        """Judges photos.

        Args:
            pixel_values: RGB in [-1, 1], shape (B, 3, H, W).
            mask: 1 = hole, shape (B, 1, H, W).

        Returns:
            Per scale, finest first: the patch logits (B, 1, h, w), and the features of each layer.
        """
        planes = torch.cat([pixel_values, mask], dim=1) if self.config.see_mask else pixel_values
        logits, features = [], []
        for scale in self.scales:
            scale_logits, scale_features = scale(planes)
            logits.append(scale_logits)
            features.append(scale_features)
            planes = F.avg_pool2d(planes, 3, stride=2, padding=1, count_include_pad=False)
        return tuple(logits), features


__all__ = ["PatchDiscriminator", "SGENetDiscriminator", "SGENetDiscriminatorConfig"]
