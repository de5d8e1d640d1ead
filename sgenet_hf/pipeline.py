"""From any photo and any mask to the filled photo: the one path of Python, command line, `transformers` and Space.

    photo, mask ──> prepare: which part of the photo does the network see, and how large?  (strategy)
                ──> fill:    shrink without leak -> processor -> network, in batches
                ──> finish:  enlarge, paste at full size with the full-size mask, score

Strategies: `original` shows the network the whole photo as it is; `resize` shrinks it to at most 512 pixels a side;
`crop` cuts about 2.5 times the hole's box out and shrinks that to at most 512, for each hole that stands alone. `auto`
takes `crop` for a longer side above 800 pixels, else `original`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from PIL import Image
from safetensors import SafetensorError
from torch.nn import functional as F
from transformers import AutoModelForImageToImage, Pipeline, PreTrainedConfig, PreTrainedModel
from transformers.pipelines import PIPELINE_REGISTRY

from .baseline_edgeconnect import EdgeConnectModel
from .baseline_gatedconv import GatedConvModel
from .baseline_spgnet import SPGNetModel
from .image_processing_sgenet import (
    SGENetImageProcessor,
    fit_mask,
    hole_warning,
    nearest,
    shrink_prompt,
    shrink_without_leak,
)
from .masks import grow_mask
from .modeling_sgenet import ATTENTION_SCALE, ERROR_SCALE, FACTORS, SGENetModel, scale_size
from .photos import Photo, SizeError, load_labels, load_mask, load_photo
from .regions import (
    Box,
    Region,
    enlarged,
    feather_weights,
    hole_on_grid,
    plan_regions,
    shrunk_size,
    size_warning,
    whole_box,
)
from .segmenters import Segmenter


BUNDLED = {"street": Path(__file__).with_name("checkpoints") / "street"}
"""Weights that come with the package: name -> folder in Hub layout."""

SYSTEMS: dict[str, Any] = {
    system.config_class.model_type: system for system in (SGENetModel, GatedConvModel, EdgeConnectModel, SPGNetModel)
}
"""The systems that fill holes, by the model type of their configurations."""

STRATEGIES = ("auto", "crop", "resize", "original")
CROP_ABOVE = 800  # longer side in pixels, from which `auto` crops
OUT_OF_MEMORY = "(?i)out of memory|not enough memory|allocate memory"  # in the words of torch's backends
SCORE_BAND = 4  # pixels beside the known part whose confidence does not count: there, guessing is easy


class CheckpointError(OSError):
    """A checkpoint that cannot be used; the message says what is wrong and what to do."""


@dataclass
class ScaleView:
    """What the network drew and thought at one scale.

    Attributes:
        level: 4 is the coarsest, 0 the finest.
        image: what it drew, hole and known part.
        labels: int64 (h, w), the class that it believes in.
        confidence: float32 (h, w), the probability of that class.
        reliability: bool (h, w), True = reliable (Eq. 4); `None` for networks without confidence evaluation.
        expected_error: float32 (h, w), how far from the truth the finished fill is expected to be, in 8-bit values;
            only meant in the hole, only at scale 2; `None` elsewhere, under a semantic prompt and for networks without
            error estimation.
        pasted: the photo with the hole filled from the known part alone, which is what the finer scales start from
            where no prompt speaks; only at scale 3; `None` elsewhere and for networks without contextual attention.
    """

    level: int
    image: Image.Image
    labels: np.ndarray
    confidence: np.ndarray
    reliability: np.ndarray | None
    expected_error: np.ndarray | None = None
    pasted: Image.Image | None = None


@dataclass
class InpaintingResult:
    """A filled photo and what the network says about it.

    Attributes:
        image: the filled photo, of the photo's size and mode, upright.
        mask: bool (H, W), the hole that was filled, grown if asked.
        strategy: `crop`, `resize` or `original`.
        score: mean confidence inside the hole at the finest scale, without a band beside the known part; `None` if
            nothing was filled, or by a system that names no classes.
        scales: coarse to fine; with several holes, or one in pieces, those of the largest. Empty where `score` is
            `None`.
        region: the part of the photo that `scales` show.
        expected_error: mean absolute difference from the true photo that the network expects in the hole, in 8-bit
            values, at least 0; `None` if nothing was filled, under a semantic prompt, which may ask for something else
            than what was there, and for a network without error estimation.
        prompted: a semantic prompt said what belongs there, at least in places.
        noise_strength: how much texture the fill was asked to show; `None` for a network without noise.
        guidance_scale: how far the semantic prompt was asked to pull; `None` without one, or if the network has none.
        removed: share of the photo in which each class of `remove` was found, before the hole grew.
        redrawn_share: how much of the fill was asked to be the photo's own patches, where it has whole ones; 0 if
            nothing was filled, nothing is known or a prompt spoke for all of it, `None` for a network whose fills are
            not redrawn.
        warnings: what a user should know, in sentences.
        classes: name of each class id.
    """

    image: Image.Image
    mask: np.ndarray
    strategy: str
    score: float | None
    scales: list[ScaleView]
    region: Box
    warnings: list[str]
    classes: dict[int, str]
    expected_error: float | None = None
    prompted: bool = False
    noise_strength: float | None = None
    guidance_scale: float | None = None
    removed: dict[str, float] = field(default_factory=dict)
    redrawn_share: float | None = None

    @property
    def redrawn(self) -> bool:
        """Whether the fill was asked to be the photo's own patches, at least in places."""
        return bool(self.redrawn_share)


