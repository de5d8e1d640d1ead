"""Arguments of the training script: four dataclasses, read from a YAML recipe and the command line."""

import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import yaml
from transformers import HfArgumentParser

from .perceptual import PAPER_LAYERS


PRESETS = {
    "sgenet": ("small", "full"),
    "gatedconv": ("matched", "published"),
    "edgeconnect": ("matched", "published"),
    "spgnet": ("matched", "published"),
}


# A value of perceptual_scales that is no file.
MEASURED = "measured"

AT_LEAST_ONE = set(
    "total_samples crop_size resize_shorter batch_size gradient_accumulation_steps discriminator_width "
    "validation_samples log_every_samples validate_every_samples save_every_samples keep_checkpoints".split()
)


@dataclass
class DataArguments:
    """What is learnt from."""

    dataset: str = field(metadata={"help": "Prepared folder, Hub id, `toy:COUNT` or `folders:IMAGES:LABELS`."})
    train_split: str = "train"
    validation_split: str | None = None
    streaming: bool = field(default=False, metadata={"help": "Read rows as they come; such a run cannot be resumed."})
    label_model: str | None = field(
        default=None, metadata={"help": "AutoModelForSemanticSegmentation that labels photos without human labels."}
    )
    machine_labels_only: bool = field(
        default=False, metadata={"help": "Take label_model's labels where there are human ones too (Table 5)."}
    )
    crop_size: int = field(default=256, metadata={"help": "Side in pixels of the random crops (paper: 256)."})
    resize_shorter: int = field(default=256, metadata={"help": "Shorter side in pixels before cropping."})
    smallest_scale: float = field(
        default=1.0, metadata={"help": "Random shrinking of the shorter side, down to this."}
    )
    largest_scale: float = field(
        default=1.0,
        metadata={"help": "Random enlarging of the shorter side, up to this; needs photos prepared as large as that."},
    )
    stretch: float = field(
        default=0.0, metadata={"help": "Random change of width over height, by a factor of up to exp(stretch)."}
    )
    mask_mix: list[str] = field(
        default_factory=lambda: ["centre=1", "boxes=2", "free_form=3", "irregular=2"],
        metadata={"help": "Kinds of training masks and their weights."},
    )
    irregular_masks: str | None = field(
        default=None, metadata={"help": "Folder of irregular mask files, white = hole; generated masks without it."}
    )
    prompt_share: float = field(default=0.15, metadata={"help": "Share of samples with a partial semantic prompt."})
    counterfactual_share: float = field(
        default=0.0, metadata={"help": "Share of samples prompted with a class drawn at random; see read_back_weight."}
    )
    counterfactual_classes: list[str] | None = field(
        default=None, metadata={"help": "Names of the classes to draw it from; all without them."}
    )
    photometric: float = field(
        default=0.0, metadata={"help": "Strength in [0, 1] of random exposure, gamma, contrast and white balance."}
    )
    recoloring: float = field(default=0.0, metadata={"help": "Strength in [0, 1] of random hue and saturation."})
    num_workers: int = field(default=0, metadata={"help": "Loader processes per rank."})


@dataclass
class ModelArguments:
    """Which network; see SGENetConfig. What is not given is the preset's, or that of the weights to start from."""

    system: Literal["sgenet", "gatedconv", "edgeconnect", "spgnet"] = "sgenet"
    preset: Literal["small", "full", "matched", "published"] = field(
        default="small", metadata={"help": "SGE-Net's small or full; matched (to small) or published for the others."}
    )
    width: int | None = field(default=None, metadata={"help": "Channels of the first layer of the other systems."})
    widths: list[int] | None = field(default=None, metadata={"help": "Channels of levels 0 to 4."})
    semantic_guidance: bool | None = None
    confidence_evaluation: bool | None = None
    guidance_resolution: str | None = None
    guidance_probabilities: str | None = None
    reliability_source: str | None = None
    reliability_smoothing: int | None = None
    tau_reading: str | None = None
    tau_proportions: list[float] | None = None
    first_reliability: str | None = None
    noise_channels: int | None = None
    error_estimation: bool | None = None
    contextual_attention: bool | None = None
    initialize_from: str | None = field(
        default=None,
        metadata={"help": "Start from these weights: `street`, a model folder, or a checkpoint of another run."},
    )


