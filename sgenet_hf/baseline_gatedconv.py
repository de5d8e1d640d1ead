"""GatedConv, or DeepFill v2: "Free-Form Image Inpainting with Gated Convolution" (Yu et al., ICCV 2019).

The file reads in the order in which the data flows:

    photo, mask -> coarse stage -> coarse image, in the hole of the photo
        -> fine stage: dilated convolutions beside contextual attention, merged -> fine image

The paper is arXiv 1806.03589. Contextual attention is that of "Generative Image Inpainting with Contextual Attention"
(Yu et al., CVPR 2018, arXiv 1801.07892), section 3.2, called v1 below. Written from the papers; layers and widths are
those of the published network. The discriminator (SN-PatchGAN) is in `baseline_discriminators.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .modeling_sgenet import SGENetPreTrainedModel, check_inputs, pad_by_repeating


# What a gate leaves of a signal of unit variance has a root mean square of about 1 / 2.35: with this gain at the start
# signals neither fade nor grow through the 17 layers of a stage. The paper does not say.
GATED_GAIN = 2.35


@strict
class GatedConvConfig(PreTrainedConfig):
    """Configuration of [`GatedConvModel`].

    Args:
        image_size: Side in pixels of the crops that the network was trained on. Any size can be filled.
        width: Channels of the first layer before gating, which makes one half the gate of the other; a multiple of 4.
        softmax_scale: lambda of v1, section 3.2: how sharply attention chooses among patches.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a value has the wrong type or does not fit.
    """

    model_type = "sgenet_gatedconv"

    image_size: int = 256
    width: int = 48
    softmax_scale: float | int = 10.0

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            kwargs["num_labels"] = 0  # it labels nothing
        super().__post_init__(**kwargs)

    @classmethod
    def published(cls, **overrides) -> "GatedConvConfig":
        """The published size: 4.1 M parameters, 55 GFLOP (2 x MAC) at 256x256, attention included."""
        return cls(**overrides)

    @classmethod
    def matched(cls, **overrides) -> "GatedConvConfig":
        """As much arithmetic as `SGENetConfig.small`: 15 GFLOP at 256x256."""
        return cls(**{"width": 24, **overrides})

    def validate_architecture(self):
        """Checks the values; runs after `__init__`.

        Raises:
            ValueError: If the width cannot be halved twice.
        """
        super().validate_architecture()
        if self.width < 4 or self.width % 4:
            raise ValueError(f"`width` must be a positive multiple of 4, got {self.width}.")


@dataclass
class GatedConvOutput(ModelOutput):
    """Output of [`GatedConvModel`].

    Args:
        loss (`torch.Tensor`, *optional*):
            Always None: the training losses live outside the model.
        composite (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
            The filled photo in [-1, 1]: `pixel_values` where the mask is 0, the fine image where it is 1.
        images (`tuple` of `torch.Tensor` of shape `(batch_size, 3, height, width)`):
            The coarse and the fine stage's image.
    """

    loss: torch.FloatTensor | None = None
    composite: torch.FloatTensor | None = None
    images: tuple[torch.FloatTensor, ...] | None = None


class GatedConvolution(nn.Module):
    """A convolution whose one half opens or closes the other, at each place and channel (section 3.1)."""

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1):
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.convolution = nn.Conv2d(channels_in, 2 * channels_out, kernel_size, stride, padding, dilation)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        features, gates = self.convolution(hidden_states).chunk(2, dim=1)
        return F.elu(features) * gates.sigmoid()


def gated_layers(channels: int, plan: Iterable[tuple[int, int, int, int]]) -> nn.Sequential:
    """Gated convolutions in a row, from `channels`; the plan has (channels, kernel size, stride, dilation) of each."""
    layers = []
    for channels_out, *shape in plan:
        layers.append(GatedConvolution(channels, channels_out, *shape))
        channels = channels_out
    return nn.Sequential(*layers)


def dilated_layers(channels: int) -> nn.Sequential:
    """Four layers that see ever further: dilations 2, 4, 8, 16."""
    return gated_layers(channels, [(channels, 3, 1, dilation) for dilation in (2, 4, 8, 16)])


class GatedConvDecoder(nn.Module):
    """From a quarter of the resolution to an image in [-1, 1]; the last layer has no gate."""

    def __init__(self, channels_in: int, width: int):
        super().__init__()
        self.at_quarter = gated_layers(channels_in, [(4 * width, 3, 1, 1)] * 2)
        self.at_half = gated_layers(4 * width, [(2 * width, 3, 1, 1)] * 2)
        self.at_full = gated_layers(2 * width, [(width, 3, 1, 1), (width // 2, 3, 1, 1)])
        self.image = nn.Conv2d(width // 2, 3, 3, padding=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.at_quarter(hidden_states)  # (B, 4C, h, w)
        hidden_states = self.at_half(F.interpolate(hidden_states, scale_factor=2))  # -> (B, 2C, 2h, 2w)
        hidden_states = self.at_full(F.interpolate(hidden_states, scale_factor=2))  # -> (B, C/2, 4h, 4w)
        return self.image(hidden_states).tanh()


class GatedConvCoarseStage(nn.Module):
    """First image: one encoder-decoder with dilated convolutions at a quarter of the resolution (Fig. 3, left)."""

    def __init__(self, width: int):
        super().__init__()
        half, quarter = 2 * width, 4 * width
        self.encoder = gated_layers(
            5,
            [
                (width, 5, 1, 1),
                (half, 3, 2, 1),
                (half, 3, 1, 1),
                (quarter, 3, 2, 1),
                (quarter, 3, 1, 1),
                (quarter, 3, 1, 1),
            ],
        )
        self.dilated = dilated_layers(quarter)
        self.decoder = GatedConvDecoder(quarter, width)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.dilated(self.encoder(planes)))


class ContextualAttention(nn.Module):
    """Fills features with known patches that look alike (v1, section 3.2)."""

    def __init__(self, softmax_scale: float):
        super().__init__()
        self.softmax_scale = softmax_scale

    def extra_repr(self) -> str:
        return f"softmax_scale={self.softmax_scale}"

    def forward(self, hidden_states: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
        """Rebuilds every place from known patches.

        Args:
            hidden_states: Features, shape (B, C, H, W), H and W even.
            hole: 1 where a cell holds any hole pixel, shape (B, 1, H, W).

        Returns:
            Features of the same shape; 0 where a photo has no known patch at all.
        """
        height, width = hidden_states.shape[-2:]
        grid = height // 2, width // 2
        # Matched on every second cell, as published: a quarter of the patches, a sixteenth of the pairs.
        patches = F.unfold(hidden_states[..., ::2, ::2], 3, padding=1)  # (B, 9 C, L)
        patches = F.normalize(patches.float(), dim=1)
        scores = propagate(patches.transpose(1, 2) @ patches, grid)  # (B, L, L): cosine of target and source
        touched = F.max_pool2d(F.max_pool2d(hole, 2), 3, stride=1, padding=1)  # patches with a hole are no source
        known = 1 - touched.flatten(1)[:, None].float()  # (B, 1, L)
        scores = (self.softmax_scale * scores).masked_fill(known == 0, torch.finfo(scores.dtype).min)
        attention = (scores.softmax(dim=2) * known).to(hidden_states.dtype)

        sources = F.unfold(hidden_states, 4, stride=2, padding=1)  # (B, 16 C, L): whole patches, twice as large
        pasted = sources @ attention.transpose(1, 2)
        overlaps = F.fold(torch.ones_like(pasted[:1, :16]), (height, width), 4, stride=2, padding=1)
        return F.fold(pasted, (height, width), 4, stride=2, padding=1) / overlaps


def propagate(scores: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Attention propagation (v1, Eq. 4): neighbours of a target should borrow from neighbours of its source.

    Args:
        scores: (B, L targets, L sources), L = rows x columns of `grid`.
        grid: Rows and columns.

    Returns:
        The scores summed over shifts of -1, 0, 1 of both, left and right, then up and down; same shape.
    """
    summed = scores.unflatten(2, grid).unflatten(1, grid)  # (B, rows, columns, rows, columns)
    for target, source in ((2, 4), (1, 3)):
        length = summed.shape[target] - 1
        earlier, later = (summed.narrow(target, start, length).narrow(source, start, length) for start in (0, 1))
        summed = summed.clone()
        summed.narrow(target, 1, length).narrow(source, 1, length).add_(earlier)
        summed.narrow(target, 0, length).narrow(source, 0, length).add_(later)
    return summed.flatten(3).flatten(1, 2)


class GatedConvFineStage(nn.Module):
    """Second image: two encoders, one dilated and one with contextual attention, and one decoder (Fig. 3, right)."""

    def __init__(self, width: int, softmax_scale: float):
        super().__init__()
        half, quarter = 2 * width, 4 * width
        head = [(width, 5, 1, 1), (width, 3, 2, 1), (half, 3, 1, 1)]
        tail = [(quarter, 3, 1, 1), (quarter, 3, 1, 1)]
        # Only the coarse stage sees the mask; with three channels here the published number of parameters comes out.
        self.encoder = gated_layers(3, [*head, (half, 3, 2, 1), *tail])
        self.dilated = dilated_layers(quarter)
        self.attention_encoder = gated_layers(3, [*head, (quarter, 3, 2, 1), *tail])
        self.attention = ContextualAttention(softmax_scale)
        self.attention_decoder = gated_layers(quarter, tail)
        self.decoder = GatedConvDecoder(2 * quarter, width)

    def forward(self, photo: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
        convolved = self.dilated(self.encoder(photo))
        attended = self.attention(self.attention_encoder(photo), F.max_pool2d(hole, 4))
        attended = self.attention_decoder(attended)
        return self.decoder(torch.cat([convolved, attended], dim=1))  # (B, 8C, h, w) -> (B, 3, 4h, 4w)


class GatedConvModel(SGENetPreTrainedModel):
    """GatedConv behind the interface of [`SGENetModel`].

    Example:
        >>> model = GatedConvModel.from_pretrained("path/or/hub-id")
        >>> model(pixel_values, mask).composite  # (B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole
    """

    config: GatedConvConfig
    config_class = GatedConvConfig
    base_model_prefix = "gatedconv"
    supports_gradient_checkpointing = False
    _no_split_modules = ("GatedConvCoarseStage", "GatedConvFineStage")

    def __init__(self, config: GatedConvConfig):
        super().__init__(config)
        self.coarse = GatedConvCoarseStage(config.width // 2)
        self.fine = GatedConvFineStage(config.width // 2, config.softmax_scale)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d):
            gated = module.out_channels > 3
            fan_in = module.weight[0].numel()
            init.normal_(module.weight, std=(GATED_GAIN if gated else 0.5) * fan_in**-0.5)
            init.zeros_(module.bias)

    @can_return_tuple
    def forward(self, pixel_values: torch.FloatTensor, mask: torch.FloatTensor) -> GatedConvOutput:
        """Fills the hole.

        Args:
            pixel_values: RGB photos in [-1, 1], shape (B, 3, H, W), any size. What lies in the hole is never read.
            mask: 1 = hole, 0 = known, shape (B, 1, H, W).

        Raises:
            ValueError: If the shapes do not fit together.
        """
        check_inputs(pixel_values, mask, None, None)
        height, width = pixel_values.shape[-2:]
        hole = (mask > 0.5).to(pixel_values.dtype)
        known_photo = torch.where(hole > 0, 0.0, pixel_values).to(pixel_values.dtype)  # a NaN in the hole ends here
        photo, hole_padded = pad_by_repeating(torch.cat([known_photo, hole], dim=1)).split([3, 1], dim=1)
        # A plane of ones shows convolutions, which pad with zeros, where the photo ends.
        coarse = self.coarse(torch.cat([photo, torch.ones_like(hole_padded), hole_padded], dim=1))
        fine = self.fine(torch.where(hole_padded > 0, coarse, photo), hole_padded)

        images = tuple(image[..., :height, :width] for image in (coarse, fine))
        composite = torch.where(hole > 0, images[-1].to(pixel_values.dtype), pixel_values)
        return GatedConvOutput(composite=composite, images=images)


__all__ = ["GatedConvConfig", "GatedConvModel", "GatedConvOutput"]