@dataclass
class SegmentationResult:
    """The network's map of a photo without a hole: class ids int64 (H, W), confidence float32 (H, W), class names."""

    labels: np.ndarray
    confidence: np.ndarray
    classes: dict[int, str]


@dataclass
class Job:
    """One photo on its way through the pipeline."""

    photo: Photo
    mask: np.ndarray
    strategy: str
    regions: list[Region]
    prompt: np.ndarray | None
    feather: int
    warnings: list[str]
    noise_strength: float | None
    guidance_scale: float | None
    redrawn_share: float | None
    removed: dict[str, float]

    @property
    def left_open(self) -> np.ndarray:
        """The part of the hole for which no prompt speaks, bool (H, W)."""
        return self.mask if self.prompt is None else self.mask & (self.prompt < 0)


@dataclass
class RegionFill:
    """What the network made of a region: float32 (h, w, 3) in [0, 255], its views, its confidence in the hole and the
    error that it expects there."""

    pixels: np.ndarray
    scales: list[ScaleView]
    confidence: float | None
    expected_error: float | None
    weight: int


def load_model(
    name_or_path: str | os.PathLike = "street",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    network: Any = None,
) -> Any:
    """Load a trained network, whole or not at all.

    Args:
        name_or_path: a key of `BUNDLED`, a folder that `save_pretrained` wrote, or a Hub id.
        device: where to put it; by default the best that is present.
        dtype: of the parameters; by default what the checkpoint's configuration says.
        network: class to load; by default the system of this package that the checkpoint's configuration names.

    Raises:
        CheckpointError: nothing there, no or another model's configuration, damaged, missing or misshapen weights.
        ValueError: a device that is not there.
    """
    source = _checkpoint(name_or_path)
    try:
        model = (network or _system_of(source)).from_pretrained(source, dtype=dtype or "auto")
    except (OSError, RuntimeError, ValueError, SafetensorError, StrictDataclassError) as error:
        if Path(source).is_dir():
            trouble = "no usable checkpoint of SGE-Net: weights are missing, or something is damaged or does not fit"
            remedy = "Copy or download it again, or name another folder that save_pretrained wrote"
        else:
            trouble = "no folder here, and the Hub gave no usable checkpoint of SGE-Net by that name"
            remedy = "Name a folder that save_pretrained wrote"
        raise CheckpointError(
            f"{name_or_path} is {trouble}. {remedy}, a Hub id, or one of the bundled weights ({', '.join(BUNDLED)}). "
            f"{type(error).__name__}: {error}"
        ) from error
    device = device or best_device()
    try:
        placed: Any = torch.nn.Module.to(model, device)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"Cannot use device {str(device)!r}; this machine's best is '{best_device()}'. {error}"
        ) from error
    return placed.eval()


def _system_of(source: str) -> Any:
    """The class of a checkpoint by its model type; of an unknown one SGE-Net, which then says what it needs."""
    values, _ = PreTrainedConfig.get_config_dict(source)
    return SYSTEMS.get(values.get("model_type", ""), SGENetModel)


def foreign_labels(photo: Photo, segmenter: Segmenter) -> np.ndarray:
    """A segmenter's map at the photo's size, from a photo shrunk like the network's own."""
    full = (photo.height, photo.width)
    image, _ = shrink_without_leak(photo.rgb, np.zeros(full, bool), shrunk_size(full))
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return nearest(segmenter(pixels)[0].cpu().numpy(), full)


def confidences_of(output: Any) -> Sequence[torch.Tensor]:
    """P_max of each scale, (B, 1, h, w). SPG-Net's paper does not look at it, but its softmax has one too."""
    if "confidences" in output:
        return output.confidences
    return [logits.float().softmax(dim=1).amax(dim=1, keepdim=True) for logits in output.logits]