@dataclass
class LossArguments:
    """Weights of Eq. 10 and its readings. The paper gives none."""

    reconstruction: Literal["default", "literal"] = field(default="default", metadata={"help": "Reading of Eq. 7."})
    segmentation: Literal["default", "literal"] = field(default="default", metadata={"help": "Reading of Eq. 9."})
    adversarial_kind: Literal["hinge", "vanilla", "lsgan", "literal"] = field(
        default="hinge", metadata={"help": "Reading of Eq. 8; literal is as printed, but for its 1 - log D."}
    )
    discriminator_sees_mask: bool = field(default=True, metadata={"help": "The paper's does not."})
    adversarial_on: Literal["composite", "raw"] = field(default="composite", metadata={"help": "raw is as printed."})
    hole_weight: float = field(default=6.0, metadata={"help": "Of the hole against the known part (PConv: 6)."})
    reconstruction_weight: float = 1.0
    segmentation_weight: float = field(default=0.2, metadata={"help": "lambda_s; 5 scales x 0.2 = SGI-Net's 1:1."})
    class_balance: float = field(
        default=0.0, metadata={"help": "Exponent of 1 / (a class's share of pixels) in Eq. 9; 0 counts pixels alike."}
    )
    segmentation_hole_weight: float = field(default=1.0, metadata={"help": "Of hole pixels in Eq. 9."})
    perceptual_weight: float = field(default=0.0, metadata={"help": "lambda_p."})
    style_weight: float = 0.0
    adversarial_weight: float = field(default=0.0, metadata={"help": "lambda_alpha; 0 trains no discriminator."})
    feature_matching_weight: float = 0.0
    read_back_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the fill being read as the prompt, by the frozen network of `reader`; mean over all samples."
        },
    )
    reader: str | None = field(
        default=None,
        metadata={
            "help": "SGE-Net (`street`, a folder) that reads fills back as photos without a hole; initialize_from."
        },
    )
    prompt_style_weight: float = field(
        default=0.0,
        metadata={
            "help": "Of the texture of the class that a counterfactual prompt names, by photos that show it; mean "
            "over all samples."
        },
    )
    error_weight: float = field(default=1.0, metadata={"help": "Of the head that error_estimation adds."})
    pasted_weight: float = field(default=0.0, metadata={"help": "Of what contextual_attention pastes, in 4x4 cells."})
    adversarial_start: float = field(default=0.2, metadata={"help": "Share of the run after which Eq. 8 begins."})
    perceptual_weights: str | None = field(
        default=None, metadata={"help": "VGG weights: .safetensors file or Hub id."}
    )
    perceptual_architecture: Literal["vgg16", "vgg19"] = "vgg16"
    perceptual_layers: list[str] = field(default_factory=lambda: list(PAPER_LAYERS))
    perceptual_scales: str | None = field(
        default=None,
        metadata={
            "help": 'JSON file, {"mean_activation": {"relu2_2": 113.9, ...}}, that divides each layer, or '
            "`measured`: by its mean over 64 training photos."
        },
    )
    texture_window: int = field(
        default=0,
        metadata={"help": "Side in pixels of a window at the hole for the VGG terms and Eq. 8; 0 = the whole crop."},
    )
    discriminator_width: int = 64
    edge_adversarial_weight: float = field(default=1.0, metadata={"help": "EdgeConnect's lambda_adv,1."})
    truth_share: float = field(
        default=0.5,
        metadata={
            "help": "Share of the run in which EdgeConnect's and SPG-Net's second stage sees true edges, labels."
        },
    )


@dataclass
class RunArguments:
    """How long, how fast, where to."""

    output_dir: str = field(metadata={"help": "Run folder."})
    total_samples: int = field(default=100_000, metadata={"help": "Length of the run; all schedules refer to it."})
    max_minutes: float | None = field(default=None, metadata={"help": "Stop after this wall-clock time, resumable."})
    batch_size: int = field(default=8, metadata={"help": "Samples per process and forward pass."})
    gradient_accumulation_steps: int = 1
    learning_rate: float = field(default=2e-4, metadata={"help": "Of Adam for the generator."})
    discriminator_learning_rate: float = field(default=2e-4, metadata={"help": "Of Adam for the discriminator."})
    adam_beta1: float = 0.5
    adam_beta2: float = 0.99
    warmup_samples: int = field(default=1_000, metadata={"help": "Linear rise of the learning rate."})
    decay_share: float = field(default=0.3, metadata={"help": "Linear fall to 0 over this last share of the run."})
    ema_half_life_samples: int = field(default=2_000, metadata={"help": "Of the averaged weights that are saved."})
    clip_gradient_norm: float = 5.0
    log_every_samples: int = 400
    validate_every_samples: int = 4_000
    validation_samples: int = 32
    validation_mask: str = field(default="centre-96", metadata={"help": "Evaluation mask set (`sgenet masks`)."})
    save_every_samples: int = 4_000
    keep_checkpoints: int = 2
    resume: str | None = field(default=None, metadata={"help": "`latest` or a checkpoint folder."})
    seed: int = 0
    cpu: bool = False
    channels_last: bool = field(default=True, metadata={"help": "Memory layout; the faster one for convolutions."})
    activation_checkpointing: bool = field(
        default=False, metadata={"help": "Less memory for about a third more time."}
    )
    tracker: str | None = field(default=None, metadata={"help": "tensorboard or wandb, beside log.jsonl."})
    push_to_hub: str | None = field(default=None, metadata={"help": "Hub id for the final weights."})
    license_file: str | None = field(default=None, metadata={"help": "Terms of the weights, needed to publish them."})


