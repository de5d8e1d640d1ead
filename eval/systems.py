"""The things that fill holes or label them, behind one call: classical methods and checkpoints.

A system sees a photo whose hole has been emptied and gives back a composite, a segmentation, or both. What it cannot
give is None and is left out of the tables.
"""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import AutoModel

from eval.provenance import weights_sha256
from sgenet_hf.pipeline import load_model


TELEA_RADIUS = 3


@dataclass(frozen=True)
class Filled:
    """A system's answer.

    Attributes:
        image: uint8 (H, W, 3), known pixels equal to the photo's; None if the system only labels.
        labels: integers (H, W), for known pixels too; None if the system only paints.
    """

    image: np.ndarray | None = None
    labels: np.ndarray | None = None


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
    """

    name: str
    identity: str
    fill: Callable[[np.ndarray, np.ndarray, np.ndarray], Filled]
    num_labels: int | None = None
    label_colors: list[list[int]] | None = None


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


def nearest_label(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
    """The segmentation to beat: every hole pixel takes the TRUE label of the nearest known, labelled pixel.

    It reads the true labels outside the hole, which no network gets to see. Without such a pixel it labels nothing.
    """
    from scipy.ndimage import distance_transform_edt

    usable = ~mask & (labels != 255)
    if not usable.any():
        return Filled(labels=np.full_like(labels, -1))
    rows, columns = distance_transform_edt(~usable, return_distances=False, return_indices=True)
    return Filled(labels=np.where(mask, labels[rows, columns], labels))


CLASSICAL = {"telea": telea, "navier_stokes": navier_stokes, "nearest_label": nearest_label}


def load_system(specification: str, device: str = "cpu") -> System:
    """Makes a system from what the command line says.

    Args:
        specification: `telea`, `navier_stokes`, `nearest_label`, or a checkpoint by bundled name, folder or Hub id.
            `oracle:CHECKPOINT` guides it with the true labels (the paper's Fig. 1e). `NAME=...` is what the tables
            call it.
        device: Where checkpoints run.

    Raises:
        OSError: If the checkpoint cannot be found.
    """
    name, equals, source = specification.partition("=")
    if not equals:
        source = specification
    if source in CLASSICAL:
        library = importlib.import_module("scipy" if source == "nearest_label" else "cv2")
        return System(name, f"{source} {library.__name__} {library.__version__}", CLASSICAL[source])
    oracle = source.startswith("oracle:")
    return checkpoint_system(name, source.removeprefix("oracle:"), oracle, device)


def checkpoint_system(name: str, source: str, oracle: bool, device: str) -> System:
    """A trained network; under `oracle` its guidance is the true segmentation of the whole photo.

    Raises:
        ValueError: If an oracle is asked for and labels do not guide the network.
    """
    model = load_model(source, device=device, network=AutoModel)
    if oracle and "semantic_prompt" not in inspect.signature(model.forward).parameters:
        raise ValueError(f"Labels do not guide {source}: it can have no oracle.")

    @torch.inference_mode()
    def fill(photo: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Filled:
        pixels = torch.from_numpy(photo.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
        hole = torch.from_numpy(mask)[None, None].float()
        inputs = {"pixel_values": pixels.to(device), "mask": hole.to(device)}
        if oracle:
            prompt = np.where(labels == 255, -1, labels)
            inputs["semantic_prompt"] = torch.from_numpy(prompt).long()[None].to(device)
        output = model(**inputs)
        image = output.composite[0].float().clamp(-1, 1).add(1).mul(127.5).round().byte().cpu().numpy()
        composite = np.where(mask[..., None], image.transpose(1, 2, 0), photo)
        predicted = output.logits[-1][0].argmax(dim=0).cpu().numpy() if "logits" in output else None
        return Filled(image=composite, labels=predicted)

    settings = f"{weights_sha256(model)} {model.config.to_json_string()} oracle={oracle}"
    identity = hashlib.sha256(settings.encode()).hexdigest()
    colors = getattr(model.config, "label_colors", None)
    return System(name, identity, fill, model.config.num_labels or None, colors)
