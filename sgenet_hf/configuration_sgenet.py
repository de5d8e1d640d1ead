"""Configuration of SGE-Net ("Guidance and Evaluation: Semantic-Aware Image Inpainting for Mixed Scenes", ECCV 2020).

The paper gives no widths, thresholds or kernel sizes; every default here is our choice.
"""

from dataclasses import fields
from difflib import get_close_matches
from numbers import Real
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


NUM_SCALES = 5  # Eq. (10) sums over l = 0..4
MAX_NOISE_STRENGTH = 2  # twice what was trained with; more is a mosaic
MAX_GUIDANCE_SCALE = 4  # far beyond what was ever better


def check_noise_strength(value: object) -> None:
    """Judges a factor on the noise in the hole, wherever it is given.

    Raises:
        ValueError: If it is no number from 0 to `MAX_NOISE_STRENGTH`.
    """
    _check_factor("noise_strength", value, MAX_NOISE_STRENGTH)


def check_guidance_scale(value: object) -> None:
    """Judges how far a semantic prompt pulls, wherever it is given.

    Raises:
        ValueError: If it is no number from 0 to `MAX_GUIDANCE_SCALE`.
    """
    _check_factor("guidance_scale", value, MAX_GUIDANCE_SCALE)


def check_redrawn_share(value: object) -> None:
    """Judges how much of a fill is redrawn with patches of the photo, wherever it is given.

    Raises:
        ValueError: If it is no number from 0 to 1.
    """
    _check_factor("redrawn_share", value, 1)


def as_drawn(config: PreTrainedConfig) -> dict[str, float]:
    """The options of a forward pass by which a network of this package shows its own drawing: none for those that are
    never redrawn."""
    return {"redrawn_share": 0} if hasattr(config, "redrawn_share") else {}


def _check_factor(name: str, value: object, highest: int) -> None:
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= highest:  # nan is not
        raise ValueError(f"`{name}` must be a number from 0 to {highest}, got {value!r}.")


