"""EdgeConnect: "Generative Image Inpainting with Adversarial Edge Learning" (Nazeri et al., 2019, arXiv 1901.00212).

The file reads in the order in which the data flows:

    photo, mask -> Canny edges of the known part -> edge generator G1 -> edges of the hole
        -> completion generator G2, which sees the photo and all edges -> image

Both generators are one architecture (appendix A of the paper). Written from the paper. scikit-image finds the edges;
only this system needs it (`pip install scikit-image`). The discriminators are in `baseline_discriminators.py`.
"""

from dataclasses import dataclass

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .modeling_sgenet import SGENetPreTrainedModel, check_inputs, pad_by_repeating


LUMINANCE = (0.2125, 0.7154, 0.0721)  # of red, green and blue (Rec. 709, as scikit-image)


@strict
class EdgeConnectConfig(PreTrainedConfig):
    """Configuration of [`EdgeConnectModel`].

    Args:
        image_size: Side in pixels of the crops that the network was trained on. Any size can be filled.
        width: Channels of the first layer of both generators.
        num_blocks: Residual blocks of both generators.
        sigma: Blur in pixels before edges are sought (section 4.1).

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a value has the wrong type or does not fit.
    """

    model_type = "sgenet_edgeconnect"

    image_size: int = 256
    width: int = 64
    num_blocks: int = 8
    sigma: float | int = 2.0

    def __post_init__(self, **kwargs):
        if self.id2label is None:
            kwargs["num_labels"] = 0  # it labels nothing
        super().__post_init__(**kwargs)

    @classmethod
    def published(cls, **overrides) -> "EdgeConnectConfig":
        """The published size: 21.5 M parameters, 194 GFLOP (2 x MAC) at 256x256, both stages."""
        return cls(**overrides)

    @classmethod
    def matched(cls, **overrides) -> "EdgeConnectConfig":
        """As much arithmetic as `SGENetConfig.small`: 15 GFLOP at 256x256, both stages."""
        return cls(**{"width": 17, **overrides})

    def validate_architecture(self):
        """Checks the values; runs after `__init__`.

        Raises:
            ValueError: If one is not positive.
        """
        super().validate_architecture()
        if min(self.width, self.num_blocks, self.sigma) <= 0:
            raise ValueError("`width`, `num_blocks` and `sigma` must be positive.")


@dataclass
class EdgeConnectOutput(ModelOutput):
    """Output of [`EdgeConnectModel`].

    Args:
        loss (`torch.Tensor`, *optional*):
            Always None: the training losses live outside the model.
        composite (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
            The filled photo in [-1, 1]: `pixel_values` where the mask is 0, G2's image where it is 1.
        images (`tuple` of `torch.Tensor` of shape `(batch_size, 3, height, width)`):
            G2's image, alone.
        predicted_edges (`torch.Tensor` of shape `(batch_size, 1, height, width)`):
            C_pred, what G1 says, in [0, 1].
        edges (`torch.Tensor` of shape `(batch_size, 1, height, width)`):
            C_comp, what G2 sees: Canny's edges in the known part, G1's in the hole, an `edge_prompt` where given.
    """

    loss: torch.FloatTensor | None = None
    composite: torch.FloatTensor | None = None
    images: tuple[torch.FloatTensor, ...] | None = None
    predicted_edges: torch.FloatTensor | None = None
    edges: torch.FloatTensor | None = None


def luminance(photo: torch.Tensor) -> torch.Tensor:
    """Grey photos, (B, 1, H, W), in the range of the coloured ones."""
    weights = photo.new_tensor(LUMINANCE)[:, None, None]
    return (photo * weights).sum(dim=1, keepdim=True)


def canny_edges(photo: torch.Tensor, known: torch.Tensor, sigma: float) -> torch.Tensor:
    """Edges that the known part alone shows, by Canny's detector with scikit-image's thresholds.

    Args:
        photo: RGB in [-1, 1], shape (B, 3, H, W); without NaN.
        known: 1 = known, shape (B, 1, H, W); the rest takes no part.
        sigma: Blur in pixels.

    Returns:
        1 = edge, shape (B, 1, H, W), of the photo's type and on its device.

    Raises:
        ImportError: If scikit-image is not installed.
    """
    try:
        from skimage.feature import canny
    except ImportError as error:
        raise ImportError("EdgeConnect finds edges with scikit-image: pip install scikit-image.") from error
    greys = (luminance(photo.detach().float()) * 0.5 + 0.5).cpu().numpy()[:, 0]
    masks = (known > 0.5).cpu().numpy()[:, 0]
    found = [canny(grey, sigma=sigma, mask=mask) for grey, mask in zip(greys, masks, strict=True)]
    return torch.stack([torch.from_numpy(edges) for edges in found])[:, None].to(photo)


class EdgeConnectResidualBlock(nn.Module):
    """A 3x3 convolution of dilation 2 and one of dilation 1 around a shortcut."""

    def __init__(self, num_channels: int, normalise):
        super().__init__()
        # Instance norm takes the mean away, so none of the convolutions before it has a bias.
        self.dilated = normalise(
            nn.Conv2d(num_channels, num_channels, 3, padding=2, dilation=2, padding_mode="reflect", bias=False)
        )
        self.plain = normalise(nn.Conv2d(num_channels, num_channels, 3, padding=1, padding_mode="reflect", bias=False))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = F.relu(F.instance_norm(self.dilated(hidden_states)))
        return hidden_states + F.instance_norm(self.plain(residual))