def best_device() -> torch.device:
    """The accelerator that torch sees, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


class Inpainter:
    """A network and its processor on a device, loaded once: SGE-Net, or a system that the paper compares it with.

    Example:
        inpainter = Inpainter("street")
        result = inpainter("photo.jpg", "mask.png")
        result.image.save("filled.png"); result.score

    Args:
        model: a name for `load_model`, or a network, which is brought into evaluation mode and channels-last layout.
        processor: by default the one saved beside the weights; for a network that is passed, a new one.
        segmenter: what finds the things to `remove`, a folder or Hub id of any `AutoModelForSemanticSegmentation`; by
            default the network itself.
        device: by default the best that is present; a network that is passed stays where it is.
        dtype: of the parameters; by default the checkpoint's.

    Raises:
        CheckpointError: see `load_model`.
    """

    def __init__(
        self,
        model: str | os.PathLike | PreTrainedModel = "street",
        *,
        processor: SGENetImageProcessor | None = None,
        segmenter: str | os.PathLike | Segmenter | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
    ):
        if isinstance(model, str | os.PathLike):
            self.model: Any = load_model(model, device, dtype)
            self.processor = processor or _load_processor(model)
        else:
            network: Any = model
            if device or dtype:
                network = network.to(device=device, dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype)
            self.model = network.eval()
            self.processor = processor or SGENetImageProcessor()
        # Convolutions run about 1.5 times as fast in this layout on the CPUs measured, and no slower elsewhere.
        self.model.to(memory_format=torch.channels_last)
        self.inputs = inspect.signature(self.model.forward).parameters
        names: Any = self.model.config.id2label  # empty for GatedConv and EdgeConnect
        self.classes = dict(sorted((int(index), str(name)) for index, name in names.items()))
        if isinstance(segmenter, str | os.PathLike):
            segmenter = Segmenter(segmenter, self.model.device)
        self.segmenter = segmenter

    def __call__(self, photo: Any, mask: Any = None, **options: Any) -> InpaintingResult:
        """Fill one photo.

        Args:
            photo: what `load_photo` reads.
            mask: what `load_mask` reads, white = hole; may be left out with `remove`.
            options: see `prepare`.
        """
        job = self.prepare(photo, mask, **options)
        return self.finish(job, self.fill([job])[0])

    def batch(
        self,
        photos: Iterable[Any],
        masks: Iterable[Any] | None = None,
        *,
        semantic_prompts: str | Iterable[Any] | None = None,
        batch_size: int = 8,
        **options: Any,
    ) -> list[InpaintingResult]:
        """Fill several photos, `batch_size` runs of the network at a time.

        Args:
            photos: what `load_photo` reads.
            masks: one for each photo; may be left out with `remove`.
            semantic_prompts: one for each photo, `None` where there is none; or the name of one class for all.
            batch_size: how many regions go through the network together.
            options: for all photos alike, see `prepare`.

        Raises:
            ValueError: not as many masks or prompts as photos.
        """
        photos = list(photos)
        holes = [None] * len(photos) if masks is None else list(masks)
        if semantic_prompts is None or isinstance(semantic_prompts, str):
            semantic_prompts = [semantic_prompts] * len(photos)
        prompts = list(semantic_prompts)
        jobs = [
            self.prepare(photo, mask, semantic_prompt=prompt, **options)
            for photo, mask, prompt in zip(photos, holes, prompts, strict=True)
        ]
        return [self.finish(job, fills) for job, fills in zip(jobs, self.fill(jobs, batch_size), strict=True)]

    def prepare(
        self,
        photo: Any,
        mask: Any = None,
        *,
        remove: str | Sequence[str] | None = None,
        strategy: str = "auto",
        semantic_prompt: Any = None,
        invert_mask: bool | None = None,
        resize_mask: bool | None = None,
        grow: int = 0,
        feather: int = 0,
        noise_strength: float | None = None,
        guidance_scale: float | None = None,
        redrawn_share: float | None = None,
    ) -> Job:
        """Read photo and mask, and decide what the network will see.

        Args:
            photo: what `load_photo` reads.
            mask: what `load_mask` reads; white = hole.
            remove: names of classes whose things are to go (or one string with commas between them), in addition to
                the mask or in its place; see `mask_of`.
            strategy: one of `STRATEGIES`.
            semantic_prompt: the name of the class that belongs in the hole; or what `load_labels` reads, of the
                photo's size: the class that belongs there, -1 (in files 255) = the network decides.
            invert_mask: the mask is black where the hole is; by default as the checkpoint's processor says (False).
            resize_mask: bring mask and prompt to the photo's size in place of an error; likewise.
            grow: pixels by which to grow the hole, for masks that were drawn too tight; negative shrinks it.
            feather: width in pixels of a band around the hole in which fill and photo blend. 0 leaves every known
                pixel bit for bit as it was.
            noise_strength: how much texture the fill shows, for networks with noise: 0 the smoothest, nearest to the
                truth on average, 1 as trained, at most 2; by default the checkpoint's (`street`: 0.7).
            guidance_scale: how far the semantic prompt pulls: 0 not towards its classes (what contextual attention
                pastes is hidden there all the same), 1 as trained, at most 4; by default the checkpoint's
                (`street`: 1.5). Without effect without a prompt.
            redrawn_share: how much of the fill is redrawn with the photo's own patches, where no prompt speaks: 0 the
                network's own drawing, several times faster, 1 all; by default the checkpoint's (`street`: 1).

        Raises:
            FileNotFoundError: no such photo or mask, or no prompt of that path (`pathlib.Path`).
            PhotoError: one of them cannot be used, or they do not fit each other.
            ValueError: an option out of range, or a prompt in a string that is neither a file nor a class.
        """
        if strategy not in STRATEGIES:
            raise ValueError(f"Unknown strategy {strategy!r}: use one of {', '.join(STRATEGIES)}.")
        if feather < 0:
            raise ValueError(f"feather is a width in pixels, 0 or more, not {feather}.")
        self.check_factors(noise_strength, guidance_scale, redrawn_share)
        if self.has_noise:
            noise_strength = float(self.model.config.noise_strength if noise_strength is None else noise_strength)
        if self.takes_prompts and guidance_scale is None:
            guidance_scale = getattr(self.model.config, "guidance_scale", None)
        guidance_scale = None if guidance_scale is None else float(guidance_scale)
        asked_to_redraw = bool(redrawn_share)
        if self.can_redraw:
            redrawn_share = float(self.model.config.redrawn_share if redrawn_share is None else redrawn_share)
        photo = load_photo(photo)
        if mask is None and not remove:
            raise ValueError("Nothing says what to fill: pass a mask, or remove=[names of classes].")
        invert_mask = self.processor.invert_mask if invert_mask is None else invert_mask
        resize_mask = self.processor.resize_mask if resize_mask is None else resize_mask
        painted = found = np.zeros((photo.height, photo.width), bool)
        removed: dict[str, float] = {}
        if mask is not None:
            threshold = self.processor.mask_threshold
            painted = fit_mask(load_mask(mask, invert=invert_mask, threshold=threshold), photo, resize_mask)
        if remove:
            found, removed = self._find(photo, remove)
        hole = grow_mask(painted | found, grow)
        prompt = None if semantic_prompt is None else self._load_prompt(semantic_prompt, photo, hole, resize_mask)
        if strategy == "auto":
            strategy = "crop" if max(hole.shape) > CROP_ABOVE else "original"
        notes = list(photo.warnings)
        regions = plan_regions(hole, strategy, context=self.model.config.image_size)
        if not regions:
            reasons = []
            if painted.any() or found.any():
                reasons = [f"grow={grow} leaves nothing of the hole"]
            elif mask is not None:
                known = "light" if invert_mask else "dark, or transparent,"
                reasons = [f"the mask is empty, what is {known} in it is known"]
            if removed and not found.any():
                reasons.append(f"nothing was found that is {' or '.join(removed)}")
            notes.append(f"Nothing to fill, the photo is returned unchanged: {', and '.join(reasons)}.")
        elif message := hole_warning(painted, self.processor.max_hole_ratio):
            notes.append(message)
        notes += [message for region in regions if (message := size_warning(region, hole))]
        factors = (noise_strength, guidance_scale, redrawn_share)
        job = Job(photo, hole, strategy, regions, prompt, feather, notes, *factors, removed)
        if asked_to_redraw and hole.any() and not job.left_open.any():
            notes.append("The semantic prompt speaks for the whole hole, so redrawn_share changes nothing.")
        return job

    def fill(self, jobs: Sequence[Job], batch_size: int = 4) -> list[list[RegionFill]]:
        """Run the network on every region of every job, `batch_size` regions at a time."""
        runs = [(job, region) for job in jobs for region in job.regions]
        fills: list[RegionFill] = []
        if "pixel_mask" not in self.inputs:  # regions of different sizes would see each other's padding
            batch_size = 1
        for start in range(0, len(runs), batch_size):
            fills += self._run(runs[start : start + batch_size])
        remaining = iter(fills)
        return [[next(remaining) for _ in job.regions] for job in jobs]

    def finish(self, job: Job, fills: Sequence[RegionFill]) -> InpaintingResult:
        """Paste the fills into the photo at full size."""
        pixels = job.photo.pixels.copy()
        for region, fill in zip(job.regions, fills, strict=True):
            self._paste(pixels, job, region, fill)
        weights = [fill.weight for fill in fills]
        shown = max(range(len(fills)), key=lambda index: _hole_area(job, index), default=None)
        prompted = job.prompt is not None and bool((job.prompt >= 0)[job.mask].any())
        can_borrow = job.left_open.any() and not job.mask.all()
        return InpaintingResult(
            image=job.photo.image(pixels),
            mask=job.mask,
            strategy=job.strategy,
            score=_mean([fill.confidence for fill in fills], weights),
            scales=[] if shown is None else fills[shown].scales,
            region=whole_box(job.mask) if shown is None else job.regions[shown].box,
            warnings=job.warnings,
            classes=self.classes,
            expected_error=_mean([fill.expected_error for fill in fills], weights),
            prompted=prompted,
            noise_strength=job.noise_strength,
            guidance_scale=job.guidance_scale if prompted else None,
            removed=job.removed,
            redrawn_share=job.redrawn_share if can_borrow or job.redrawn_share is None else 0.0,
        )

    def segment(self, photo: Any) -> SegmentationResult:
        """The network's own map of a photo without a hole, at the photo's size.

        A photo is shrunk to at most 512 pixels a side first: the network knows things at about the size that they
        had in training.

        Raises:
            ValueError: the network names no classes.
        """
        if not self.classes:
            raise ValueError(f"{type(self.model).__name__} names no classes: name a segmenter, or paint a mask.")
        photo = load_photo(photo)
        full = (photo.height, photo.width)
        no_hole = np.zeros(full, bool)
        image, mask = shrink_without_leak(photo.rgb, no_hole, shrunk_size(full))
        output = self._network([image], [mask])
        confidence = F.interpolate(confidences_of(output)[-1].float(), size=full, mode="bilinear", align_corners=False)
        labels = self.processor.post_process_semantic_segmentation(output, [full])[0]
        return SegmentationResult(labels.cpu().numpy(), confidence[0, 0].cpu().numpy(), self.classes)

    def mask_of(self, photo: Any, classes: str | Sequence[str], grow: int | None = None) -> np.ndarray:
        """The mask that removes things by name: bool (H, W), True = hole.

        Args:
            photo: what `load_photo` reads.
            classes: names from `Inpainter.removable`, in any case; or one string with commas between them.
            grow: pixels by which to grow what was found; by default 1 % of the longer side and at least 2, because
                a map is less exact than a brush and a rim of a car brings the car back.

        Raises:
            ValueError: a class that is not known.
        """
        return self._find(load_photo(photo), classes, grow)[0]

    def _find(
        self, photo: Photo, classes: str | Sequence[str], grow: int | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """`mask_of`, and the share of the photo that each class was found in before it grew."""
        ids = self.class_ids(classes)
        labels = self.segment(photo).labels if self.segmenter is None else foreign_labels(photo, self.segmenter)
        found = np.isin(labels, ids)
        mask = grow_mask(found, max(2, round(0.01 * max(found.shape))) if grow is None else grow)
        return mask, {self.removable[index]: float((labels == index).mean()) for index in ids}

    def check_factors(
        self,
        noise_strength: float | None = None,
        guidance_scale: float | None = None,
        redrawn_share: float | None = None,
    ) -> None:
        """Judge options of `prepare`.

        Raises:
            ValueError: one is no number in its range, or given to a network on which it has no effect.
        """
        guided = self.takes_prompts and "guidance_scale" in self.inputs
        for name, value, has_effect, why_not in (
            ("noise_strength", noise_strength, self.has_noise, "makes its texture without noise"),
            ("guidance_scale", guidance_scale, guided, "has no scale for its guidance"),
            ("redrawn_share", redrawn_share, self.can_redraw, "does not redraw its fills"),
        ):
            if value is not None:
                if not has_effect:
                    raise ValueError(f"This network {why_not}: leave out {name}.")
                FACTORS[name](value)

    @property
    def can_redraw(self) -> bool:
        """Whether `redrawn_share` changes what the network fills in."""
        return "redrawn_share" in self.inputs

    @property
    def takes_prompts(self) -> bool:
        """Whether a semantic prompt changes what the network fills in."""
        return "semantic_prompt" in self.inputs and getattr(self.model.config, "semantic_guidance", True)

    @property
    def has_noise(self) -> bool:
        """Whether `noise_strength` changes what the network fills in."""
        return getattr(self.model.config, "noise_channels", 0) > 0

    @property
    def removable(self) -> dict[int, str]:
        """What can be removed by name: the classes of the segmenter, or else of the network itself."""
        return self.classes if self.segmenter is None else self.segmenter.classes

    def class_ids(self, names: str | Sequence[str]) -> list[int]:
        """Ids in `removable` by name, in any case; several in one string with commas between them.

        Raises:
            ValueError: no name, or one that is not known.
        """
        names = class_names(names)
        ids = _by_name(self.removable)
        unknown = [name for name in names if name.lower() not in ids]
        if not ids:
            raise ValueError(f"{type(self.model).__name__} names no classes: name a segmenter, or paint a mask.")
        if unknown or not names:
            who = "This network" if self.segmenter is None else "The segmenter"
            raise ValueError(
                f"{who} does not know {', '.join(unknown) or 'what is meant'}: name one or more of "
                f"{', '.join(self.removable.values())}."
            )
        return [ids[name.lower()] for name in names]

    def _refuse_prompts_in_vain(self) -> None:
        if not self.takes_prompts:
            raise ValueError(
                "This network has no semantic guidance (Base-Net, GatedConv, EdgeConnect): a semantic prompt would do "
                "nothing."
            )

    def prompted_class(self, name: str) -> int:
        """Id of a class by name, in any case, for a semantic prompt.

        Raises:
            ValueError: the network knows no prompts, or no class of that name.
        """
        self._refuse_prompts_in_vain()
        ids = _by_name(self.classes)
        if name.strip().lower() not in ids:
            raise ValueError(
                f"The semantic prompt {name!r} is no file, no folder and no class: name a palette or grey PNG of "
                f"class ids, for a folder of photos a folder of these, or one of {', '.join(self.classes.values())}."
            )
        return ids[name.strip().lower()]

    def _load_prompt(self, source: Any, photo: Photo, hole: np.ndarray, resize: bool) -> np.ndarray:
        self._refuse_prompts_in_vain()
        if isinstance(source, str) and "://" not in source and not Path(source).is_file():
            return np.where(hole, self.prompted_class(source), -1)
        labels = load_labels(source, self.model.config.num_labels)
        size = (photo.height, photo.width)
        if labels.shape != size and not resize:
            raise SizeError(
                f"The semantic prompt has {labels.shape[1]}x{labels.shape[0]} pixels, {photo.name} has "
                f"{photo.width}x{photo.height}."
            )
        return shrink_prompt(labels, size)

    def _run(self, runs: Sequence[tuple[Job, Region]]) -> list[RegionFill]:
        images, masks, prompts = [], [], []
        for job, region in runs:
            window = region.box.window
            image, mask = shrink_without_leak(job.photo.rgb[window], job.mask[window], region.size)
            images.append(image)
            masks.append(mask)
            prompts.append(None if job.prompt is None else shrink_prompt(job.prompt[window], region.size))
        factors = {
            "noise_strength": [job.noise_strength for job, _ in runs],
            "guidance_scale": [job.guidance_scale for job, _ in runs],
            "redrawn_share": [job.redrawn_share for job, _ in runs],
        }
        output = self._network(images, masks, prompts, factors)
        return [self._read(output, index, job, region, masks[index]) for index, (job, region) in enumerate(runs)]

    @torch.inference_mode()
    def _network(
        self,
        images: list[np.ndarray],
        masks: list[np.ndarray],
        prompts: Sequence[np.ndarray | None] = (),
        factors: Mapping[str, Sequence[float | None]] | None = None,
    ) -> Any:
        """The processor and the network; the only place where the network is called. Each of `factors` has one value
        for each image, or None for all."""
        # The whole photo's mask has been judged already: a region may well be full.
        inputs = self.processor.preprocess(images, masks, max_hole_ratio=1.0, invert_mask=False, return_tensors="pt")
        if any(prompt is not None for prompt in prompts):
            planes = torch.full((len(images), *inputs["mask"].shape[-2:]), -1)
            for plane, prompt in zip(planes, prompts, strict=True):
                if prompt is not None:
                    plane[: prompt.shape[0], : prompt.shape[1]] = torch.from_numpy(prompt)
            inputs["semantic_prompt"] = planes
        given = {name: values for name, values in (factors or {}).items() if None not in values}
        agreed = {name: values[0] for name, values in given.items() if len(set(values)) == 1}
        inputs |= {name: torch.tensor(values) for name, values in given.items() if name not in agreed}
        tensors = {
            name: tensor.to(self.model.device, self.model.dtype if tensor.is_floating_point() else None)
            for name, tensor in inputs.items()
            if name in self.inputs
        }
        try:
            return self.model(**tensors, **agreed)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError) and not re.search(OUT_OF_MEMORY, str(error)):
                raise
            height, width = masks[0].shape
            raise MemoryError(
                f"Not enough memory for {len(images)} x {width}x{height} pixels: use strategy='crop' or 'resize', or "
                "a smaller batch."
            ) from error

    def _read(self, output: Any, index: int, job: Job, region: Region, mask: np.ndarray) -> RegionFill:
        """Takes one region out of a batch's output, without the padding."""
        height, width = region.size
        # A feathered edge shows what the network drew over the known part; the composite has the photo there.
        image = (output.images[-1] if job.feather else output.composite)[index, :, :height, :width]
        pixels_of_fill = self.processor.to_pixels(image)
        logits = getattr(output, "logits", None)
        if logits is None:
            return RegionFill(pixels_of_fill, [], None, None, _pixels_of(job, region))
        confidences = confidences_of(output)
        reliability_masks = getattr(output, "reliability_masks", None)
        own = mask & hole_on_grid(region)
        # What was there is not what a prompt asks for: of that the network expects no error.
        expected = getattr(output, "expected_error", None) if job.prompt is None else None
        scales = []
        for place in range(len(output.images)):
            level = len(output.images) - 1 - place
            inside: Any = (index, slice(None), *map(slice, scale_size(height, width, level)))
            reliability = None
            if reliability_masks is not None:
                reliability = reliability_masks[place][inside][0].float().cpu().numpy() > 0.5
            errors = expected if level == ERROR_SCALE else None
            pasted = getattr(output, "pasted", None) if level == ATTENTION_SCALE else None
            scales.append(
                ScaleView(
                    level=level,
                    image=self._picture(output.images[place][inside]),
                    labels=logits[place][inside].argmax(dim=0).cpu().numpy(),
                    confidence=confidences[place][inside][0].float().cpu().numpy(),
                    reliability=reliability,
                    expected_error=errors[inside][0].float().cpu().numpy() * 127.5 if errors is not None else None,
                    pasted=self._picture(pasted[index, :, :height, :width]) if pasted is not None else None,
                )
            )
        counted = core if (core := grow_mask(own, -SCORE_BAND)).any() else own
        confidence = float(scales[-1].confidence[counted].mean())
        cells = next((view.expected_error for view in scales if view.expected_error is not None), None)
        error = None if cells is None else mean_in_hole(cells, own)
        return RegionFill(pixels_of_fill, scales, confidence, error, _pixels_of(job, region))

    def _picture(self, planes: torch.Tensor) -> Image.Image:
        """A drawing (3, h, w) of the network as a picture."""
        return Image.fromarray(np.rint(self.processor.to_pixels(planes)).astype(np.uint8))

    def _paste(self, pixels: np.ndarray, job: Job, region: Region, fill: RegionFill) -> None:
        """Enlarges a fill to the photo's resolution and writes it where the full-size mask says so."""
        target = region.hole.grown(job.feather, job.feather, region.box)
        own = np.zeros(job.mask.shape, bool)[target.window]
        own[region.hole.seen_from(target).window] = job.mask[region.hole.window]
        weight = feather_weights(own, job.feather)
        weight[job.mask[target.window] & ~own] = 0  # another region's hole
        job.photo.paste(pixels, enlarged(fill.pixels, region, target), weight, target.top, target.left)