@dataclass
class Arguments:
    """All of them."""

    data: DataArguments
    model: ModelArguments
    loss: LossArguments
    run: RunArguments

    def __post_init__(self):
        for part in vars(self).values():
            for name, hint in get_type_hints(type(part)).items():  # a recipe's values pass by argparse's own check
                value = getattr(part, name)
                if get_origin(hint) is Literal and value not in get_args(hint):
                    raise ValueError(f"{name} is {value!r}; choose one of {', '.join(get_args(hint))}.")
                if get_origin(hint) is not Literal and not fits(value, hint):
                    raise ValueError(f"{name} is {value!r}, but must be {getattr(hint, '__name__', hint)}.")
                if name in AT_LEAST_ONE and value < 1:
                    raise ValueError(f"{name} is {value}, but must be 1 or more.")
        for entry in self.data.mask_mix:
            if not re.fullmatch(r"\w+=\d+(\.\d+)?", entry):
                raise ValueError(f"mask_mix holds {entry!r}; write kind=weight, such as boxes=2.")
        self._check_system()
        if self.loss.texture_window > self.data.crop_size:
            raise ValueError(f"texture_window {self.loss.texture_window} exceeds crop_size {self.data.crop_size}.")
        if self.loss.perceptual_scales == MEASURED and self.data.streaming:
            raise ValueError("perceptual_scales are measured on photos of a fixed order: not with streaming.")
        if self.loss.class_balance and self.data.streaming:
            raise ValueError("class_balance counts labels before it trains: not with streaming.")
        if self.data.machine_labels_only and not self.data.label_model:
            raise ValueError("machine_labels_only needs label_model: name the segmenter that labels.")
        guided = self.model.system == "sgenet" and self.model.semantic_guidance is not False
        if guided and self.data.machine_labels_only and self.data.prompt_share:
            raise ValueError("Prompts are drawn from human labels: with machine_labels_only give prompt_share 0.")
        if self.loss.segmentation == "literal" and (
            self.loss.class_balance or self.loss.segmentation_hole_weight != 1
        ):
            raise ValueError("The literal Eq. 9 counts all pixels alike: class_balance 0, segmentation_hole_weight 1.")
        if self.loss.reconstruction == "literal" and self.data.counterfactual_share:
            raise ValueError("The literal Eq. 7 compares all pixels with the truth: not with counterfactual_share.")
        if self.loss.prompt_style_weight and (self.data.streaming or not self.data.counterfactual_share):
            raise ValueError("prompt_style_weight needs counterfactual_share, and photos that are not streamed.")
        if self.loss.read_back_weight and not (self.data.prompt_share or self.data.counterfactual_share):
            raise ValueError("read_back_weight reads prompts: give prompt_share or counterfactual_share too.")
        if self.loss.reader and not self.loss.read_back_weight:
            raise ValueError("A reader does nothing without read_back_weight: give it, or leave the reader out.")
        if self.loss.read_back_weight and not (self.loss.reader or self.model.initialize_from):
            raise ValueError("read_back_weight needs a trained reader: give --reader or --initialize_from.")
        if self.run.push_to_hub and not self.run.license_file:
            raise ValueError("push_to_hub needs license_file: weights follow the terms of their training data.")

    def _check_system(self) -> None:
        system = self.model.system
        if self.model.preset not in PRESETS[system]:
            raise ValueError(f"{system} has no preset {self.model.preset}: choose {' or '.join(PRESETS[system])}.")
        others = {"system", "preset", "width", "initialize_from"}
        foreign = {"width"} if system == "sgenet" else set(vars(self.model)) - others
        given = sorted(name for name in foreign if getattr(self.model, name) is not None)
        if given:
            raise ValueError(f"{', '.join(given)} is no option of {system}: leave it out.")
        if system == "edgeconnect" and min(self.loss.adversarial_weight, self.loss.edge_adversarial_weight) <= 0:
            raise ValueError("EdgeConnect's edges learn from a discriminator alone: give both adversarial weights.")
        if system != "sgenet" and (
            self.data.counterfactual_share or self.loss.read_back_weight or self.loss.prompt_style_weight
        ):
            raise ValueError(
                f"{system} takes no prompts: leave out counterfactual_share, read_back_weight and prompt_style_weight."
            )
        if system != "sgenet" and self.run.push_to_hub:
            raise ValueError("push_to_hub writes SGE-Net's card: publish other systems with model.push_to_hub.")

    def flat(self) -> dict:
        """One dictionary, as a recipe would hold it."""
        return {key: value for part in vars(self).values() for key, value in dataclasses.asdict(part).items()}


