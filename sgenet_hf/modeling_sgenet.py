"""SGE-Net: semantic guidance and evaluation for image inpainting (paper sections 3.1 and 3.2).

The file reads in the order in which the data flows:

    photo, mask -> encoder -> context inference (CIM) -> per scale l = 4, 3, 2, 1:
        heads (Eq. 1) -> evaluation (SCEM, Eq. 4) -> guided inference (SGIM, Eq. 3; SGIM+, Eq. 5, 6) -> scale 0: heads
    beside it, not in the paper: at scale 3 patches of the known part are pasted into the hole for the finer scales; at
    scale 2 the error that is to be expected; at scale 0 the fill is redrawn with patches of the known part, for whose
    colours the network sees the mirrored photo too

Symbols of the paper and their names here:

| paper | here | shape |
|---|---|---|
| X, M | `pixel_values`, `mask` (1 = hole) | (B, 3, H, W), (B, 1, H, W) |
| encoder phi^l | `skips[l]` | (B, widths[l], H / 2^l, W / 2^l) |
| decoder phi^l | `hidden_states` | same as the skip of its level |
| Y^l, S^l | `image`, `logits` | (B, 3, h, w), (B, num_labels, h, w) |
| S^l_Pmax | `confidence` | (B, 1, h, w), in [0, 1] |
| M^l | `reliability` (1 = reliable; the paper's figures draw unreliable white) | (B, 1, h, w) |
| F_ba, F_bi, F | `base_net`, `bias_net`, `reliability_embedding` | |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from .configuration_sgenet import (
    NUM_SCALES,
    SGENetConfig,
    check_guidance_scale,
    check_noise_strength,
    check_redrawn_share,
)
from .patch_synthesis import redraw, smooth


COARSEST = NUM_SCALES - 1
STRIDE = 2**COARSEST  # sides are padded to a multiple of this
MINIMUM_SIDE = 64  # below, the coarsest level would have fewer than 4x4 cells
NEGATIVE_SLOPE = 0.2
ERROR_SCALE = 2  # deep enough to know what is there, fine enough to know where
ATTENTION_SCALE = 3  # has inferred what is there, and three scales still profit
COLOUR_SCALE = 2  # its image, enlarged, is nearer to the truth than the finest, which draws texture
GRAIN = 3  # pixels: details that the network draws alone
MAX_SOURCES = 2**14  # known cells to choose from, all those of 512x512 pixels; more are thinned
PAIRS_AT_ONCE = 2**23  # of hole and known cells: a few times 32 MB
FACTORS = {  # options of a forward pass, and what judges them
    "noise_strength": check_noise_strength,
    "guidance_scale": check_guidance_scale,
    "redrawn_share": check_redrawn_share,
}


@dataclass
class SGENetScale:
    """What the network says at one scale; fields as in [`SGENetOutput`], without the tuples."""

    image: torch.Tensor
    logits: torch.Tensor
    confidence: torch.Tensor
    reliability_mask: torch.Tensor | None


@dataclass
class SGENetOutput(ModelOutput):
    """Output of [`SGENetModel`]. Tuples run coarse to fine: scale 4 first, scale 0 last.

    Scale l has height ceil(H / 2^l) and width ceil(W / 2^l).

    Args:
        loss (`torch.Tensor`, *optional*):
            Always None: the training losses live outside the model, because Eq. 8 needs a second network.
        composite (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
            The filled photo in [-1, 1]: `pixel_values` where the mask is 0, the finest image where it is 1.
        images (`tuple` of `torch.Tensor` of shape `(batch_size, 3, height / 2^l, width / 2^l)`):
            Y^l of Eq. 1, raw and unclamped; scale 0's with `pasted_share` and `redrawn_share` applied.
        logits (`tuple` of `torch.Tensor` of shape `(batch_size, num_labels, height / 2^l, width / 2^l)`):
            S^l of Eq. 1 before the softmax.
        confidences (`tuple` of `torch.Tensor` of shape `(batch_size, 1, height / 2^l, width / 2^l)`):
            P_max of section 3.2, in [0, 1]; under a semantic prompt the probability of the prompted class.
        reliability_masks (`tuple` of `torch.Tensor` of shape `(batch_size, 1, height / 2^l, width / 2^l)`):
            M^l of Eq. 4, 1 = reliable, 0 = to be corrected at the next scale. Scale 0's is never fed back. None for
            Base-Net and SG-Net.
        expected_error (`torch.Tensor` of shape `(batch_size, 1, height / 4, width / 4)`, *optional*):
            How far the network expects `composite` to be from the true photo in the hole: mean absolute difference of
            the colours in each cell, in the units of `pixel_values` (127.5 times it in 8-bit values), at least 0.
            Outside the hole, and where a prompt asks for something else than what was there, it means nothing. None
            without `error_estimation`.
        pasted (`torch.Tensor` of shape `(batch_size, 3, height, width)`, *optional*):
            The photo with its hole filled by `contextual_attention` alone, in [-1, 1]: what the scales 2, 1 and 0 had
            before them, but for where a prompt spoke. Mid-grey (0) where there was nothing to paste. None without
            that part.
    """

    loss: torch.FloatTensor | None = None
    composite: torch.FloatTensor | None = None
    images: tuple[torch.FloatTensor, ...] | None = None
    logits: tuple[torch.FloatTensor, ...] | None = None
    confidences: tuple[torch.FloatTensor, ...] | None = None
    reliability_masks: tuple[torch.FloatTensor, ...] | None = None
    expected_error: torch.FloatTensor | None = None
    pasted: torch.FloatTensor | None = None

    def at_scale(self, scale: int) -> SGENetScale:
        """Returns scale `scale` as the paper counts: 4 is the coarsest, 0 the finest.

        Raises:
            ValueError: If there is no such scale.
        """
        if not 0 <= scale < NUM_SCALES:
            raise ValueError(f"Scales run from {COARSEST} (coarsest) to 0 (finest), got {scale}.")
        index = COARSEST - scale
        reliability = None if self.reliability_masks is None else self.reliability_masks[index]
        return SGENetScale(self.images[index], self.logits[index], self.confidences[index], reliability)


def starting_at(conv: nn.Conv2d, std: float) -> nn.Conv2d:
    """Marks a convolution to start with weights of this standard deviation (0: as zero) instead of He's; returns it.
    `_init_weights` of transformers 5 skips custom modules without parameters of their own, so the mark is here."""
    conv.initial_std = std
    return conv


class SGENetResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, without normalisation: the hole's zeros would shift its statistics."""

    def __init__(self, num_channels: int, dilation: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(num_channels, num_channels, 3, padding=dilation, dilation=dilation)
        # Without norms, every block starts as the identity.
        self.conv2 = starting_at(nn.Conv2d(num_channels, num_channels, 3, padding=1), std=0)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = self.conv1(self.activation(hidden_states))
        return hidden_states + self.conv2(self.activation(residual))


class SGENetEncoder(nn.Module):
    """Contextual features phi^0 .. phi^4 of the holed photo (section 3.1). The paper does not say how; we halve the
    grid with 4x4 convolutions and deepen from level 2 down, where a CPU does more arithmetic a second."""

    def __init__(self, config: SGENetConfig):
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(4, widths[0], 5, padding=2)
        self.downsamplers = nn.ModuleList(
            nn.Conv2d(widths[level - 1], widths[level], 4, stride=2, padding=1) for level in range(1, NUM_SCALES)
        )
        self.blocks = nn.ModuleList(
            SGENetResidualBlock(widths[level]) if level >= 2 else nn.Identity() for level in range(1, NUM_SCALES)
        )
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(self, photo_and_mask: torch.Tensor, deepest: int = COARSEST) -> list[torch.Tensor]:
        """Levels 0 to `deepest`."""
        hidden_states = self.stem(photo_and_mask)
        skips = [hidden_states]
        for downsampler, block in zip(self.downsamplers[:deepest], self.blocks[:deepest], strict=True):
            hidden_states = block(downsampler(self.activation(hidden_states)))  # (B, C, h, w) -> (B, C', h/2, w/2)
            skips.append(hidden_states)
        return skips


class SGENetContextInference(nn.Module):
    """Context Inference Module (CIM): first completion of the hole, at feature level, at the coarsest scale.

    The paper bases it on Context Encoders, whose channel-wise fully connected layer fixes the input size. We use that
    layer made shift-invariant, a large depthwise kernel with 1x1 mixing, and dilated residual blocks.
    """

    def __init__(self, config: SGENetConfig):
        super().__init__()
        width, kernel_size = config.widths[COARSEST], config.context_kernel_size
        self.mix_in = nn.Conv2d(width, width, 1)
        # Starts at zero, so that taps that reach beyond the training crops, and never learn, add nothing elsewhere.
        spread = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.spread = starting_at(spread, std=0)
        self.mix_out = nn.Conv2d(width, width, 1)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)
        self.blocks = nn.Sequential(
            *(SGENetResidualBlock(width, dilation=dilation) for dilation in config.context_dilations)
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        context = self.spread(self.activation(self.mix_in(hidden_states)))
        return self.blocks(hidden_states + self.mix_out(self.activation(context)))


class SGENetConfidenceEvaluation(nn.Module):
    """Segmentation Confidence Evaluation Module (SCEM), Eq. 4: where is the segmentation sure of itself?"""

    def __init__(self, config: SGENetConfig):
        super().__init__()
        self.tau_reading = config.tau_reading
        self.reliability_source = config.reliability_source
        self.first_reliability = config.first_reliability
        self.proportions = config.tau_proportions

    def extra_repr(self) -> str:
        return f"tau={self.tau_reading}{tuple(self.proportions)}, source={self.reliability_source}"

    def forward(self, confidence: torch.Tensor, hole: torch.Tensor, valid: torch.Tensor, scale: int) -> torch.Tensor:
        """Eq. 4: M^l = 1 where `confidence` (B, 1, h, w) exceeds tau^l, else 0; `hole` and `valid` are 0/1 maps."""
        if self.reliability_source == "ones":
            return torch.ones_like(hole)
        first_is_mask = scale == COARSEST and self.first_reliability == "mask"  # Fig. 7: M^4 is the input mask
        if self.reliability_source == "known" or first_is_mask:
            return 1 - hole
        return (confidence > self.tau(confidence, hole, valid, scale)).to(hole.dtype)

    def tau(self, confidence: torch.Tensor, hole: torch.Tensor, valid: torch.Tensor, scale: int) -> torch.Tensor:
        """The threshold of each photo, shape (B, 1, 1, 1). Padding (`valid` = 0) never enters."""
        proportion = self.proportions[COARSEST - scale]
        confidence = confidence.detach()
        if self.tau_reading == "max":
            return proportion * (confidence * valid).amax(dim=(1, 2, 3), keepdim=True)
        considered = valid * hole if self.tau_reading == "hole_quantile" else valid
        return masked_quantile(confidence, considered, proportion)


def masked_quantile(values: torch.Tensor, considered: torch.Tensor, proportion: float) -> torch.Tensor:
    """The value below which `proportion` of each sample's considered values lie, shape (B, 1, 1, 1); values >= 0.

    A sample without considered values gives -1, so that everything counts as above. (`torch.quantile` knows no mask
    and stops at 16 million elements.)
    """
    flat, keep = values.flatten(1), considered.flatten(1) > 0
    ordered = flat.masked_fill(~keep, torch.inf).sort(dim=1).values
    count = keep.sum(dim=1, keepdim=True)
    rank = ((count - 1) * proportion).round().long().clamp(min=0)
    quantile = ordered.gather(1, rank).masked_fill(count == 0, -1)
    return quantile[:, :, None, None]


class SGENetGuidance(nn.Module):
    """Eq. 3: normalise the features, then scale and shift them by what the segmentation says is there.

    gamma and beta come from S^l. SPADE's (1 + gamma) is the paper's gamma with another starting point. The paper does
    not say which normalisation; we use the parameter-free instance norm, here and nowhere else.
    """

    def __init__(self, config: SGENetConfig, level: int):
        super().__init__()
        self.resolution = config.guidance_resolution
        hidden_channels, num_channels = config.guidance_widths[COARSEST - level], config.widths[level - 1]
        self.shared = nn.Conv2d(config.num_labels, hidden_channels, 3, padding=1)
        self.gamma_beta = starting_at(
            nn.Conv2d(hidden_channels, 2 * num_channels, 3, padding=1), std=config.initializer_range
        )
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(
        self,
        hidden_states: torch.Tensor,
        segmentation: torch.Tensor,
        unprompted: torch.Tensor | None,
        scale: torch.Tensor | float,
        size: tuple[int, int],
    ) -> torch.Tensor:
        """`segmentation` (B, num_labels, h, w) guides. With `unprompted`, what it was without a prompt, gamma and beta
        go `scale` times (a number, or (B, 1, 1, 1)) the way from that one's."""
        gamma_beta = self.modulation(segmentation)
        if unprompted is not None:
            own = self.modulation(unprompted)
            gamma_beta = own + scale * (gamma_beta - own)
        gamma, beta = gamma_beta.chunk(2, dim=1)
        return instance_norm(hidden_states, size) * (1 + gamma) + beta

    def modulation(self, segmentation: torch.Tensor) -> torch.Tensor:
        """Gamma and beta on the finer grid, (B, 2 C', 2 h, 2 w)."""
        if self.resolution == "fine":
            segmentation = enlarge(segmentation)
        gamma_beta = self.gamma_beta(self.activation(self.shared(segmentation)))
        return enlarge(gamma_beta) if self.resolution == "coarse" else gamma_beta


class SGENetLearnedAffine(nn.Module):
    """Base-Net's stand-in for Eq. 3: the same normalisation with one learned scale and shift per channel."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(num_channels, 1, 1))

    def forward(
        self,
        hidden_states: torch.Tensor,
        segmentation: torch.Tensor,
        unprompted: torch.Tensor | None,
        scale: torch.Tensor | float,
        size: tuple[int, int],
    ) -> torch.Tensor:
        return instance_norm(hidden_states, size) * self.weight + self.bias


class SGENetGuidedInference(GradientCheckpointingLayer):
    """One decoder step from level l to l - 1: SGIM (Eq. 2 and 3) and, with reliability masks, SGIM+ (Eq. 5 and 6)."""

    def __init__(self, config: SGENetConfig, level: int):
        super().__init__()
        coarse_width, width = config.widths[level], config.widths[level - 1]
        self.narrow = nn.Conv2d(coarse_width, width, 1)
        # The paper normalises the concatenation; we merge first, which halves the cost of gamma and beta.
        self.merge = nn.Conv2d(2 * width, width, 3, padding=1)
        self.noise_channels = config.noise_channels
        if config.noise_channels:
            # Not zero: more noise of either sign is as good, so that zero would be a saddle.
            self.noise = starting_at(nn.Conv2d(config.noise_channels, width, 1, bias=False), std=0.1)
            self.first_plane = (level - 1) * config.noise_channels  # other noise at every level
        if config.semantic_guidance:
            self.guidance = SGENetGuidance(config, level)
        else:
            self.guidance = SGENetLearnedAffine(width)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)
        self.base_net = SGENetResidualBlock(width)
        # The paper does not draw one; SPADE's residual block, which Eq. 3 follows, keeps a shortcut around its norm.
        # Without it colour and brightness, which instance norm removes, fade from scale to scale.
        self.shortcut = nn.Conv2d(width, width, 1)
        if config.confidence_evaluation:
            self.smoothing = config.reliability_smoothing
            self.reliability_embedding = nn.Conv2d(1, config.reliability_channels, 3, padding=1)
            self.bias_net = nn.Sequential(
                nn.Conv2d(width + config.reliability_channels, width, 3, padding=1),
                nn.LeakyReLU(NEGATIVE_SLOPE),
                starting_at(nn.Conv2d(width, width, 3, padding=1), std=0),  # SGE-Net starts as SG-Net
            )
        else:
            self.bias_net = None

    def forward(
        self,
        hidden_states: torch.Tensor,
        skip: torch.Tensor,
        segmentation: torch.Tensor,
        unprompted: torch.Tensor | None,
        guidance_scale: torch.Tensor | float,
        reliability: torch.Tensor | None,
        noise_strength: torch.Tensor,
        size: tuple[int, int],
    ) -> torch.Tensor:
        """From (B, C, h, w) to (B, C', 2h, 2w). `skip` and `noise_strength` (B, 1, 2h, 2w), 0 outside the hole, are of
        the finer level, `segmentation`, `unprompted` (see [`SGENetGuidance`]) and `reliability` of the coarser one."""
        # Eq. 2: the features of level l, enlarged, meet the encoder's of level l - 1. `size` is without padding.
        context = torch.cat([enlarge(self.narrow(hidden_states)), skip], dim=1)  # (B, 2 C', 2h, 2w)
        merged = self.merge(self.activation(context))  # (B, C', 2h, 2w)
        if self.noise_channels:  # before the guidance, which decides for each class how much of it shows
            shift = torch.randint(2**20, (2,)) if self.training else None
            planes = range(self.first_plane, self.first_plane + self.noise_channels)
            noise = lattice_noise(planes, merged.shape[-2:], merged.device, shift)
            merged = merged + self.noise((noise * noise_strength).to(merged.dtype))
        modulated = self.guidance(merged, segmentation, unprompted, guidance_scale, size)
        base = self.shortcut(merged) + self.base_net(modulated)
        if self.bias_net is None:
            return base
        embedding = enlarge(self.reliability_embedding(smooth(reliability, self.smoothing)))
        return base + self.bias_net(torch.cat([self.activation(modulated), embedding], dim=1))  # Eq. 6


def instance_norm(hidden_states: torch.Tensor, size: tuple[int, int], eps: float = 1e-5) -> torch.Tensor:
    """Normalises each channel of (B, C, h, w) by its statistics over the top left `size`, which is the photo without
    padding. Unlike `F.instance_norm` it accepts planes of a single cell."""
    inside = hidden_states[..., : size[0], : size[1]].float()
    variance, mean = torch.var_mean(inside, dim=(2, 3), correction=0, keepdim=True)
    return ((hidden_states - mean) * torch.rsqrt(variance + eps)).to(hidden_states.dtype)


def lattice_noise(
    planes: range, size: tuple[int, int], device: torch.device, shift: torch.Tensor | None = None
) -> torch.Tensor:
    """White noise of mean 0 and variance 1, uniform, shape (1, len(planes), *size): an integer hash of plane, row and
    column, and so the same on every device and in every larger or smaller photo. `shift` (2,), on the CPU, moves the
    lattice."""
    plane = torch.arange(planes.start, planes.stop, device=device)
    rows, columns = (torch.arange(side, device=device) for side in size)
    if shift is not None:
        down, right = shift.tolist()
        rows, columns = rows + down, columns + right
    mixed = (plane[:, None, None] * 83492791 + rows[:, None] * 73856093 + columns * 19349663) & 0x7FFFFFFF
    for _ in range(2):
        mixed = ((mixed ^ (mixed >> 15)) * 73244475) & 0x7FFFFFFF
    return ((mixed ^ (mixed >> 15)).float() / 2**30 - 1)[None] * 3**0.5


def enlarge(hidden_states: torch.Tensor) -> torch.Tensor:
    """Doubles height and width bilinearly."""
    return F.interpolate(hidden_states, scale_factor=2, mode="bilinear", align_corners=False)


class SGENetContextualAttention(nn.Module):
    """Fills the hole with patches of the known part (not in the paper), for the finer scales to work from.

    Each cell of 4x4 pixels in the hole becomes a weighted mean of known patches of 8x8 pixels, which overlap. The
    weights are a softmax over two readings. *Similarity*: what scale 3 inferred for the cell against what it sees in
    the known cells, as in contextual attention (Yu et al., CVPR 2018). *Repetition*: how well the known part matches
    itself when it is shifted from the one cell to the other (statistics of offsets, He and Sun, ECCV 2012), which lets
    a row of windows go on in step.
    """

    cell = 2 ** (ATTENTION_SCALE - 1)  # pixels: those of the next finer scale
    patch = 2 * cell
    overlap = 0.03  # of the grid: shifts by which less of the known part meets itself say nothing

    def __init__(self, config: SGENetConfig):
        super().__init__()
        width, finer_width = config.widths[ATTENTION_SCALE], config.widths[ATTENTION_SCALE - 1]
        # Rotations at the start: cosines of the features themselves.
        self.similarity = nn.Conv2d(width, width, 1, bias=False)
        self.repetition = nn.Conv2d(finer_width, finer_width, 1, bias=False)
        # Of the softmax, for similarity and repetition. In hundreds, so that an optimiser's steps get somewhere.
        self.sharpness = nn.Parameter(torch.full((2,), 0.2))
        # How much of the pasted hole's features the decoder is shown, per channel of the levels 2, 1, 0. In tens.
        self.gates = nn.ParameterList(
            nn.Parameter(torch.full((config.widths[level], 1, 1), 0.03)) for level in (2, 1, 0)
        )

    def forward(
        self,
        photo: torch.Tensor,
        mask: torch.Tensor,
        hidden_states: torch.Tensor,
        skip: torch.Tensor,
        size: tuple[int, int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pastes over the hole.

        Args:
            photo: (B, 3, H, W), padded, 0 in the hole.
            mask: 1 = hole, (B, 1, H, W).
            hidden_states: The decoder's features of level 3.
            skip: The encoder's features of level 2.
            size: Height and width of the photo without padding.

        Returns:
            The pasted photo (B, 3, H, W), and for each photo 1 if it had a patch to paste, else 0, (B, 1, 1, 1).
            Without one it stays as it is.
        """
        margin = (self.patch - self.cell) // 2
        around = (margin,) * 4
        hole, not_known = F.max_pool2d(mask, self.cell), mask.clone()
        not_known[..., size[0] :, :] = 1
        not_known[..., size[1] :] = 1
        source = 1 - F.max_pool2d(F.pad(not_known, around, value=1), self.patch, stride=self.cell)  # whole patches
        content = F.normalize(self.similarity(standardize(enlarge(hidden_states), source)).float(), dim=1)
        texture = F.normalize(self.repetition(standardize(skip, source)).float(), dim=1)
        repetition = self_match(texture, source, self.overlap)
        patches = F.unfold(F.pad(photo, around, mode="replicate"), self.patch, stride=self.cell)  # (B, 3 * 64, h * w)
        filled = [
            self.paste(*sample)
            for sample in zip(content, repetition, patches, hole.bool()[:, 0], source.bool()[:, 0], strict=True)
        ]
        # What blends in the hole are its own cells' patches: those around it end in its emptiness.
        ramp = torch.sin(torch.pi * (torch.arange(self.patch, device=photo.device) + 0.5) / self.patch) ** 2
        weights = hole.flatten(2) * (ramp[:, None] * ramp).flatten()[:, None]  # (B, 64, h * w)
        padded = [side + 2 * margin for side in photo.shape[-2:]]
        total, weight = (
            F.fold(planes, padded, self.patch, stride=self.cell)[..., margin:-margin, margin:-margin]
            for planes in (torch.stack(filled) * weights.repeat(1, 3, 1), weights)
        )
        pasted = torch.where(mask > 0, total / weight.clamp(min=1e-3), photo).to(photo.dtype)
        return pasted, source.amax(dim=(2, 3), keepdim=True)

    @torch.compiler.disable  # how many cells there are depends on the mask
    def paste(
        self,
        content: torch.Tensor,
        repetition: torch.Tensor,
        patches: torch.Tensor,
        hole: torch.Tensor,
        source: torch.Tensor,
    ) -> torch.Tensor:
        """One photo's patches (3 * 64, h * w) with those of the cells in `hole` (h, w) replaced by means of those in
        `source` (h, w). `content` (C, h, w) has unit vectors, `repetition` (2 h, 2 w) a value for each shift."""
        wanted, known = hole.nonzero(), source.nonzero()
        if not len(known):  # the parameters take part all the same: DDP needs that
            return patches + 0 * (content.sum() + repetition.sum() + self.sharpness.sum()).to(patches.dtype)
        if len(known) > MAX_SOURCES:  # at random: every n-th would drop columns, and with them phases of a pattern
            order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
            known = known[order[:MAX_SOURCES].sort().values.to(known.device)]
        sharp_similarity, sharp_repetition = 100 * self.sharpness
        keys = content[:, known[:, 0], known[:, 1]]  # (C, K)
        values = patches[:, known[:, 0] * hole.shape[1] + known[:, 1]].T  # (K, 3 * 64)
        # With no shift in the middle of the table, a pair's place in it is the difference of two numbers.
        table = (sharp_repetition * torch.fft.fftshift(repetition)).flatten()
        width = repetition.shape[1]
        to, middle = known[:, 0] * width + known[:, 1], table.numel() // 2 + width // 2
        filled = []
        for cells in wanted.split(max(1, PAIRS_AT_ONCE // len(known))):
            start = cells[:, 0] * width + cells[:, 1] - middle
            queries = sharp_similarity * content[:, cells[:, 0], cells[:, 1]].T  # (Q, C)
            weights = table[to - start[:, None]] + (queries @ keys).float()  # (Q, K)
            filled.append(weights.softmax(dim=1).to(values.dtype) @ values)
        places = wanted[:, 0] * hole.shape[1] + wanted[:, 1]
        return patches.index_copy(1, places, torch.cat(filled).T.to(patches.dtype))

    def show(
        self, skips: list[torch.Tensor], pasted: list[torch.Tensor], where: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The encoder's features with those of the pasted photo mixed in at levels 0 to 2, in the cells of `where`."""
        mixed = list(skips)
        for level, gate in zip((2, 1, 0), self.gates, strict=True):
            mixed[level] = skips[level] + where[level] * (10 * gate) * (pasted[level] - skips[level])
        return mixed


def standardize(hidden_states: torch.Tensor, where: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Normalises each channel of (B, C, h, w) by its mean and deviation over the cells of `where` (B, 1, h, w)."""
    values, where = hidden_states.float(), where.float()
    count = where.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    centred = values - (values * where).sum(dim=(2, 3), keepdim=True) / count
    variance = (centred.square() * where).sum(dim=(2, 3), keepdim=True) / count
    return (centred * torch.rsqrt(variance + eps)).to(hidden_states.dtype)


def self_match(vectors: torch.Tensor, where: torch.Tensor, least: float) -> torch.Tensor:
    """Mean cosine between unit vectors (B, C, h, w) and themselves shifted, over the cells that both lie in `where`
    (B, 1, h, w): (B, 2 h, 2 w), indexed by the shift, negative ones from the end; -1 where fewer than `least` of all
    cells meet."""
    where = where.to(vectors.dtype)
    shape = [2 * side for side in vectors.shape[-2:]]  # room for every shift
    spectrum, plane = torch.fft.rfft2(vectors * where, s=shape), torch.fft.rfft2(where, s=shape)
    match = torch.fft.irfft2(spectrum.abs().square().sum(dim=1), s=shape)
    count = torch.fft.irfft2(plane.abs().square(), s=shape)[:, 0].round()
    enough = count >= max(1, least * where[0].numel())
    return torch.where(enough, match / count.clamp(min=1), -1.0)


class SGENetHeads(nn.Module):
    """Eq. 1: Y^l = h(phi^l) and S^l = g(phi^l). Linear: a tanh cannot reach the white skies of real photos."""

    def __init__(self, config: SGENetConfig, level: int):
        super().__init__()
        width, std = config.widths[level], config.initializer_range
        self.image = starting_at(nn.Conv2d(width, 3, 3, padding=1), std)
        self.segmentation = starting_at(nn.Conv2d(width, config.num_labels, 3, padding=1), std)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden_states = self.activation(hidden_states)
        return self.image(hidden_states), self.segmentation(hidden_states)


class SGENetErrorHead(nn.Module):
    """Expected absolute error of the fill, (B, 1, h, w), at least 0. The confidence of SCEM knows how sure the
    *segmentation* is; a brick wall can be certain and yet impossible to repeat. No gradient passes to the features.
    """

    def __init__(self, config: SGENetConfig):
        super().__init__()
        width = config.widths[ERROR_SCALE]
        self.conv1 = nn.Conv2d(width, width // 2, 3, padding=1)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=2, dilation=2)
        self.out = starting_at(nn.Conv2d(width // 2, 1, 1), config.initializer_range)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.conv1(self.activation(hidden_states.detach()))
        hidden_states = self.conv2(self.activation(hidden_states))
        error = F.softplus(self.out(self.activation(hidden_states)).float() - 1.5)  # starts at .2, a common error
        return error.clamp(max=2)  # no two colours are further apart


class SGENetPreTrainedModel(PreTrainedModel):
    """Weight initialisation and what `transformers` has to know."""

    config: SGENetConfig
    config_class = SGENetConfig
    base_model_prefix = "sgenet"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ("SGENetGuidedInference",)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, output_loading_info=False, **kwargs):
        """Loads a checkpoint whole or not at all; arguments as in `PreTrainedModel.from_pretrained`.

        `transformers` would take the default configuration where config.json is missing, and random weights where
        weights are missing, and go on.

        Raises:
            OSError: If config.json is missing or of another model.
            RuntimeError: If weights are missing or do not fit.
        """
        name = pretrained_model_name_or_path
        if config is None and name is not None:
            values, _ = cls.config_class.get_config_dict(name, **kwargs)
            wanted, found = cls.config_class.model_type, values.get("model_type")
            if found != wanted:
                raise OSError(f"{name} needs a config.json of model type {wanted!r}; its model type is {found!r}.")
        model, loading = super().from_pretrained(name, *args, config=config, output_loading_info=True, **kwargs)
        if loading["missing_keys"]:
            missing = sorted(loading["missing_keys"])
            raise RuntimeError(f"{name} lacks {len(missing)} weights such as {missing[0]}: fetch it again.")
        return (model, loading) if output_loading_info else model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        if isinstance(module, nn.Conv2d):
            if hasattr(module, "initial_std"):
                init.normal_(module.weight, std=module.initial_std)
            else:
                init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, SGENetLearnedAffine):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, SGENetContextualAttention):
            init.orthogonal_(module.similarity.weight)
            init.orthogonal_(module.repetition.weight)
            init.constant_(module.sharpness, 0.2)
            for gate in module.gates:
                init.constant_(gate, 0.03)


class SGENetModel(SGENetPreTrainedModel):
    """SGE-Net, and with its switches off SG-Net and Base-Net (see [`SGENetConfig`]).

    Example:
        >>> model = SGENetModel.from_pretrained("path/or/hub-id")
        >>> output = model(pixel_values, mask)  # (B, 3, H, W) in [-1, 1] and (B, 1, H, W), 1 = hole
        >>> output.composite, output.at_scale(2).logits
    """

    def __init__(self, config: SGENetConfig):
        super().__init__(config)
        config.validate()  # `from_pretrained(..., noise_strength=-3)` sets values past the configuration's own checks
        self.encoder = SGENetEncoder(config)
        self.context_inference = SGENetContextInference(config)
        # Both lists run coarse to fine: heads for scales 4..0, steps into levels 3..0.
        self.heads = nn.ModuleList(SGENetHeads(config, level) for level in range(COARSEST, -1, -1))
        self.steps = nn.ModuleList(SGENetGuidedInference(config, level) for level in range(COARSEST, 0, -1))
        self.evaluation = SGENetConfidenceEvaluation(config) if config.confidence_evaluation else None
        self.error_head = SGENetErrorHead(config) if config.error_estimation else None
        self.contextual_attention = SGENetContextualAttention(config) if config.contextual_attention else None
        self.post_init()

    def forward(
        self,
        pixel_values: torch.FloatTensor,
        mask: torch.FloatTensor,
        semantic_prompt: torch.LongTensor | None = None,
        pixel_mask: torch.LongTensor | None = None,
        labelled: torch.BoolTensor | None = None,
        noise_strength: torch.FloatTensor | float | None = None,
        guidance_scale: torch.FloatTensor | float | None = None,
        redrawn_share: torch.FloatTensor | float | None = None,
        return_dict: bool | None = None,
    ) -> SGENetOutput | tuple:
        """Fills the hole.

        Args:
            pixel_values: RGB photos in [-1, 1], shape (B, 3, H, W), any size. What lies in the hole is never read.
            mask: 1 = hole, 0 = known, shape (B, 1, H, W).
            semantic_prompt: Class ids, -1 = let the network decide, shape (B, H, W). Where given, they replace the
                network's own segmentation in the guidance of every scale.
            pixel_mask: 1 = photo, 0 = padding right or below, shape (B, H, W), for photos of several sizes in a
                batch. Each photo is filled as if it were alone; the padding of the results is 0.
            labelled: Per sample, whether labels train its segmentation, shape (B,). Where False no gradient passes
                from the image through the segmentation, which would otherwise become a free latent.
            noise_strength: How much noise enters the hole, 0 to `MAX_NOISE_STRENGTH`: a number, or one for each photo,
                shape (B,). By default the configuration's; without effect on a network without `noise_channels`.
            guidance_scale: How far a prompt pulls, 0 to `MAX_GUIDANCE_SCALE`: a number, or one for each photo, shape
                (B,). By default the configuration's, in training 1.
            redrawn_share: How much of the finest image is redrawn with patches of the known part, 0 to 1: a number, or
                one for each photo, shape (B,). By default the configuration's; without effect in training. What there
                is to redraw depends on the mask: pass 0 to export the network, or to compile it as one graph, which a
                network with `contextual_attention` cannot be either.
            return_dict: False for a tuple in place of [`SGENetOutput`].

        Raises:
            ValueError: If the shapes do not fit together or a padded photo is not at the top left.
        """
        check_inputs(pixel_values, mask, semantic_prompt, pixel_mask, self.config.num_labels)
        factors = {
            "noise_strength": noise_strength,
            "guidance_scale": guidance_scale,
            "redrawn_share": redrawn_share,
        }
        check_factors(len(pixel_values), factors)
        if pixel_mask is not None:
            output = self._forward_ragged(pixel_values, mask, semantic_prompt, pixel_mask, labelled, factors)
            return output if self._wants_dict(return_dict) else output.to_tuple()

        height, width = pixel_values.shape[-2:]
        hole = (mask > 0.5).to(pixel_values.dtype)
        known_photo = torch.where(hole > 0, 0.0, pixel_values).to(pixel_values.dtype)  # a NaN in the hole ends here
        photo_and_mask = pad_by_repeating(torch.cat([known_photo, hole], dim=1))
        hole_padded = photo_and_mask[:, 3:]
        prompt = None if semantic_prompt is None else self.prompt_planes(semantic_prompt, hole.dtype)

        holes = [F.max_pool2d(hole_padded, 2**scale) for scale in range(NUM_SCALES)]  # a cell is hole if any pixel is
        skips = self.encoder(photo_and_mask)
        hidden_states = self.context_inference(skips[COARSEST])

        if noise_strength is None:
            noise_strength = self.config.noise_strength
        if isinstance(noise_strength, torch.Tensor):
            noise_strength = noise_strength.view(-1, 1, 1, 1)
        if guidance_scale is None:
            guidance_scale = 1 if self.training else self.config.guidance_scale
        if isinstance(guidance_scale, torch.Tensor):
            guidance_scale = guidance_scale.view(-1, 1, 1, 1).to(hole.dtype)
        as_trained = not isinstance(guidance_scale, torch.Tensor) and guidance_scale == 1
        images, logits, confidences, reliabilities, expected_error = [], [], [], [], None
        pasted, shown = None, None
        # A prompt may ask for what the photo does not have.
        left_open = hole_padded if prompt is None else hole_padded * (1 - prompt.sum(dim=1, keepdim=True))
        for index, scale in enumerate(range(COARSEST, -1, -1)):
            size = scale_size(height, width, scale)
            image, scale_logits = self.heads[index](hidden_states)  # Eq. 1
            if scale == 0 and pasted is not None and not self.training:
                image = image + self.config.pasted_share * shown[0] * smooth(pasted - image, GRAIN)
            guidance, unprompted, confidence = self.read_segmentation(scale_logits, prompt, labelled, scale)
            reliability = None
            if self.evaluation is not None:  # Eq. 4
                valid = torch.zeros_like(holes[scale])
                valid[..., : size[0], : size[1]] = 1
                reliability = self.evaluation(confidence, holes[scale], valid, scale)
                reliabilities.append(reliability[..., : size[0], : size[1]])
            images.append(image[..., : size[0], : size[1]])
            logits.append(scale_logits[..., : size[0], : size[1]])
            confidences.append(confidence[..., : size[0], : size[1]])
            if scale == ERROR_SCALE and self.error_head is not None:
                expected_error = self.error_head(hidden_states)[..., : size[0], : size[1]]
            if scale == ATTENTION_SCALE and self.contextual_attention is not None:
                pasted, has_source = self.contextual_attention(
                    photo_and_mask[:, :3], hole_padded, hidden_states, skips[scale - 1], (height, width)
                )
                as_known = torch.cat([pasted, torch.zeros_like(hole_padded)], dim=1)
                pasted_skips = self.encoder(as_known, deepest=ATTENTION_SCALE - 1)
                shown = [has_source * F.max_pool2d(left_open, 2**level) for level in range(ATTENTION_SCALE)]
                skips = self.contextual_attention.show(skips, pasted_skips, shown)
            if scale > 0:  # Eq. 5
                finer = scale_size(height, width, scale - 1)
                hidden_states = self.steps[index](
                    hidden_states,
                    skips[scale - 1],
                    guidance,
                    None if as_trained else unprompted,
                    guidance_scale,
                    reliability,
                    noise_strength * holes[scale - 1],
                    finer,
                )

        if redrawn_share is None:
            redrawn_share = self.config.redrawn_share
        if not self.training and (isinstance(redrawn_share, torch.Tensor) or redrawn_share > 0):
            images[-1] = self.redraw_holes(
                images, logits[-1], photo_and_mask, left_open, semantic_prompt, factors, redrawn_share
            )

        composite = torch.where(hole > 0, images[-1].clamp(-1, 1).to(pixel_values.dtype), pixel_values)
        output = SGENetOutput(
            composite=composite,
            images=tuple(images),
            logits=tuple(logits),
            confidences=tuple(confidences),
            reliability_masks=tuple(reliabilities) or None,
            expected_error=expected_error,
            pasted=None if pasted is None else pasted[..., :height, :width],
        )
        return output if self._wants_dict(return_dict) else output.to_tuple()

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return self.config.return_dict if return_dict is None else return_dict

    @torch.compiler.disable  # what there is to redraw depends on the hole
    def redraw_holes(
        self,
        images: Sequence[torch.Tensor],
        logits: torch.Tensor,
        photo_and_mask: torch.Tensor,
        left_open: torch.Tensor,
        semantic_prompt: torch.Tensor | None,
        factors: Mapping[str, torch.Tensor | float | None],
        share: torch.Tensor | float,
    ) -> torch.Tensor:
        """Mixes into the finest of the images (B, 3, H, W) what known patches make of the hole, but for where a prompt
        speaks. Logits are the finest too; photo and mask, and what is left open, come padded. The colours are the mean
        of the photo's and the mirrored photo's, which err apart."""
        finest = images[-1]
        if isinstance(share, torch.Tensor):
            shares = share.tolist()
            for each in shares:
                check_redrawn_share(each)
        else:
            shares = len(finest) * [share]
        height, width = finest.shape[-2:]
        left_open = left_open[..., :height, :width]
        members = [index for index, each in enumerate(shares) if each and left_open[index].any()]
        if not members:
            return finest
        coarser = images[COARSEST - COLOUR_SCALE][members]
        mirrored = self.mirrored_image(
            COLOUR_SCALE,
            photo_and_mask[members],
            None if semantic_prompt is None else semantic_prompt[members],
            {name: each[members] if isinstance(each, torch.Tensor) else each for name, each in factors.items()},
        )
        coarser = (coarser + mirrored[..., : coarser.shape[-2], : coarser.shape[-1]]) / 2
        colours = F.interpolate(coarser.float(), scale_factor=2**COLOUR_SCALE, mode="bicubic", align_corners=False)
        colours = colours[..., :height, :width]
        photo, hole = photo_and_mask[members, :, :height, :width].split([3, 1], dim=1)
        filled = torch.where(hole > 0, finest[members].clamp(-1, 1), photo)
        probabilities = logits[members].float().softmax(dim=1)
        mixed = finest.clone()
        for number, index in enumerate(members):
            drawn, open_ = filled[number], left_open[index, 0]
            redrawn = redraw(drawn, hole[number, 0], probabilities[number], colours[number], open_)
            if redrawn is not drawn:
                mixed[index] = torch.where(open_ > 0, torch.lerp(drawn, redrawn, shares[index]), finest[index])
        return mixed

    @torch.no_grad()
    def mirrored_image(
        self,
        scale: int,
        photo_and_mask: torch.Tensor,
        semantic_prompt: torch.Tensor | None,
        factors: Mapping[str, torch.Tensor | float | None],
    ) -> torch.Tensor:
        """A scale's image of padded photos that the network sees mirrored, mirrored back."""
        if semantic_prompt is not None:
            semantic_prompt = pad_by_repeating(semantic_prompt[:, None].float())[:, 0].long().flip(-1)
        photo, hole = photo_and_mask.flip(-1).split([3, 1], dim=1)
        output = self(photo, hole, semantic_prompt, **{**factors, "redrawn_share": 0}, return_dict=True)
        return output.at_scale(scale).image.flip(-1)

    def read_segmentation(
        self, logits: torch.Tensor, prompt: torch.Tensor | None, labelled: torch.Tensor | None, scale: int
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Turns S^l's logits into what guides, (B, num_labels, h, w), what would guide without the prompt (None if
        there is none), and how sure the network is, (B, 1, h, w).

        A prompted cell guides with the prompt, yet its confidence stays the network's own probability of that class:
        the one-hot's 1 would tell the bias net that there is nothing to do.
        """
        # Confidence stays float32: rounded to bfloat16, many cells would be exactly 1 and none above tau.
        probabilities = logits.float().softmax(dim=1)
        confidence = probabilities.amax(dim=1, keepdim=True)
        guidance = probabilities.to(logits.dtype)
        if self.config.guidance_probabilities == "hard":
            guidance = torch.zeros_like(guidance).scatter_(1, guidance.argmax(dim=1, keepdim=True), 1)
        if labelled is not None:
            guidance = torch.where(labelled.bool()[:, None, None, None], guidance, guidance.detach())
        if prompt is None:
            return guidance, None, confidence
        prompted = F.avg_pool2d(prompt, 2**scale)
        share = prompted.sum(dim=1, keepdim=True)  # of each cell's area that the prompt covers, in [0, 1]
        confidence = (prompted * probabilities).sum(dim=1, keepdim=True) + (1 - share) * confidence
        return prompted + (1 - share) * guidance, guidance, confidence

    def prompt_planes(self, semantic_prompt: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """One 0/1 plane per class, (B, num_labels, H', W') padded like the photo; all 0 where nothing is prompted."""
        classes = torch.arange(self.config.num_labels, device=semantic_prompt.device)[:, None, None]
        return pad_by_repeating((semantic_prompt[:, None] == classes).to(dtype))

    def _forward_ragged(self, pixel_values, mask, semantic_prompt, pixel_mask, labelled, factors) -> SGENetOutput:
        """Fills photos of one size together and puts the results back into zero-padded batches: whatever padding does
        to convolutions and statistics at its edge, a photo must not look different for its neighbours in the batch."""
        heights, widths = pixel_mask.amax(dim=2).sum(dim=1).tolist(), pixel_mask.amax(dim=1).sum(dim=1).tolist()
        sizes = [(int(height), int(width)) for height, width in zip(heights, widths, strict=True)]
        for (height, width), sample in zip(sizes, pixel_mask, strict=True):
            if not (height and width and sample[:height, :width].all()):
                raise ValueError("Each photo must fill the top left of its `pixel_mask`; pad right and below only.")
        results: dict[int, SGENetOutput] = {}
        for size in dict.fromkeys(sizes):
            members = [index for index, other in enumerate(sizes) if other == size]
            output = self(
                pixel_values[members, :, : size[0], : size[1]],
                mask[members, :, : size[0], : size[1]],
                None if semantic_prompt is None else semantic_prompt[members, : size[0], : size[1]],
                labelled=None if labelled is None else labelled[members],
                **{
                    name: factor[members] if isinstance(factor, torch.Tensor) else factor
                    for name, factor in factors.items()
                },
                return_dict=True,
            )
            for row, index in enumerate(members):
                results[index] = SGENetOutput(
                    **{
                        name: tuple(plane[row] for plane in value) if isinstance(value, tuple) else value[row]
                        for name, value in output.items()
                    }
                )
        ordered = [results[index] for index in range(len(sizes))]
        full = pixel_values.shape[-2:]

        def stack_one(name: str, scale: int) -> torch.Tensor:
            return torch.stack([pad_to(sample[name], scale_size(*full, scale)) for sample in ordered])

        def stack(name: str) -> tuple[torch.Tensor, ...]:
            return tuple(
                torch.stack([pad_to(sample[name][index], scale_size(*full, COARSEST - index)) for sample in ordered])
                for index in range(NUM_SCALES)
            )

        return SGENetOutput(
            composite=stack_one("composite", 0),
            images=stack("images"),
            logits=stack("logits"),
            confidences=stack("confidences"),
            reliability_masks=None if self.evaluation is None else stack("reliability_masks"),
            expected_error=None if self.error_head is None else stack_one("expected_error", ERROR_SCALE),
            pasted=None if self.contextual_attention is None else stack_one("pasted", 0),
        )


def check_inputs(
    pixel_values: torch.Tensor,
    mask: torch.Tensor,
    semantic_prompt: torch.Tensor | None,
    pixel_mask: torch.Tensor | None,
    num_labels: int | None = None,
) -> None:
    """Compares the shapes of the model's inputs, and the prompt's ids with the classes.

    Raises:
        ValueError: If one does not fit, with the shape that would.
    """
    if pixel_values.ndim != 4 or pixel_values.shape[1] != 3 or 0 in pixel_values.shape:
        raise ValueError(f"`pixel_values` must have shape (batch, 3, height, width), got {tuple(pixel_values.shape)}.")
    batch_size, _, height, width = pixel_values.shape
    if mask.shape != (batch_size, 1, height, width):
        raise ValueError(f"`mask` must have shape {(batch_size, 1, height, width)}, got {tuple(mask.shape)}.")
    for name, plane in (("semantic_prompt", semantic_prompt), ("pixel_mask", pixel_mask)):
        if plane is not None and plane.shape != (batch_size, height, width):
            raise ValueError(f"`{name}` must have shape {(batch_size, height, width)}, got {tuple(plane.shape)}.")
    if semantic_prompt is not None and semantic_prompt.is_floating_point():
        raise ValueError("`semantic_prompt` holds class ids; give integers, -1 where the network may decide.")
    if semantic_prompt is None or num_labels is None or semantic_prompt.is_meta or torch.compiler.is_compiling():
        return  # nothing, no values, or a graph that may not depend on values
    lowest, highest = torch.stack(semantic_prompt.aminmax()).tolist()  # a GPU is asked once
    if lowest < -1 or highest >= num_labels:
        wrong = highest if highest >= num_labels else lowest
        raise ValueError(f"`semantic_prompt` holds {wrong}; ids run from 0 to {num_labels - 1}, -1 leaves it open.")


def check_factors(batch_size: int, factors: Mapping[str, torch.Tensor | float | None]) -> None:
    """Judges the factors of a forward pass, by name, where they are given.

    Raises:
        ValueError: If one is a number out of range, or has another shape than one value for each photo.
    """
    for name, factor in factors.items():
        if isinstance(factor, torch.Tensor):
            if factor.shape != (batch_size,):
                found = tuple(factor.shape)
                raise ValueError(f"`{name}` must be a number or have shape {(batch_size,)}, got {found}.")
        elif factor is not None:
            FACTORS[name](factor)


def scale_size(height: int, width: int, scale: int) -> tuple[int, int]:
    """Height and width of scale `scale`, rounded up."""
    return -(-height // 2**scale), -(-width // 2**scale)


def pad_by_repeating(planes: torch.Tensor) -> torch.Tensor:
    """Repeats the last row and column until both sides are multiples of 16 and at least 64."""
    height, width = planes.shape[-2:]
    bottom, right = (max(MINIMUM_SIDE, -(-side // STRIDE) * STRIDE) - side for side in (height, width))
    return F.pad(planes, (0, right, 0, bottom), mode="replicate")


def pad_to(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Appends zeros right and below up to `size`."""
    return F.pad(planes, (0, size[1] - planes.shape[-1], 0, size[0] - planes.shape[-2]))


__all__ = ["SGENetModel", "SGENetOutput", "SGENetPreTrainedModel", "SGENetScale"]