def class_names(names: str | Sequence[str]) -> list[str]:
    """Names of classes, given one by one or in one string with commas between them."""
    return [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]


def _by_name(classes: Mapping[int, str]) -> dict[str, int]:
    """Ids by name in lower case; some published segmenters' names end in blanks."""
    return {name.strip().lower(): index for index, name in classes.items()}


def inpaint(
    photo: Any,
    mask: Any = None,
    model: str | os.PathLike | PreTrainedModel = "street",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    **options: Any,
) -> Image.Image:
    """Fill the hole of a photo: `inpaint("photo.jpg", "mask.png").save("filled.png")`.

    The network is loaded at the first call and kept. What `Inpainter` would put into its result's warnings is warned.

    Args:
        photo: path, bytes, PIL image, numpy array or torch tensor.
        mask: likewise, of the photo's size, white = hole; may be left out with `remove`.
        model: bundled name, folder, Hub id or network.
        device: by default the best that is present.
        dtype: by default the checkpoint's.
        options: `remove`, `strategy`, `semantic_prompt`, `invert_mask`, `resize_mask`, `grow`, `feather`,
            `noise_strength`, `guidance_scale`, `redrawn_share`; see `Inpainter.prepare`.

    Returns:
        The filled photo, of the same size and mode (of black and white photos grey; RGB for palettes, YCbCr and HSV).
    """
    if isinstance(model, str | os.PathLike):
        inpainter = _kept_inpainter(os.fspath(model), device, dtype)
    else:
        inpainter = Inpainter(model, device=device, dtype=dtype)
    result = inpainter(photo, mask, **options)
    for message in result.warnings:
        warnings.warn(message, stacklevel=2)
    return result.image


