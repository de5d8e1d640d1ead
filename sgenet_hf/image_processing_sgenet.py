"""Image processor of SGE-Net: photo and mask in, tensors out; the network's output in, a photo of the same size out.

    processor(images, masks) -> pixel_values (B, 3, H, W) in [-1, 1], mask (B, 1, H, W) 1 = hole, pixel_mask if ragged
    processor.post_process_inpainting(outputs, images, masks) -> PIL images, known pixels bit-exact

Photos keep their size here; `pipeline.py` decides what the network sees of a large one, with `shrink_without_leak`.
"""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import Unpack

from .photos import Photo, PhotoError, SizeError, load_mask, load_photo


class SGENetImageProcessorKwargs(TypedDict, total=False):
    """What may be set at construction and for a single call.

    Attributes:
        do_rescale: multiply the 8-bit values by `rescale_factor`.
        rescale_factor: 1 / 255.
        do_normalize: subtract `image_mean` and divide by `image_std`, one value per colour.
        image_mean: 0.5 for values in [-1, 1], which the network was trained on.
        image_std: 0.5, too.
        mask_threshold: share of the full range above which a mask's pixel is a hole.
        invert_mask: masks have 0 / black where the hole is.
        resize_mask: bring a mask of another size to its photo's in place of an error.
        max_hole_ratio: a larger share of hole pixels gives a warning: most such masks are inverted.
        return_tensors: `pt` for torch tensors, `np` for numpy arrays.
    """

    do_rescale: bool
    rescale_factor: float | int
    do_normalize: bool
    image_mean: float | int | list[float | int] | tuple[float | int, ...]
    image_std: float | int | list[float | int] | tuple[float | int, ...]
    mask_threshold: float | int
    invert_mask: bool
    resize_mask: bool
    max_hole_ratio: float | int
    return_tensors: str | None


