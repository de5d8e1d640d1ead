"""The things that fill holes or label them, behind one call: classical methods and checkpoints.

A system sees a photo whose hole has been emptied and gives back a composite, a segmentation, or both. What it cannot
give is None and is left out of the tables.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch.nn import functional as F
from transformers import PreTrainedConfig

from eval.evaluation_set import Sample
from eval.files import slug
from eval.provenance import weights_sha256
from sgenet_hf.configuration_sgenet import as_drawn
from sgenet_hf.patch_synthesis import redraw
from sgenet_hf.pipeline import load_model


TELEA_RADIUS = 3


@dataclass(frozen=True)
class Filled:
    """A system's answer.

    Attributes:
        image: uint8 (H, W, 3), known pixels equal to the photo's; None if the system only labels.
        labels: integers (H, W), for known pixels too; None if the system only paints.
        confidence: float (H, W) in [0, 1], P_max of section 3.2; None if the system has none.
    """

    image: np.ndarray | None = None
    labels: np.ndarray | None = None
    confidence: np.ndarray | None = None


@dataclass(frozen=True)
class System:
    """A named way to fill.

    Attributes:
        name: What the tables call it.
        identity: Changes whenever the results may: weights, library versions, settings.
        fill: (photo uint8 (H, W, 3), true labels (H, W), mask bool (H, W)) -> `Filled`. Only the oracle and the
            nearest-label baseline may look at the labels; each says what it looks at.
        num_labels: Classes of the labels it gives, None if it gives none or takes whatever the data has.
        label_colors: RGB of each of them, if the checkpoint says.
        sees_photo: Whether it is shown the photo without a hole. Only `truth` is.
        class_names: Of the labels it gives, if the checkpoint says; another data set's ids would mean something else.
        sees_labels: Whether the true labels guide it.
        paints: Whether it gives an image.
    """

    name: str
    identity: str
    fill: Callable[[np.ndarray, np.ndarray, np.ndarray], Filled]
    num_labels: int | None = None
    label_colors: list[list[int]] | None = None
    sees_photo: bool = False
    class_names: list[str] | None = None
    sees_labels: bool = False
    paints: bool = True


def answer(system: System, sample: Sample) -> Filled:
    """What a system makes of a photo whose hole has been emptied: nobody gets to see the answer.

    Raises:
        ValueError: If the system changes known pixels.
    """
    shown = sample.photo if system.sees_photo else sample.emptied(0)
    filled = system.fill(shown, sample.labels, sample.mask)
    if filled.image is not None and not np.array_equal(filled.image[~sample.mask], sample.photo[~sample.mask]):
        raise ValueError(f"{system.name} changed known pixels of {sample.id}; a composite must keep them.")
    return filled


def class_names_of(config: PreTrainedConfig) -> list[str] | None:
    """The names of a network's classes by id, None if it has none but those that transformers makes up."""
    names = [str(config.id2label[index]) for index in range(config.num_labels)] if config.num_labels else []
    return None if all(name.startswith("LABEL_") for name in names) else names


def for_classes(system: System, class_names: list[str] | None) -> System:
    """The system as a data set of these classes may use it: if its own classes are others, without its labels.

    Raises:
        ValueError: If nothing is left of it then: true labels were to guide it, or labels are all that it makes.
    """
    if same_classes(system.class_names, class_names):
        return system
    if system.sees_labels or not system.paints:
        raise ValueError(
            f"{system.name}: the classes of the data ({', '.join(class_names)}) are not the network's "
            f"({', '.join(system.class_names)}), so their labels cannot be compared. Leave this system out."
        )
    return replace(
        system,
        fill=lambda photo, labels, mask: replace(system.fill(photo, labels, mask), labels=None),
        identity=f"{system.identity} without labels",
        num_labels=None,
        label_colors=None,
    )


def same_classes(names: list[str] | None, others: list[str] | None) -> bool:
    """Whether labels mean the same by two lists of classes, as far as both are known."""
    return None in (names, others) or names == others