class ImageInpaintingPipeline(Pipeline):
    """The `transformers` pipeline `"image-inpainting"`.

    Example:
        pipe = pipeline("image-inpainting", model="folder or Hub id")
        pipe({"image": photo, "mask": mask})["image"]

    Takes a dictionary with `image`, `mask` and, if wanted, `semantic_prompt`, or a list of them, and the options of
    `Inpainter.prepare`. Returns the fields of `InpaintingResult` as a dictionary.
    """

    _load_image_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_processor: Any = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        processor: Any = self.image_processor
        self.inpainter = Inpainter(self.model, processor=processor)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict, dict, dict]:
        return options, {}, {}

    def preprocess(self, input_: Any, **preprocess_parameters: Any) -> dict[str, Any]:
        if (
            not isinstance(input_, dict)
            or "image" not in input_
            or input_.keys() - {"image", "mask", "semantic_prompt"}
        ):
            raise ValueError('Pass {"image": ..., "mask": ...}, with "semantic_prompt" if wanted, or a list of these.')
        given = {key: value for key, value in input_.items() if key != "image"}
        return {"job": self.inpainter.prepare(input_["image"], **given, **preprocess_parameters)}

    def _forward(self, input_tensors: Any, **forward_parameters: Any) -> Any:
        job = input_tensors["job"]
        if isinstance(job, list):  # collated by `batch_size`
            return {"job": job, "fills": self.inpainter.fill(job, len(job))}
        return {"job": job, "fills": self.inpainter.fill([job])[0]}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> dict[str, Any]:
        result = self.inpainter.finish(model_outputs["job"], model_outputs["fills"])
        return {field.name: getattr(result, field.name) for field in fields(result)}