class EdgeConnectGenerator(nn.Module):
    """Down to a quarter, dilated residual blocks, up again (appendix A). Spectral norm in the edge generator only."""

    def __init__(self, config: EdgeConnectConfig, channels_in: int, channels_out: int, spectral: bool):
        super().__init__()
        width = config.width
        normalise = spectral_norm if spectral else nn.Identity()
        self.stem = normalise(nn.Conv2d(channels_in, width, 7, padding=3, padding_mode="reflect", bias=False))
        self.to_half = normalise(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False))
        self.to_quarter = normalise(nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False))
        self.blocks = nn.Sequential(
            *(EdgeConnectResidualBlock(4 * width, normalise) for _ in range(config.num_blocks))
        )
        self.up_to_half = normalise(nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1, bias=False))
        self.up_to_full = normalise(nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False))
        self.head = nn.Conv2d(width, channels_out, 7, padding=3, padding_mode="reflect")

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        hidden_states = planes
        for layer in (self.stem, self.to_half, self.to_quarter):  # (B, channels_in, H, W) -> (B, 4C, H/4, W/4)
            hidden_states = F.relu(F.instance_norm(layer(hidden_states)))
        hidden_states = self.blocks(hidden_states)
        for layer in (self.up_to_half, self.up_to_full):  # (B, 4C, H/4, W/4) -> (B, C, H, W)
            hidden_states = F.relu(F.instance_norm(layer(hidden_states)))
        return self.head(hidden_states)


class EdgeConnectModel(SGENetPreTrainedModel):
    """EdgeConnect behind the interface of [`SGENetModel`].

    Example:
        >>> model = EdgeConnectModel.from_pretrained("path/or/hub-id")
        >>> model(pixel_values, mask).composite  # (B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole
    """

    config: EdgeConnectConfig
    config_class = EdgeConnectConfig
    base_model_prefix = "edgeconnect"
    supports_gradient_checkpointing = False
    _no_split_modules = ("EdgeConnectGenerator",)

    def __init__(self, config: EdgeConnectConfig):
        super().__init__(config)
        self.edge_generator = EdgeConnectGenerator(config, channels_in=3, channels_out=1, spectral=True)
        self.completion_generator = EdgeConnectGenerator(config, channels_in=4, channels_out=3, spectral=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        # Spectral norm takes any scale away, and its vectors belong to the weights that it was made with.
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not parametrize.is_parametrized(module):
            init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        mask: torch.FloatTensor,
        edge_prompt: torch.FloatTensor | None = None,
    ) -> EdgeConnectOutput:
        """Fills the hole.

        Args:
            pixel_values: RGB photos in [-1, 1], shape (B, 3, H, W), any size. What lies in the hole is never read.
            mask: 1 = hole, 0 = known, shape (B, 1, H, W).
            edge_prompt: 1 = edge, 0 = none, -1 = let the network decide, shape (B, 1, H, W): a sketch, or in training
                the photo's own edges. Where given, it replaces what G2 would see.

        Raises:
            ValueError: If the shapes do not fit together.
            ImportError: If scikit-image is not installed.
        """
        check_inputs(pixel_values, mask, None, None)
        if edge_prompt is not None and edge_prompt.shape != mask.shape:
            raise ValueError(f"`edge_prompt` must have shape {tuple(mask.shape)}, got {tuple(edge_prompt.shape)}.")
        height, width = pixel_values.shape[-2:]
        hole = (mask > 0.5).to(pixel_values.dtype)
        # Holes are white (section 4); a NaN in them ends here.
        known_photo = torch.where(hole > 0, 1.0, pixel_values).to(pixel_values.dtype)
        known_edges = canny_edges(known_photo, 1 - hole, self.config.sigma)
        prompt = torch.full_like(hole, -1) if edge_prompt is None else edge_prompt.to(hole.dtype)
        planes = pad_by_repeating(torch.cat([known_photo, hole, known_edges, prompt], dim=1))
        photo, hole_padded, known_edges, prompt = planes.split([3, 1, 1, 1], dim=1)

        edge_planes = torch.cat([luminance(photo), known_edges, hole_padded], dim=1)
        predicted = self.edge_generator(edge_planes).sigmoid()
        edges = torch.where(hole_padded > 0, predicted, known_edges)
        edges = torch.where(prompt >= 0, prompt, edges)
        image = self.completion_generator(torch.cat([photo, edges], dim=1)).tanh()

        image, predicted, edges = (plane[..., :height, :width] for plane in (image, predicted, edges))
        composite = torch.where(hole > 0, image.to(pixel_values.dtype), pixel_values)
        return EdgeConnectOutput(composite=composite, images=(image,), predicted_edges=predicted, edges=edges)


__all__ = ["EdgeConnectConfig", "EdgeConnectModel", "EdgeConnectOutput", "canny_edges", "luminance"]
