"""Between a photo and the canvas that people paint on: previews, painted holes, painted classes.

A browser gets a preview of at most 1280 pixels a side and sends its paint back as RGBA layers of that size. What is
known more exactly than a preview can show (a mask file, a map's class) goes along as a PNG of the photo's own size and
counts for as long as nobody paints on it.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .image_processing_sgenet import nearest
from .photos import Photo, load_mask, save_photo


PREVIEW_SIDE = 1280  # a phone can still paint on it and send it back in a second
HOLE_COLOUR, HOLE_OPACITY = (255, 90, 60), 0.7
FREE = -1  # in a map of classes: the network decides
COLOUR_TOLERANCE = 48  # where strokes of two classes meet, their colours mix into one that means neither
OWN_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
"""Format of a photo -> suffix of a file in the photo's own format, where that is not PNG."""


def preview_size(photo: Photo) -> tuple[int, int]:
    """Returns width and height of the picture that is painted on; never larger than the photo."""
    factor = min(1, PREVIEW_SIDE / max(photo.width, photo.height))
    return max(1, round(photo.width * factor)), max(1, round(photo.height * factor))


def preview(photo: Photo) -> Image.Image:
    """Returns the picture that is painted on."""
    return Image.fromarray(np.ascontiguousarray(photo.rgb)).resize(preview_size(photo), Image.Resampling.LANCZOS)


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrinks a mask to (width, height); a pixel is hole if any part of it is."""
    shares = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(shares) > 1e-6


def paint_hole(hole: np.ndarray) -> np.ndarray:
    """Returns a hole as a layer of paint, uint8 (height, width, 4)."""
    return hole[..., None] * np.array([*HOLE_COLOUR, round(255 * HOLE_OPACITY)], dtype=np.uint8)


def paint_labels(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Returns a map of classes as a layer of opaque paint, uint8 (height, width, 4); `FREE` stays clear."""
    opaque = np.concatenate([palette, np.full((len(palette), 1), 255)], axis=1).astype(np.uint8)
    return np.where((labels != FREE)[..., None], opaque[np.maximum(labels, 0)], np.uint8(0))


def painted_hole(layers: Sequence[np.ndarray], photo: Photo) -> np.ndarray:
    """Returns what is painted at all, bool (height, width) of the preview.

    Raises:
        ValueError: If the canvas has another size, as after a reload of the page in the middle of an upload.
    """
    width, height = preview_size(photo)
    hole = np.zeros((height, width), dtype=bool)
    for layer in _fitting(layers, photo):
        hole |= layer[..., 3] > 0
    return hole


def painted_labels(layers: Sequence[np.ndarray], photo: Photo, palette: np.ndarray) -> np.ndarray:
    """Returns which class is painted where, int64 (height, width) of the photo; `FREE` where none is.

    Raises:
        ValueError: If the canvas has another size, or no class is painted on it.
    """
    width, height = preview_size(photo)
    labels = np.full((height, width), FREE, dtype=np.int64)
    for layer in _fitting(layers, photo):
        colours, place = np.unique(layer.reshape(-1, 4), axis=0, return_inverse=True)
        distance = np.abs(colours[:, None, :3].astype(int) - palette[None].astype(int)).sum(axis=-1)
        meant = (colours[:, 3] > 127) & (distance.min(axis=1) <= COLOUR_TOLERANCE)
        painted = np.where(meant, distance.argmin(axis=1), FREE)[place.reshape(height, width)]
        labels = np.where(painted == FREE, labels, painted)
    if (labels == FREE).all():
        raise ValueError("No class is painted yet. Choose a class and paint where it belongs inside the hole.")
    return nearest(labels, (photo.height, photo.width))


def full_size_hole(hole: np.ndarray, photo: Photo, exact: bytes | None) -> np.ndarray:
    """Brings what is painted to the photo's size.

    Args:
        hole: What `painted_hole` returned.
        photo: The photo under it.
        exact: A mask of the photo's size from `mask_png`; counts if it is what the canvas shows.
    """
    if exact:
        mask = load_mask(exact)
        if mask.shape == (photo.height, photo.width) and np.array_equal(shrink_mask(mask, preview_size(photo)), hole):
            return mask
    return np.asarray(Image.fromarray(hole).resize((photo.width, photo.height), Image.Resampling.NEAREST))


def mask_png(mask: np.ndarray) -> bytes:
    """Returns a mask as the bytes of a PNG file, white = hole."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format="PNG")
    return buffer.getvalue()


def save_in_own_format(photo: Photo, image: Image.Image, stem: str) -> Path | None:
    """Writes a result in the photo's own format; `None` where that is PNG, or cannot be written.

    Args:
        photo: The photo that the result was made from.
        image: The result.
        stem: Where to, without the suffix.
    """
    suffix = OWN_SUFFIXES.get(photo.format or "")
    return save_photo(photo, image, stem + suffix) if suffix else None


def _fitting(layers: Sequence[np.ndarray], photo: Photo) -> Sequence[np.ndarray]:
    if any(layer.shape[1::-1] != preview_size(photo) for layer in layers):
        raise ValueError("The painting does not belong to this photo. Open the photo again.")
    return layers


__all__ = [
    "FREE",
    "HOLE_COLOUR",
    "HOLE_OPACITY",
    "full_size_hole",
    "mask_png",
    "paint_hole",
    "paint_labels",
    "painted_hole",
    "painted_labels",
    "preview",
    "preview_size",
    "save_in_own_format",
    "shrink_mask",
]