PIPELINE_REGISTRY.register_pipeline(
    "image-inpainting",
    pipeline_class=ImageInpaintingPipeline,
    pt_model=AutoModelForImageToImage,
    type="image",
)


def _checkpoint(name_or_path: str | os.PathLike) -> str:
    """The folder or Hub id behind a name.

    Raises:
        CheckpointError: it can be neither, or the folder is no checkpoint's.
    """
    name = os.fspath(name_or_path)
    known = f"one of the bundled weights ({', '.join(BUNDLED)})"
    if name in BUNDLED:
        folder = BUNDLED[name]
        if not (folder / "config.json").is_file():
            raise CheckpointError(
                f"The bundled weights {name!r} are not in this installation ({folder} has no config.json): install "
                "the package again, or name a folder or Hub id."
            )
        return str(folder)
    folder = Path(name).expanduser()
    if folder.is_file():
        raise CheckpointError(f"{name} is a file: name the folder that holds it and its config.json.")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            inside = [str(config.parent) for config in sorted(folder.glob("*/config.json")) if _is_ours(config)]
            raise CheckpointError(
                f"The folder {name!r} has no config.json, so it is no checkpoint: name one that save_pretrained wrote"
                + (f" ({', '.join(inside)})." if inside else ".")
            )
        return str(folder)
    if len(folder.parts) == 1 and not name.startswith((".", "~")):  # a Hub id has an owner; asking would take long
        raise CheckpointError(
            f"No folder and no bundled weights of the name {name!r}: name a folder, a Hub id (OWNER/NAME), or {known}."
        )
    if folder.is_absolute() or len(folder.parts) != 2 or name.startswith((".", "~")):
        raise CheckpointError(
            f"There is no folder {name!r}: name one that is there, a Hub id (OWNER/NAME), or {known}."
        )
    return name