class SGENetImageProcessor(PilBackend):
    """Photos and masks to tensors, and back. Reads all that `load_photo` and `load_mask` read.

    Example:
        inputs = processor(photo, mask, return_tensors="pt")
        outputs = model(**inputs)
        filled = processor.post_process_inpainting(outputs, photo, mask)[0]
    """

    valid_kwargs: Any = SGENetImageProcessorKwargs
    model_input_names = ["pixel_values", "mask"]  # noqa: RUF012 (transformers declares it as a plain class attribute)

    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.5, 0.5, 0.5)
    mask_threshold = 0.5
    invert_mask = False
    resize_mask = False
    max_hole_ratio = 0.6

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)

    def preprocess(self, images: Any, masks: Any = None, **kwargs: Unpack[SGENetImageProcessorKwargs]) -> BatchFeature:
        """Makes a batch.

        Args:
            images: one photo or a list of them (a 4-dimensional array or tensor is a list).
            masks: as many masks; `None` for no hole, which gives the segmentation of the photo as it is.
            kwargs: see `SGENetImageProcessorKwargs`.

        Returns:
            `pixel_values` float32 (B, 3, H, W); `mask` float32 (B, 1, H, W), 1 = hole; and, if the photos differ in
            size, `pixel_mask` int64 (B, H, W), 1 = photo, 0 = padding to the right and below.

        Raises:
            PhotoError: a photo or mask that cannot be used, or masks that do not fit in number or size.
            TypeError: an unknown option.
        """
        return super().preprocess(images, masks, **kwargs)

    def _preprocess_image_like_inputs(  # type: ignore[override]  # the base leaves what comes in to the subclass
        self,
        images: Any,
        masks: Any,
        *,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Any,
        image_std: Any,
        max_hole_ratio: float,
        return_tensors: str | None = None,
        **mask_options: Any,
    ) -> BatchFeature:
        photos, holes = self._read(images, masks, **mask_options)
        scale, shift = self._affine(do_rescale, rescale_factor, do_normalize, image_mean, image_std)
        height, width = max(photo.height for photo in photos), max(photo.width for photo in photos)
        pixel_values = np.zeros((len(photos), 3, height, width), np.float32)
        mask = np.zeros((len(photos), 1, height, width), np.float32)
        pixel_mask = np.zeros((len(photos), height, width), np.int64)
        for index, (photo, hole) in enumerate(zip(photos, holes, strict=True)):
            pixel_values[index, :, : photo.height, : photo.width] = np.moveaxis(photo.rgb * scale + shift, -1, 0)
            mask[index, 0, : photo.height, : photo.width] = hole
            pixel_mask[index, : photo.height, : photo.width] = 1
            if message := hole_warning(hole, max_hole_ratio):
                warnings.warn(f"{photo.name}: {message}", stacklevel=2)
        data: dict[str, np.ndarray] = {"pixel_values": pixel_values, "mask": mask}
        if not pixel_mask.all():
            data["pixel_mask"] = pixel_mask
        return BatchFeature(data, tensor_type=return_tensors)

    def post_process_inpainting(
        self, outputs: Any, images: Any, masks: Any, **kwargs: Unpack[SGENetImageProcessorKwargs]
    ) -> list[Image.Image]:
        """Writes the network's fills into the photos.

        Args:
            outputs: what the model returned for these images and masks.
            images: the same photos as for the call.
            masks: the same masks.
            kwargs: the same `mask_threshold`, `invert_mask` and `resize_mask`, if any were given.

        Returns:
            PIL images of the photos' sizes and modes; where the mask is 0, bit for bit the photos' own pixels.

        Raises:
            PhotoError: a photo is larger than the network's output.
        """
        options: dict[str, Any] = {name: kwargs.get(name, getattr(self, name)) for name in _MASK_OPTIONS}
        photos, holes = self._read(images, masks, **options)
        results = []
        for photo, hole, composite in zip(photos, holes, outputs.composite, strict=True):
            fill = self.to_pixels(composite)[: photo.height, : photo.width]
            if fill.shape[:2] != hole.shape:
                raise PhotoError(
                    f"{photo.name} has {photo.width}x{photo.height} pixels, the network's output "
                    f"{fill.shape[1]}x{fill.shape[0]}: pass the photos that went in."
                )
            pixels = photo.pixels.copy()
            photo.paste(pixels, fill, hole.astype(np.float32))
            results.append(photo.image(pixels))
        return results

    def post_process_semantic_segmentation(
        self, outputs: Any, target_sizes: list[tuple[int, int]] | None = None
    ) -> list[torch.Tensor]:
        """The most likely class of each pixel at the finest scale.

        Args:
            outputs: what the model returned.
            target_sizes: (height, width) per photo to enlarge the logits to, for equally sized photos only; `None`
                leaves the size of the batch.

        Returns:
            One int64 tensor (height, width) per photo.

        Raises:
            ValueError: not one size per photo.
        """
        logits = outputs.logits[-1].float()
        if target_sizes is None:
            return list(logits.argmax(dim=1))
        if len(target_sizes) != len(logits):
            raise ValueError(f"{len(target_sizes)} target sizes for {len(logits)} photos: pass one for each.")
        return [largest_class(planes, (size[0], size[1])) for planes, size in zip(logits, target_sizes, strict=True)]

    def to_pixels(self, image: torch.Tensor) -> np.ndarray:
        """Undoes rescaling and normalisation: (3, H, W) in the network's range to float32 (H, W, 3) in [0, 255]."""
        scale, shift = self._affine(
            self.do_rescale, self.rescale_factor, self.do_normalize, self.image_mean, self.image_std
        )
        values = image.detach().float().permute(1, 2, 0).cpu().numpy()
        return ((values - shift) / scale).clip(0, 255).astype(np.float32)

    @staticmethod
    def _affine(do_rescale, rescale_factor, do_normalize, mean, std) -> tuple[np.ndarray, np.ndarray]:
        """Rescaling and normalisation as `pixels * scale + shift`, one value per colour."""
        scale, shift = np.full(3, rescale_factor if do_rescale else 1.0), np.zeros(3)
        if do_normalize:
            scale, shift = scale / np.asarray(std), -np.asarray(mean) / np.asarray(std)
        return scale.astype(np.float32), np.broadcast_to(shift, 3).astype(np.float32)

    @staticmethod
    def _read(
        images: Any, masks: Any, *, mask_threshold: float, invert_mask: bool, resize_mask: bool, **_: Any
    ) -> tuple[list[Photo], list[np.ndarray]]:
        photos = [load_photo(image) for image in _as_list(images)]
        if not photos:
            raise PhotoError("No photos: pass at least one.")
        if masks is None:
            return photos, [np.zeros((photo.height, photo.width), bool) for photo in photos]
        sources = _as_list(masks, of_several=_several(images))
        if len(sources) != len(photos):
            raise PhotoError(f"{len(photos)} photos but {len(sources)} masks: pass one mask for each photo.")
        holes = [load_mask(source, invert=invert_mask, threshold=mask_threshold) for source in sources]
        return photos, [fit_mask(hole, photo, resize_mask) for hole, photo in zip(holes, photos, strict=True)]


_MASK_OPTIONS = ("mask_threshold", "invert_mask", "resize_mask")


def fit_mask(mask: np.ndarray, photo: Photo, resize: bool = False) -> np.ndarray:
    """Checks that a mask fits its photo, or makes it fit.

    Args:
        mask: bool (h, w), True = hole.
        photo: what it belongs to.
        resize: bring it to the photo's size: shrunk by maximum, so that no stroke gets lost, enlarged by nearest.

    Raises:
        SizeError: the sizes differ and `resize` is False.
    """
    size = (photo.height, photo.width)
    if mask.shape == size:
        return mask
    if not resize:
        hint = ""
        if photo.rotated and mask.shape == size[::-1]:
            hint = " The photo's EXIF orientation turned it: make the mask for the photo as a viewer shows it."
        raise SizeError(
            f"The mask has {mask.shape[1]}x{mask.shape[0]} pixels, {photo.name} has {photo.width}x{photo.height}."
            f"{hint}"
        )
    for axis in (0, 1):
        plane = np.moveaxis(mask, axis, 0)
        if size[axis] < len(plane):
            plane = _area_means(plane, size[axis]) > _SLIVER
        else:
            plane = nearest(plane, (size[axis],))
        mask = np.moveaxis(plane, 0, axis)
    return mask