def argument_defaults() -> dict:
    """Every argument that has a default, with it, as a run's `arguments.json` would hold it."""
    found = {}
    for part in (DataArguments, ModelArguments, LossArguments, RunArguments):
        for one in dataclasses.fields(part):
            if one.default is not dataclasses.MISSING:
                found[one.name] = one.default
            elif one.default_factory is not dataclasses.MISSING:
                found[one.name] = one.default_factory()
    return found


def parse_arguments(arguments: list[str] | None = None) -> Arguments:
    """Reads an optional recipe (first argument, `.yaml`) and the command line, which overrules it.

    A recipe may start with `extends: other.yaml`, a recipe beside it, and hold only what differs.

    Raises:
        FileNotFoundError: If there is no such recipe.
        ValueError: If recipe or command line hold a name that is not an argument, or a value that does not do.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = HfArgumentParser([DataArguments, ModelArguments, LossArguments, RunArguments], description=__doc__)
    known = sorted(action.dest for action in parser._actions)
    if words and words[0].endswith((".yaml", ".yml")):
        recipe_path = words.pop(0)
        recipe = read_recipe(Path(recipe_path))
        unknown = sorted(set(recipe).difference(known))
        if unknown:
            raise ValueError(f"{recipe_path} holds unknown names: {', '.join(similar(unknown, known))}.")
        for action in parser._actions:
            if action.dest in recipe:
                action.default, action.required = expand_variables(recipe[action.dest]), False
    elif words and not words[0].startswith("-"):
        raise ValueError(f"{words[0]} is no recipe: the first word is a .yaml file, such as recipes/toy.yaml.")
    *parsed, rest = parser.parse_args_into_dataclasses(words, return_remaining_strings=True)
    if any(word.endswith((".yaml", ".yml")) for word in rest):
        raise ValueError("A recipe comes first: train_accelerate.py RECIPE.yaml --option value ...")
    if rest:
        unknown = [word.removeprefix("--").split("=")[0] for word in rest if word.startswith("--")] or rest
        raise ValueError(f"Unknown on the command line: {', '.join(similar(unknown, known))}.")
    arguments = Arguments(*parsed)
    refuse_unset_variables(arguments)
    return arguments


def similar(unknown: Iterable[str], known: Iterable[str]) -> list[str]:
    """Each unknown name with the known one that it looks like, if there is one; else with where to look."""
    return [
        f"{name} ({'do you mean ' + near[0] + '?' if near else '`--help` lists them all'})"
        for name in unknown
        for near in [difflib.get_close_matches(name, known, n=1)]
    ]


def fits(value: object, hint: object) -> bool:
    """Whether a value is of the type that an argument declares; a whole number is also a float."""
    if get_origin(hint) in (Union, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(fits(item, get_args(hint)[0]) for item in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if hint is float else hint)


def read_recipe(path: Path) -> dict:
    """The recipe's values over those of the recipe that it extends.

    Raises:
        FileNotFoundError: If there is none, with the names of those that lie where it was looked for.
        ValueError: If it holds something else than options.
    """
    if not path.is_file():
        there = ", ".join(sorted(other.name for other in path.parent.glob("[!.]*.yaml")))
        raise FileNotFoundError(f"No recipe {path}; in its folder lie: {there or 'none'}. The project's: recipes/.")
    try:
        recipe = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"The recipe {path} is no YAML: {error}") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"The recipe {path} must hold options, one `name: value` a line.")
    base = recipe.pop("extends", None)
    return recipe if base is None else read_recipe(path.with_name(base)) | recipe


def expand_variables(value):
    """Fills `$NAME` in a recipe's strings from the environment, so that recipes hold no machine's paths.

    Unset variables stay as they are: the command line may still overrule them.
    """
    return os.path.expandvars(value) if isinstance(value, str) else value


def refuse_unset_variables(arguments: Arguments) -> None:
    """Finds what `expand_variables` could not fill.

    Raises:
        ValueError: With the name of the variable.
    """
    for name, value in arguments.flat().items():
        if isinstance(value, str) and (unset := re.search(r"\$\{?(\w+)", value)):
            variable = unset[1]
            raise ValueError(f"{name} is {value}: set the environment variable {variable}, or give --{name}.")