@strict
class SGENetConfig(PreTrainedConfig):
    """Configuration of [`SGENetModel`]. Two switches turn SGE-Net into the paper's two ablations:

    | network | `semantic_guidance` | `confidence_evaluation` |
    |---|---|---|
    | Base-Net | `False` | `False` |
    | SG-Net | `True` | `False` |
    | SGE-Net | `True` | `True` |

    Args:
        image_size: Side in pixels of the crops that the network was trained on. Any size can be filled.
        widths: Channels of the levels 0 (full resolution) to 4 (one sixteenth). Doubling keeps the cost of a 3x3
            convolution the same at every level.
        context_dilations: Dilation of each residual block of the Context Inference Module (CIM).
        context_kernel_size: Side in cells of the CIM's depthwise kernel (odd): the shift-invariant form of the
            channel-wise fully connected layer of Context Encoders, which would fix the input size.
        guidance_widths: Hidden channels of the networks that turn a segmentation into gamma and beta (Eq. 3), for the
            steps into levels 3, 2, 1, 0.
        guidance_resolution: Where gamma and beta are computed: on the segmentation's own grid and then enlarged
            (`"coarse"`, a quarter of the cost) or on the next finer grid (`"fine"`).
        guidance_probabilities: `"soft"` feeds the class probabilities, `"hard"` their argmax (no gradient passes).
        guidance_scale: How far gamma and beta go from what the network's own segmentation asks for towards what a
            semantic prompt asks for, 0 to 4: 1 is there, as always in training; more is beyond, as in classifier-free
            guidance (Ho and Salimans, 2021). Without effect where nothing is prompted.
        semantic_guidance: Whether segmentations modulate the features (SGIM).
        confidence_evaluation: Whether reliability masks and the bias net exist (SCEM, SGIM+). Needs guidance.
        reliability_channels: Channels of F(M) in Eq. 6.
        reliability_smoothing: Side in cells (odd) of the mean filter that M passes twice on its way into F; 1 feeds
            the paper's M as it is. The outline of a hard M is an edge that texture losses can use: short training runs
            trace it as a dotted contour. On small crops a wide filter leaves little of M at the coarsest scales.
        tau_reading: What "the proportion of the maximum one from the sorted probability values" (Eq. 4) means.
            `"max"`: tau = proportion x the highest P_max of the image. `"quantile"`: the proportion-quantile of P_max
            over the image. `"hole_quantile"`: the same over the hole, because the boundaries of known regions are
            uncertain too and crowd the quantile of the whole image.
        tau_proportions: Proportion for scales 4 to 0, each in [0, 1].
        first_reliability: M^4 is `"mask"` (1 - mask, as in Fig. 7) or `"evaluated"` like the other scales.
        reliability_source: `"confidence"` is the paper's SCEM. The controls `"ones"` (M = 1 everywhere) and `"known"`
            (M = 1 - mask at all scales) show what evaluation adds over mere extra parameters.
        noise_channels: Planes of noise that each decoder step finds in the hole, to make texture from (not in the
            paper); 0 = none. Deep in a hole the features are smooth, and convolutions of something smooth are smooth:
            without noise leaves and asphalt come out as flat colour. The noise is a function of the place, so that a
            photo is always filled alike.
        noise_strength: Factor on that noise, also after loading: 1 is how the network was trained, less gives smoother
            fills, which are nearer to the truth on average and further from looking like a photo.
        error_estimation: Whether a head on the features of scale 2 says how far from the truth the fill may be (not in
            the paper, whose evaluation asks about the segmentation alone).
        contextual_attention: Whether scale 3 looks in the known part for patches that may continue into the hole, and
            the finer scales see the hole filled with them (not in the paper; the idea is Yu et al.'s, CVPR 2018). What
            a network learnt from few photos is a poor source of windows and bricks; the photo itself is a good one.
            Where a prompt speaks, which may ask for what the photo does not have, nothing of it is shown.
        pasted_share: How much of what it pastes is mixed into the finest image, 0 to 1; not of its finest grain, which
            the patches blur and the network draws. Two estimates that err apart are better than either. Without effect
            where a prompt speaks, and in training, where the network knows its photos better than any patch does.
        redrawn_share: How much of the finest image in the hole is redrawn with patches of the known part, 0 to 1, also
            after loading (not in the paper; the idea is Wexler et al.'s, PAMI 2007): what the network filled in says
            which patches fit, in colour, class and texture, so that bricks and leaves are the photo's own. 0 is the
            network's own drawing, and several times faster. Without effect where a prompt speaks, and in training; no
            gradient passes through what is redrawn.
        ignore_index: Label of void pixels; never predicted, never trained on.
        initializer_range: Standard deviation of the weights of the heads and of gamma and beta at the start.
        label_colors: RGB colour, 0 to 255, of each class for drawings.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a value has the wrong type or the values do not fit together.
    """

    model_type = "sgenet"

    image_size: int = 256
    widths: list[int] | tuple[int, ...] = (16, 32, 64, 128, 256)
    context_dilations: list[int] | tuple[int, ...] = (1, 2, 4, 8, 1)
    context_kernel_size: int = 31
    guidance_widths: list[int] | tuple[int, ...] = (64, 64, 32, 16)
    guidance_resolution: Literal["coarse", "fine"] = "coarse"
    guidance_probabilities: Literal["soft", "hard"] = "soft"
    guidance_scale: float | int = 1.0
    semantic_guidance: bool = True
    confidence_evaluation: bool = True
    reliability_channels: int = 8
    reliability_smoothing: int = 1
    tau_reading: Literal["max", "quantile", "hole_quantile"] = "hole_quantile"
    tau_proportions: list[float | int] | tuple[float | int, ...] = (0.5, 0.5, 0.4, 0.3, 0.2)
    first_reliability: Literal["mask", "evaluated"] = "mask"
    reliability_source: Literal["confidence", "ones", "known"] = "confidence"
    noise_channels: int = 0
    noise_strength: float | int = 1.0
    error_estimation: bool = False
    contextual_attention: bool = False
    pasted_share: float | int = 0.0
    redrawn_share: float | int = 0.0
    ignore_index: int = 255
    initializer_range: float = 0.02
    label_colors: list[list[int]] | None = None

    def __post_init__(self, **kwargs):
        if self.id2label is None and "num_labels" not in kwargs:
            kwargs["num_labels"] = 8  # Outdoor Scenes, the paper's first data set
        if self.id2label is not None and self.label2id is None:
            self.label2id = {name: int(index) for index, name in self.id2label.items()}
        names = [field.name for field in fields(self)]
        for unknown in kwargs:  # transformers takes any name; one that is almost ours is a slip
            if close := get_close_matches(unknown, names, n=1, cutoff=0.85):
                raise ValueError(f"Unknown setting `{unknown}`: did you mean `{close[0]}`?")
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        """As in `transformers`; another number of classes also drops the colours of the stored ones."""
        names = kwargs.get("id2label")
        wanted = kwargs.get("num_labels") if names is None else len(names)
        colors = config_dict.get("label_colors")
        if wanted is not None and colors is not None and len(colors) != wanted:
            config_dict = {**config_dict, "label_colors": None}
        return super().from_dict(config_dict, **kwargs)

    @classmethod
    def small(cls, **overrides) -> "SGENetConfig":
        """The bundled size: at most 16 GFLOP (2 x MAC) at 256x256 without contextual attention, for CPUs and the free
        Space."""
        return cls(**overrides)

    @classmethod
    def full(cls, **overrides) -> "SGENetConfig":
        """The full size: at most 64 GFLOP (2 x MAC) at 256x256."""
        preset = {"widths": (32, 64, 128, 256, 320), "guidance_widths": (128, 96, 64, 32)}
        return cls(**{**preset, **overrides})

    def validate_architecture(self):
        """Checks that the values fit together; runs after `__init__`.

        Raises:
            ValueError: If they do not, with the remedy.
        """
        super().validate_architecture()
        if len(self.widths) != NUM_SCALES or min(self.widths) < 1:
            raise ValueError(f"`widths` needs {NUM_SCALES} positive numbers, one a level, got {self.widths}.")
        if len(self.guidance_widths) != NUM_SCALES - 1 or min(self.guidance_widths) < 1:
            raise ValueError(f"`guidance_widths` needs {NUM_SCALES - 1} positive numbers, got {self.guidance_widths}.")
        if len(self.tau_proportions) != NUM_SCALES or not all(0 <= p <= 1 for p in self.tau_proportions):
            raise ValueError(f"`tau_proportions` needs {NUM_SCALES} numbers in [0, 1], got {self.tau_proportions}.")
        if self.context_kernel_size < 1 or self.context_kernel_size % 2 == 0:
            raise ValueError(f"`context_kernel_size` must be odd and positive, got {self.context_kernel_size}.")
        if any(dilation < 1 for dilation in self.context_dilations):
            raise ValueError(f"`context_dilations` must be positive, got {self.context_dilations}.")
        if self.reliability_channels < 1:
            raise ValueError(f"`reliability_channels` must be positive, got {self.reliability_channels}.")
        if self.reliability_smoothing < 1 or self.reliability_smoothing % 2 == 0:
            raise ValueError(f"`reliability_smoothing` must be odd and positive, got {self.reliability_smoothing}.")
        if self.noise_channels < 0:
            raise ValueError(f"`noise_channels` must not be negative, got {self.noise_channels}.")
        check_noise_strength(self.noise_strength)
        check_guidance_scale(self.guidance_scale)
        check_redrawn_share(self.redrawn_share)
        _check_factor("pasted_share", self.pasted_share, 1)
        if self.pasted_share and not self.contextual_attention:
            raise ValueError("`pasted_share` needs `contextual_attention=True`: without it nothing is pasted.")
        if self.confidence_evaluation and not self.semantic_guidance:
            raise ValueError(
                "`confidence_evaluation=True` needs `semantic_guidance=True`: without SGIM there is nothing to "
                "correct. Base-Net is both switches off."
            )
        if self.num_labels < 2:
            raise ValueError(f"A segmentation needs at least 2 classes, got num_labels={self.num_labels}.")
        if 0 <= self.ignore_index < self.num_labels:
            raise ValueError(f"`ignore_index` {self.ignore_index} is also a class; use one outside 0..num_labels - 1.")
        if self.label_colors is not None and len(self.label_colors) != self.num_labels:
            raise ValueError(f"`label_colors` has {len(self.label_colors)} colours for {self.num_labels} classes.")


__all__ = ["SGENetConfig"]