def hole_warning(mask: np.ndarray, max_hole_ratio: float = 0.6) -> str | None:
    """Says so if most of the photo is hole, the usual sign of an inverted mask."""
    if (ratio := mask.mean()) > max_hole_ratio:
        return (
            f"{ratio:.0%} of the photo is hole. If the mask is black where the hole is, invert it "
            "(invert_mask=True, --invert-mask)."
        )
    return None


def shrink_without_leak(image: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Shrinks a photo so that nothing of what the mask covers shows.

    Ordinary shrinking averages over the hole's edge, and the colours of the object to be removed bleed into the known
    part. Here colours are area(x * known) / area(known), 0 where nothing is known, and a small cell is a hole if any
    of its pixels is.

    Args:
        image: (H, W, C), uint8 or float.
        mask: bool (H, W), True = hole.
        size: (height, width), neither above the image's.

    Returns:
        The small image, of the image's type, and the small mask, bool.

    Raises:
        ValueError: the image would grow, or image and mask differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f"The image has shape {image.shape}, the mask {mask.shape}: pass a mask of its size.")
    if size[0] > mask.shape[0] or size[1] > mask.shape[1] or min(size) < 1:
        raise ValueError(f"Cannot shrink {mask.shape} to {tuple(size)}: shrinking only, to at least 1x1.")
    known = ~mask
    if mask.shape == tuple(size):
        return np.where(known[..., None], image, 0).astype(image.dtype), mask.copy()
    area = _shrink_plane(known, size)
    channels = []
    for channel in np.moveaxis(image, -1, 0):
        total = _shrink_plane(np.where(known, channel, 0), size)
        channels.append(np.divide(total, area, out=np.zeros_like(total), where=area > _SLIVER))
    small = np.stack(channels, axis=-1)
    if np.issubdtype(image.dtype, np.integer):
        small = np.rint(small)
    return small.astype(image.dtype), area < 1 - _SLIVER


def nearest(plane: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Brings the leading axes of an array to `size` by nearest, pixel centres on pixel centres."""
    for axis, target in enumerate(size):
        index = (np.arange(target) * 2 + 1) * plane.shape[axis] // (2 * target)
        plane = np.take(plane, index, axis=axis)
    return plane


def shrink_prompt(prompt: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Brings a semantic prompt to `size`; a cell takes the class that covers most of what is prompted in it, so that
    thin strokes survive.

    Args:
        prompt: integers (H, W), class ids, negative = the network decides.
        size: height, width; a prompt that is not larger on both sides is enlarged by nearest.
    """
    if prompt.shape == size:
        return prompt
    if prompt.shape[0] < size[0] or prompt.shape[1] < size[1]:
        return nearest(prompt, size)
    ids = np.unique(prompt[prompt >= 0])
    shares = np.stack([np.full(size, _SLIVER), *(_shrink_plane(prompt == index, size) for index in ids)])
    return np.array([-1, *ids])[shares.argmax(axis=0)]


def largest_class(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarges logits (num_labels, h, w) and takes the largest: int64 (H, W).

    Class by class, because all classes of a large photo at once would take gigabytes.
    """
    best = torch.full(size, -torch.inf, device=logits.device)
    labels = torch.zeros(size, dtype=torch.int64, device=logits.device)
    for index, plane in enumerate(logits):
        enlarged = F.interpolate(plane[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        labels[enlarged > best] = index
        best = torch.maximum(best, enlarged)
    return labels


# Shares of a cell below this are rounding of the cells' edges, not pixels.
_SLIVER = 1e-9


def _shrink_plane(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows = _area_means(plane, size[0])
    return _area_means(np.ascontiguousarray(rows.T), size[1]).T


def _area_means(values: np.ndarray, size: int) -> np.ndarray:
    """Means over `size` equal stretches of the first axis, edge pixels by their share; float64.

    Row by row, because sums over whole rows run at the speed of memory and running sums down the columns do not.
    """
    length = len(values)
    edges = [index * (length / size) for index in range(size + 1)]
    means = np.empty((size, *values.shape[1:]))
    for index, (start, end) in enumerate(itertools.pairwise(edges)):
        first, last = int(start), min(math.ceil(end), length)
        total = values[first:last].sum(axis=0, dtype=np.float64)
        means[index] = total - values[first] * (start - first) - values[last - 1] * (last - end)
    return means * (size / length)


def _several(source: Any) -> bool:
    return isinstance(source, list | tuple) or getattr(source, "ndim", 0) == 4


def _as_list(source: Any, of_several: bool = False) -> list[Any]:
    """One photo or mask, or several, as a list; `of_several`: three dimensions are a stack of masks, not one."""
    if _several(source) or (of_several and getattr(source, "ndim", 0) == 3):
        return list(source)
    return [source]


__all__ = [
    "SGENetImageProcessor",
    "SGENetImageProcessorKwargs",
    "fit_mask",
    "hole_warning",
    "largest_class",
    "nearest",
    "shrink_without_leak",
]