def _is_ours(config: Path) -> bool:
    """Whether a configuration is of a network that `load_model` loads, and not of one half written."""
    try:
        return json.loads(config.read_text())["model_type"] in SYSTEMS and config.parent.suffix != ".partial"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _load_processor(name_or_path: str | os.PathLike) -> SGENetImageProcessor:
    try:
        return SGENetImageProcessor.from_pretrained(_checkpoint(name_or_path))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{name_or_path}: no usable preprocessor_config.json. Write one with "
            f"SGENetImageProcessor().save_pretrained(folder). {error}"
        ) from error


@functools.lru_cache(maxsize=2)
def _kept_inpainter(name: str, device: str | torch.device | None, dtype: str | torch.dtype | None) -> Inpainter:
    return Inpainter(name, device=device, dtype=dtype)


def _pixels_of(job: Job, region: Region) -> int:
    return int(job.mask[region.hole.window].sum())


def mean_in_hole(cells: np.ndarray, mask: np.ndarray) -> float:
    """Mean over the pixels of `mask` (H, W), True = hole, of what scale 2 says of its cells, one in 4 x 4 pixels."""
    height, width = mask.shape
    factor = 2**ERROR_SCALE
    return float(cells.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width][mask].mean(dtype=np.float64))


def _mean(values: Sequence[float | None], weights: Sequence[int]) -> float | None:
    """Weighted mean of the values that there are; None if there is none."""
    known = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _hole_area(job: Job, index: int) -> int:
    return _pixels_of(job, job.regions[index])


__all__ = [
    "BUNDLED",
    "STRATEGIES",
    "Box",
    "CheckpointError",
    "ImageInpaintingPipeline",
    "Inpainter",
    "InpaintingResult",
    "ScaleView",
    "SegmentationResult",
    "best_device",
    "class_names",
    "inpaint",
    "load_model",
]