def truth(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """The photo without a hole: what the best fill would get, and what a segmenter does when nothing is missing."""
    return Filled(image=photo)


def telea(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """Telea's fast marching fill (2004), OpenCV, radius 3."""
    return Filled(image=_opencv_inpaint(photo, mask, "INPAINT_TELEA"))


def navier_stokes(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """Fill along isophotes (Bertalmio et al., 2001), OpenCV, radius 3."""
    return Filled(image=_opencv_inpaint(photo, mask, "INPAINT_NS"))


def _opencv_inpaint(photo: np.ndarray, mask: np.ndarray, method: str) -> np.ndarray:
    import cv2

    # These treat the channels alike, so RGB in place of OpenCV's BGR changes nothing.
    return cv2.inpaint(np.ascontiguousarray(photo), mask.astype(np.uint8), TELEA_RADIUS, getattr(cv2, method))


def biharmonic(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """Fill whose Laplacian's Laplacian is zero (Damelin and Hoang, 2018), scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    filled = inpaint_biharmonic(photo, mask, channel_axis=-1)  # float in [0, 1], known pixels to rounding
    image = np.rint(np.clip(filled, 0, 1) * 255).astype(np.uint8)
    return Filled(image=np.where(mask[..., None], image, photo))


def nearest_label(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """The segmentation to beat: every hole pixel takes the TRUE label of the nearest known, labelled pixel.

    It reads the true labels outside the hole, which no network gets to see. Without such a pixel it labels nothing.
    """
    return Filled(labels=carry_in(labels, mask, ~mask & (labels != 255)))


def carry_in(labels: np.ndarray, mask: np.ndarray, usable: np.ndarray) -> np.ndarray:
    """Labels whose hole pixels are those of the nearest usable pixel, -1 everywhere if none is usable."""
    from scipy.ndimage import distance_transform_edt

    if not usable.any():
        return np.full_like(labels, -1)
    rows, columns = distance_transform_edt(~usable, return_distances=False, return_indices=True)
    return np.where(mask, labels[rows, columns], labels)


# Name -> what fills, and the library that does the work.
CLASSICAL: dict[str, tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], Filled], str]] = {
    "telea": (telea, "cv2"),
    "navier_stokes": (navier_stokes, "cv2"),
    "biharmonic": (biharmonic, "skimage"),
    "nearest_label": (nearest_label, "scipy"),
    "truth": (truth, "numpy"),
}
PACKAGES = {"cv2": "opencv-python-headless", "skimage": "scikit-image", "scipy": "scipy"}
# Ways to look at a checkpoint that are not its own: `WAY:CHECKPOINT`.
LABEL_WAYS = ("oracle", "nearest_predicted")  # these need data of the network's own classes
WAYS = (*LABEL_WAYS, "ones", "known")
REDRAWN = "redrawn"  # may stand before any system that paints, with a colon
# Settings that change what a trained network does and not which weights it has, `CHECKPOINT{name: value, ...}`, and
# the part of the network without which they would change nothing.
SETTINGS = {
    "tau_reading": "confidence_evaluation",
    "tau_proportions": "confidence_evaluation",
    "first_reliability": "confidence_evaluation",
    "reliability_source": "confidence_evaluation",
    "reliability_smoothing": "confidence_evaluation",
    "guidance_probabilities": "semantic_guidance",
    "guidance_resolution": "semantic_guidance",
    "guidance_scale": "semantic_guidance",
    "noise_strength": "noise_channels",
    "pasted_share": "contextual_attention",
    "redrawn_share": "widths",  # any network of ours
}


def load_system(specification: str, device: str = "cpu") -> System:
    """Makes a system from what the command line says.

    Args:
        specification: `telea`, `navier_stokes`, `biharmonic`, `nearest_label`, `truth`, or a checkpoint by bundled
            name, folder or Hub id. `oracle:CHECKPOINT` guides it with the true labels (the paper's Fig. 1e), not
            beyond them (`guidance_scale` 1) and, as under any prompt, with nothing pasted from the known part;
            `ones:CHECKPOINT` and `known:CHECKPOINT` take M = 1 and M = 1 - mask for its reliability at every scale
            (the same weights, not trained so); `nearest_predicted:CHECKPOINT` carries the labels that it predicts
            outside the hole into the hole, and paints nothing. `CHECKPOINT{tau_reading: max, ...}` changes `SETTINGS`
            of its configuration (again: the same weights, not trained so). `redrawn:SYSTEM` redraws whatever any of
            these paints with the photo's patches; of the bundled weights `street{redrawn_share: 0}`, which are redrawn
            already. `NAME=...` is what the tables call it.
        device: Where checkpoints run.

    Raises:
        ImportError: If a classical method's package is missing.
        OSError: If the checkpoint cannot be found.
        ValueError: If a system cannot be looked at in this way, or the tables would take it for another.
    """
    name, equals, rest = specification.partition("=")
    asked = rest if equals else specification
    source, settings = split_settings(asked)
    for way in (*WAYS, REDRAWN):
        if name.startswith(f"{way}:") and not asked.startswith(f"{way}:"):
            raise ValueError(
                f"{name} would be taken for a look at a system that it is not: write {way}: behind the =."
            )
    if source.startswith(f"{REDRAWN}:"):
        return redrawn_system(name, load_system(asked.removeprefix(f"{REDRAWN}:"), device))
    if source in CLASSICAL:
        if settings:
            raise ValueError(f"{source} has no settings: leave out {{{', '.join(settings)}}}.")
        fill, needed = CLASSICAL[source]
        try:
            library = importlib.import_module(needed)
        except ImportError as error:
            raise ImportError(f"{source} needs {PACKAGES[needed]}: pip install {PACKAGES[needed]}") from error
        identity = f"{source} {needed} {library.__version__}"
        return System(name, identity, fill, sees_photo=source == "truth", paints=source != "nearest_label")
    way, colon, checkpoint = source.partition(":")
    if colon and way in WAYS:
        return checkpoint_system(name, checkpoint, way, settings, device)
    return checkpoint_system(name, source, "", settings, device)


def redrawn_system(name: str, drawn: System) -> System:
    """A system whose fills are redrawn with the photo's patches, led by its colours and, where it labels, by its
    classes. A network of ours can do more by `{redrawn_share: 1}`: it has probabilities and a coarser scale's colours.

    Raises:
        ValueError: If it paints nothing.
    """
    if not drawn.paints:
        raise ValueError(f"{drawn.name} paints nothing that could be redrawn.")

    def fill(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
        filled = drawn.fill(photo, labels, mask)
        image = torch.from_numpy(filled.image.transpose(2, 0, 1).copy()).float() / 127.5 - 1
        known = np.zeros_like(labels) if filled.labels is None else filled.labels
        classes = F.one_hot(torch.from_numpy(known).long()).permute(2, 0, 1).float()
        redrawn = redraw(image, torch.from_numpy(mask).float(), classes).clamp(-1, 1).add(1).mul(127.5).round().byte()
        return replace(filled, image=np.where(mask[..., None], redrawn.permute(1, 2, 0).numpy(), photo))

    return replace(drawn, name=name, identity=f"{drawn.identity} redrawn", fill=fill)


def split_settings(specification: str) -> tuple[str, dict]:
    """`CHECKPOINT{name: value, ...}` as the checkpoint and its settings."""
    source, brace, inner = specification.partition("{")
    return source, yaml.safe_load(brace + inner) if brace else {}


def with_settings(model: torch.nn.Module, settings: dict) -> torch.nn.Module:
    """The same weights under other `SETTINGS`.

    Raises:
        ValueError: If a setting is none of them, has no such value, or would change nothing in the network.
    """
    known = [setting for setting, part in SETTINGS.items() if getattr(model.config, part, None)]
    if unknown := sorted(set(settings) - set(known)):
        choices = f"choose among {', '.join(known)}" if known else "it has no such settings"
        raise ValueError(f"{', '.join(unknown)} cannot be set on this checkpoint: {choices}.")
    try:
        config = type(model.config)(**{**model.config.to_dict(), **settings})
    except StrictDataclassError as error:
        raise ValueError(str(error.__cause__ or error)) from error
    other = type(model)(config)
    other.load_state_dict(model.state_dict())
    return other.to(next(model.parameters()).device).eval()


def checkpoint_system(name: str, source: str, way: str, settings: dict, device: str) -> System:
    """A trained network, looked at in one of `WAYS` or, with an empty `way`, in its own.

    Raises:
        OSError: If there is no usable checkpoint.
        ValueError: If it has nothing that this way or these settings could change.
    """
    model = load_model(source, device=device)
    if settings:
        model = with_settings(model, settings)
    if way == "oracle" and "semantic_prompt" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"Labels do not guide {source}: it can have no oracle.")
    if way == "oracle" and getattr(model.config, "guidance_scale", 1) != settings.get("guidance_scale", 1):
        model = with_settings(model, {"guidance_scale": 1})
    if way in ("ones", "known"):
        if getattr(model, "evaluation", None) is None:
            raise ValueError(f"{way}:{source}: this network evaluates no confidence, so there is no M to replace.")
        model = with_settings(model, {"reliability_source": way})

    @torch.inference_mode()
    def fill(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
        pixels = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
        hole = torch.from_numpy(mask)[None, None].float()
        inputs = {"pixel_values": pixels.to(device), "mask": hole.to(device)}
        if way == "oracle":
            prompt = np.where(labels == 255, -1, labels)
            inputs["semantic_prompt"] = torch.from_numpy(prompt).long()[None].to(device)
        output = model(**inputs, **(as_drawn(model.config) if way == "nearest_predicted" else {}))
        logits = output.get("logits")
        predicted = None if logits is None else logits[-1][0].argmax(dim=0).cpu().numpy()
        if way == "nearest_predicted":
            if predicted is None:
                raise ValueError(f"{source} predicts no labels that could be carried into the hole.")
            return Filled(labels=carry_in(predicted, mask, ~mask))
        image = output.composite[0].float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu().numpy()
        composite = np.where(mask[..., None], image.transpose(1, 2, 0), photo)
        confidences = output.get("confidences")
        confidence = None if confidences is None else confidences[-1][0, 0].float().cpu().numpy()
        return Filled(image=composite, labels=predicted, confidence=confidence)

    whole = f"{weights_sha256(model)} {model.config.to_json_string()} {way}"
    identity = hashlib.sha256(whole.encode()).hexdigest()
    colors = getattr(model.config, "label_colors", None)
    return System(
        name,
        identity,
        fill,
        model.config.num_labels or None,
        colors,
        class_names=class_names_of(model.config),
        sees_labels=way == "oracle",
        paints=way != "nearest_predicted",
    )


def load_systems(specifications: Iterable[str], device: str) -> list[System]:
    """Systems (`load_system`) that can be told apart by their names, in files too.

    Raises:
        ValueError: If two would have one name.
    """
    systems = [load_system(specification, device) for specification in specifications]
    names = [system.name for system in systems]
    if len(set(map(slug, names))) < len(names):
        raise ValueError(f"Two systems would have one name in {names}: name them, e.g. first=FOLDER second=FOLDER.")
    return systems


def reference_of(wanted: str | None, systems: list[System]) -> str | None:
    """Name of the system that the others are compared with, None if there is only classical company.

    Raises:
        ValueError: If no system has the wanted name.
    """
    names = [system.name for system in systems]
    if wanted is not None and wanted not in names:
        raise ValueError(f"--reference {wanted}: no system of this run has that name, only {', '.join(names)}.")
    return wanted or next((system.name for system in systems if system.num_labels is not None), None)
