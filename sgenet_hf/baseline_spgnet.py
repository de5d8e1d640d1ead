"""SPG-Net: "Segmentation Prediction and Guidance Network for Image Inpainting" (Song et al., BMVC 2018).

The file reads in the order in which the data flows:

    photo, mask -> SP-Net -> one label per pixel, hole included -> SG-Net, which sees photo and labels -> image

The paper is arXiv 1805.03356; its authors published no code. Both networks are one architecture, with the layers of
the re-implementations: four strided convolutions, residual blocks, four transposed ones.

The paper first labels the holed photo by a fixed DeepLab v3+ and lets SP-Net carry those labels into the hole. Here
SP-Net sees the photo itself and labels all of it, so that a checkpoint is whole and all that it costs is counted.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple

from .modeling_sgenet import SGENetPreTrainedModel, check_inputs, pad_by_repeating


@strict
class SPGNetConfig(PreTrainedConfig):
    """Configuration of [`SPGNetModel`].

    Args:
        image_size: Side in pixels of the crops that the network was trained on. Any size can be filled.
        width: Channels of the first layer of both networks.
        num_blocks: Residual blocks of both networks.
        ignore_index: Label of void pixels; never predicted, never trained on.
        label_colors: RGB colour, 0 to 255, of each class for drawings.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a value has the wrong type or does not fit.
    """

    model_type = "sgenet_spgnet"

    image_size: int = 256
    width: int = 64
    num_blocks: int = 9
    ignore_index: int = 255
    label_colors: list[list[int]] | None = None

    def __post_init__(self, **kwargs):
        if self.id2label is None and "num_labels" not in kwargs:
            kwargs["num_labels"] = 8  # the paper merges Cityscapes' classes into 8
        if self.id2label is not None and self.label2id is None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        super().__post_init__(**kwargs)

    @classmethod
    def published(cls, **overrides) -> "SPGNetConfig":
        """The published size: 96 M parameters, 70 GFLOP (2 x MAC) at 256x256, both stages, for 8 classes."""
        return cls(**overrides)

    @classmethod
    def matched(cls, **overrides) -> "SPGNetConfig":
        """As much arithmetic as `SGENetConfig.small`: 15 GFLOP at 256x256, both stages, for 11 classes."""
        return cls(**{"width": 28, **overrides})

    def validate_architecture(self):
        """Checks that the values fit together; runs after `__init__`.

        Raises:
            ValueError: If they do not.
        """
        super().validate_architecture()
        if min(self.width, self.num_blocks) < 1:
            raise ValueError("`width` and `num_blocks` must be positive.")
        if self.num_labels < 2:
            raise ValueError(f"A segmentation needs at least 2 classes, got num_labels={self.num_labels}.")
        if 0 <= self.ignore_index < self.num_labels:
            raise ValueError(f"`ignore_index` {self.ignore_index} is also a class; use one outside 0..num_labels - 1.")
        if self.label_colors is not None and len(self.label_colors) != self.num_labels:
            raise ValueError(f"`label_colors` has {len(self.label_colors)} colours for {self.num_labels} classes.")


@dataclass
class SPGNetOutput(ModelOutput):
    """Output of [`SPGNetModel`].

    Args:
        loss (`torch.Tensor`, *optional*):
            Always None: the training losses live outside the model.
        composite (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
            The filled photo in [-1, 1]: `pixel_values` where the mask is 0, SG-Net's image where it is 1.
        images (`tuple` of `torch.Tensor` of shape `(batch_size, 3, height, width)`):
            SG-Net's image, alone.
        logits (`tuple` of `torch.Tensor` of shape `(batch_size, num_labels, height, width)`):
            SP-Net's segmentation before the softmax, alone.
        labels (`torch.Tensor` of shape `(batch_size, height, width)`):
            The classes that SG-Net saw: SP-Net's likeliest, a `semantic_prompt` where given.
    """

    loss: torch.FloatTensor | None = None
    composite: torch.FloatTensor | None = None
    images: tuple[torch.FloatTensor, ...] | None = None
    logits: tuple[torch.FloatTensor, ...] | None = None
    labels: torch.LongTensor | None = None


class SPGNetResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, num_channels: int):
        super().__init__()
        # Instance norm takes the mean away, so none of the convolutions before it has a bias. (Batch norm, which
        # others use here, would make results depend on how many processes share a batch.)
        self.conv1 = nn.Conv2d(num_channels, num_channels, 3, padding=1, padding_mode="reflect", bias=False)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, padding=1, padding_mode="reflect", bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = F.relu(F.instance_norm(self.conv1(hidden_states)))
        return hidden_states + F.instance_norm(self.conv2(residual))


class SPGNetGenerator(nn.Module):
    """Down to a sixteenth, residual blocks, up again."""

    def __init__(self, config: SPGNetConfig, channels_in: int, channels_out: int):
        super().__init__()
        widths = [config.width * factor for factor in (1, 2, 4, 8)]
        self.stem = nn.Conv2d(channels_in, widths[0], 7, stride=2, padding=3, bias=False)
        self.downsamplers = nn.ModuleList(
            nn.Conv2d(wide, wider, 3, stride=2, padding=1, bias=False) for wide, wider in pairwise(widths)
        )
        self.blocks = nn.Sequential(*(SPGNetResidualBlock(widths[-1]) for _ in range(config.num_blocks)))
        rising = [widths[-1], *reversed(widths)]
        self.upsamplers = nn.ModuleList(
            nn.ConvTranspose2d(wider, wide, 3, stride=2, padding=1, output_padding=1, bias=False)
            for wider, wide in pairwise(rising)
        )
        self.head = nn.Conv2d(widths[0], channels_out, 7, padding=3, padding_mode="reflect")

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        hidden_states = planes
        for layer in (self.stem, *self.downsamplers):  # (B, channels_in, H, W) -> (B, 8C, H/16, W/16)
            hidden_states = F.relu(F.instance_norm(layer(hidden_states)))
        hidden_states = self.blocks(hidden_states)
        for layer in self.upsamplers:  # (B, 8C, H/16, W/16) -> (B, C, H, W)
            hidden_states = F.relu(F.instance_norm(layer(hidden_states)))
        return self.head(hidden_states)


class SPGNetModel(SGENetPreTrainedModel):
    """SPG-Net behind the interface of [`SGENetModel`].

    Example:
        >>> model = SPGNetModel.from_pretrained("path/or/hub-id")
        >>> output = model(pixel_values, mask)  # (B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole
        >>> output.composite, output.logits[-1]
    """

    config: SPGNetConfig
    config_class = SPGNetConfig
    base_model_prefix = "spgnet"
    supports_gradient_checkpointing = False
    _no_split_modules = ("SPGNetGenerator",)

    def __init__(self, config: SPGNetConfig):
        super().__init__(config)
        self.prediction = SPGNetGenerator(config, channels_in=4, channels_out=config.num_labels)
        self.guidance = SPGNetGenerator(config, channels_in=4 + config.num_labels, channels_out=3)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                init.zeros_(module.bias)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.FloatTensor,
        mask: torch.FloatTensor,
        semantic_prompt: torch.LongTensor | None = None,
    ) -> SPGNetOutput:
        """Fills the hole.

        Args:
            pixel_values: RGB photos in [-1, 1], shape (B, 3, H, W), any size. What lies in the hole is never read.
            mask: 1 = hole, 0 = known, shape (B, 1, H, W).
            semantic_prompt: Class ids, -1 = let the network decide, shape (B, H, W). Where given, they replace
                SP-Net's labels; in training the true ones may.

        Raises:
            ValueError: If the shapes do not fit together.
        """
        check_inputs(pixel_values, mask, semantic_prompt, None, self.config.num_labels)
        height, width = pixel_values.shape[-2:]
        hole = (mask > 0.5).to(pixel_values.dtype)
        known_photo = torch.where(hole > 0, 0.0, pixel_values).to(pixel_values.dtype)  # a NaN in the hole ends here
        photo_and_mask = pad_by_repeating(torch.cat([known_photo, hole], dim=1))

        logits = self.prediction(photo_and_mask)
        # One label per pixel, as in the paper: no gradient passes from the image to SP-Net.
        labels = logits.argmax(dim=1)
        if semantic_prompt is not None:
            padding = (0, labels.shape[2] - width, 0, labels.shape[1] - height)
            prompt = F.pad(semantic_prompt, padding, value=-1)
            labels = torch.where(prompt >= 0, prompt, labels)
        label_planes = F.one_hot(labels, self.config.num_labels).permute(0, 3, 1, 2).to(photo_and_mask.dtype)
        image = self.guidance(torch.cat([label_planes, photo_and_mask], dim=1)).tanh()

        image, logits = image[..., :height, :width], logits[..., :height, :width]
        composite = torch.where(hole > 0, image.to(pixel_values.dtype), pixel_values)
        return SPGNetOutput(composite=composite, images=(image,), logits=(logits,), labels=labels[:, :height, :width])


__all__ = ["SPGNetConfig", "SPGNetModel", "SPGNetOutput"]
