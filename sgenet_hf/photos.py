"""Photos and masks from whatever people have (files, bytes, PIL, numpy, torch), and photos back to files.

A photo is read upright (EXIF orientation applied) and keeps what a viewer needs: alpha, bit depth, ICC profile, EXIF,
JPEG quality. The network only ever sees 8-bit RGB; the result is written into the photo's own pixels.

    mode of the file          mode of the photo   why
    L, LA, RGB, RGBA, I;16    the same            known pixels stay bit-exact
    1                         L                   a bit cannot hold the fill
    P, PA                     RGB or RGBA         a palette cannot hold the fill
    CMYK, YCbCr, LAB, HSV     RGB                 the network fills RGB; an embedded CMYK profile is applied
    I, F                      refused             their range is not known
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import get_sampling


PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
"""Files that `save_photo` can write without losing colours to a palette, and that a folder run reads."""

_FREE_LABEL = 255
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow's own conversion to grey
_SIXTEEN_TO_EIGHT = 257  # 65535 / 255
_DESCRIPTIVE_TIFF_TAGS = (270, 271, 272, 305, 306, 315, 33432)  # description, make, model, software, date, artist, ©
_EXIF_DIRECTORY, _ORIENTATION = 0x8769, 0x0112


class PhotoError(ValueError):
    """A photo, mask or label map that cannot be used; the message says why and what to do."""


class SizeError(PhotoError):
    """A mask or label map of another size than its photo.

    Attributes:
        facts: the message without its remedy, which only Python and the command line have.
    """

    def __init__(self, facts: str):
        super().__init__(f"{facts} Pass one of the photo's size, or resize_mask=True (--resize-mask).")
        self.facts = facts


@dataclass(frozen=True, eq=False)
class Photo:
    """One upright photo: its pixels as they will be given back, and what to write beside them.

    Attributes:
        pixels: (H, W) or (H, W, channels), uint8, or uint16 for mode `I;16`.
        mode: `L`, `LA`, `RGB`, `RGBA` or `I;16`.
        name: how messages call the photo.
        format: Pillow's name of the file format, `None` for arrays.
        metadata: keyword arguments for Pillow's `save`: `icc_profile`, `exif`, `xmp`, `dpi` as far as present.
        jpeg: `qtables`, `subsampling` and `progressive` of a JPEG file, so that it is saved at the quality it had.
        rotated: whether the EXIF orientation turned the stored pixels.
        warnings: what was lost on reading.
    """

    pixels: np.ndarray
    mode: str
    name: str = "photo"
    format: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    jpeg: dict[str, Any] = field(default_factory=dict)
    rotated: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @cached_property
    def rgb(self) -> np.ndarray:
        """What the network sees: uint8 (H, W, 3)."""
        if self.mode in ("RGB", "RGBA"):
            return self.pixels[..., :3]
        grey = self.pixels if self.pixels.ndim == 2 else self.pixels[..., 0]
        if self.mode == "I;16":
            grey = ((grey.astype(np.uint32) + _SIXTEEN_TO_EIGHT // 2) // _SIXTEEN_TO_EIGHT).astype(np.uint8)
        return np.broadcast_to(grey[..., None], (*grey.shape, 3))

    def image(self, pixels: np.ndarray | None = None) -> Image.Image:
        """The photo, or other pixels of its kind, as a PIL image of its mode."""
        return Image.fromarray(np.ascontiguousarray(self.pixels if pixels is None else pixels))

    def paste(self, pixels: np.ndarray, fill: np.ndarray, weight: np.ndarray, top: int = 0, left: int = 0) -> None:
        """Write a fill into `pixels`, an array like this photo's, in place.

        Alpha is left as it is. Where the weight is 0 no bit changes; where it is 1 the fill replaces the pixel.

        Args:
            pixels: array of the photo's shape and type.
            fill: float32 (h, w, 3) in [0, 255].
            weight: float32 (h, w) in [0, 1].
            top: row of the fill's upper edge in the photo.
            left: column of the fill's left edge in the photo.
        """
        window = pixels[top : top + fill.shape[0], left : left + fill.shape[1]]
        colours = window[..., : 3 if self.mode in ("RGB", "RGBA") else 1] if window.ndim == 3 else window[..., None]
        touched = weight > 0
        values = fill[touched]
        if colours.shape[-1] == 1:
            values = (values @ _LUMINANCE)[:, None]
        if self.mode == "I;16":
            values = values * _SIXTEEN_TO_EIGHT
        share = weight[touched][:, None]
        blended = values * share + colours[touched] * (1 - share)
        colours[touched] = np.rint(blended).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)


def load_photo(source: Any) -> Photo:
    """Read a photo upright, without losing what the result should keep.

    Args:
        source: a path, the bytes of an image file, an open binary file, a PIL image, a `Photo` (returned as it is),
            a numpy array ((H, W), (H, W, C) or (C, H, W)) or a torch tensor ((H, W), (C, H, W) or (1, C, H, W)).
            Arrays hold uint8 in [0, 255], float in [0, 1], or uint16 grey in [0, 65535].

    Raises:
        FileNotFoundError: no such file.
        PhotoError: not an image, damaged, animated, too large, or of a type whose range is not known.
    """
    if isinstance(source, Photo):
        return source
    if _is_array(source):
        return _photo_from_array(source)
    with _opened(source) as (image, name, lost):
        return _photo_from_image(image, name, lost)


def load_mask(source: Any, *, invert: bool = False, threshold: float = 0.5) -> np.ndarray:
    """Read a mask: bool (H, W), True = hole.

    Colours count by their luminance, transparent pixels as black. Values are compared with `threshold` times the
    largest value of their type; integer masks that hold nothing above 1 are taken as 0 and 1.

    Args:
        source: what `load_photo` takes, bool arrays too.
        invert: the source has 0 / black where the hole is.
        threshold: share of the full range above which a pixel is white.

    Raises:
        FileNotFoundError: no such file.
        PhotoError: see `load_photo`.
    """
    may_be_binary = True
    if _is_array(source):
        values = _as_numpy(source)
        may_be_binary = not np.issubdtype(values.dtype, np.floating)
        if values.dtype == bool:
            values = values.astype(np.uint8)
        values = _grey(_photo_from_array(values, "mask", any_integer=True))
    else:
        with _opened(source, "mask") as (image, name, _):
            may_be_binary = image.format != "JPEG"  # a black JPEG may hold a few ones
            values = _grey(_photo_from_image(image, name))
    full = 1 if may_be_binary and values.max() <= 1 else np.iinfo(values.dtype).max
    return (values > threshold * full) != invert


def load_labels(source: Any, num_labels: int) -> np.ndarray:
    """Read a map of class ids for a semantic prompt: int64 (H, W), -1 = free.

    Args:
        source: a palette or grey image file whose values are class ids, 255 = free; or an integer array in which
            -1 is free too.
        num_labels: number of classes that the network knows.

    Raises:
        FileNotFoundError: no such file.
        PhotoError: colours instead of ids, or an id that the network does not know.
    """
    if _is_array(source):
        labels = _as_numpy(source)
        if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
            raise PhotoError(f"A semantic prompt is an integer array (H, W), got {labels.dtype} {labels.shape}.")
    else:
        with _opened(source, "semantic prompt") as (image, name, _):
            if image.mode not in ("P", "L"):
                raise PhotoError(
                    f"{name}: a semantic prompt holds class ids in a palette or grey 8-bit image; this one's mode is "
                    f"{image.mode}. Save it with one value per class, 255 where the network is free."
                )
            upright = ImageOps.exif_transpose(image)
            labels = np.asarray(upright)
    labels = np.where(labels == _FREE_LABEL, -1, labels.astype(np.int64))
    unknown = np.unique(labels[(labels < -1) | (labels >= num_labels)])
    if unknown.size:
        raise PhotoError(
            f"The semantic prompt holds class {unknown[0]}; this network has classes 0 to {num_labels - 1} "
            "(`sgenet info` lists them), 255 or -1 = free."
        )
    return labels


def save_photo(photo: Photo, image: Image.Image, path: str | os.PathLike) -> Path:
    """Write a result with the photo's ICC profile and EXIF, and with its JPEG quality if both files are JPEG.

    The file appears whole or not at all. A JPEG or lossy WebP does not keep known pixels bit for bit; PNG does.

    Args:
        photo: the photo that the result was made from.
        image: the result.
        path: where to; its suffix chooses the format, one of `PHOTO_SUFFIXES`.

    Raises:
        PhotoError: the format is unknown, or cannot hold the image.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in PHOTO_SUFFIXES:
        raise PhotoError(f"Cannot write {path.name}: choose one of {', '.join(PHOTO_SUFFIXES)}.")
    format_name = Image.registered_extensions()[suffix]
    if format_name == "JPEG" and image.mode not in ("L", "RGB"):
        raise PhotoError(f"Cannot write {path.name}: JPEG cannot hold mode {image.mode} (alpha, 16 bit). Use .png.")
    options = dict(photo.metadata)
    if format_name == "JPEG":
        options |= photo.jpeg or {"quality": 95, "subsampling": 0}
    elif format_name == "WEBP":
        options["quality"] = 95
    elif format_name == "TIFF":
        options["compression"] = "tiff_adobe_deflate"
    with whole_file(path) as temporary:
        try:
            image.save(temporary, format=format_name, **options)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk or the folder, not of the format
                raise PhotoError(f"Cannot write {path}: {os.strerror(error.errno)}.") from error
            raise PhotoError(f"Cannot write {path.name}: {error}. Use .png.") from error
    return path


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, else remove it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _opened(source: Any, default_name: str = "photo") -> Iterator[tuple[Image.Image, str, list[str]]]:
    """Open and decode a file, or pass a PIL image on; yields the image, a name for messages, and what was lost."""
    if isinstance(source, str) and "://" in source:
        raise PhotoError(f"{source} is an address: download the file and pass its path or its bytes.")
    opened: Any = source
    name = default_name
    if isinstance(source, Image.Image):
        name = Path(getattr(source, "filename", "") or name).name
    elif isinstance(source, str | os.PathLike):
        name = Path(source).name
        if not Path(source).is_file():
            raise FileNotFoundError(f"No such file: {source}")
    elif isinstance(source, bytes | bytearray):
        opened = io.BytesIO(source)
    elif not hasattr(source, "read"):
        raise PhotoError(
            f"Cannot read a {default_name} from {type(source).__name__}: pass a path, bytes, a PIL image, a numpy "
            "array or a torch tensor."
        )
    with contextlib.ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                # Pillow warns at 89 and refuses at 179 megapixels; photos in between are real.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = source if isinstance(source, Image.Image) else stack.enter_context(Image.open(opened))
                deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))  # known until it is decoded
                image.load()
        except UnidentifiedImageError as error:
            raise PhotoError(f"{name} is not an image that can be read here (HEIC and RAW: export a JPEG).") from error
        except Image.DecompressionBombError as error:
            raise PhotoError(f"{name} is too large: {error} Shrink it first.") from error
        except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
            raise PhotoError(f"{name} is damaged or incomplete: {error}. Copy or export it again.") from error
        lost = ["16 bits per colour were read as 8"] if deep and image.mode in ("RGB", "RGBA") else []
        yield image, name, lost


def _photo_from_image(image: Image.Image, name: str, lost: Sequence[str] = ()) -> Photo:
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # MPO: a phone's JPEG with a second view behind
        raise PhotoError(f"{name} holds several frames: export the one to be filled.")
    notes = list(lost)
    jpeg = _jpeg_quality(image)
    metadata = {key: image.info[key] for key in ("icc_profile", "exif", "xmp", "dpi") if image.info.get(key)}
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        upright = ImageOps.exif_transpose(image)
        metadata |= {key: upright.info[key] for key in ("exif", "xmp") if key in upright.info}
        if image.format == "TIFF" and (kept := _descriptive_exif(image)):
            metadata["exif"] = kept
        metadata = _without_thumbnails(metadata)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error, OSError):
        orientation, upright = 1, image
        metadata.pop("exif", None)
        notes.append("its EXIF data are damaged and were left out")
    if upright.mode in ("CMYK", "LAB"):
        profile = metadata.pop("icc_profile", None)
        notes.append(f"{upright.mode} came back as RGB")
        upright = _to_srgb(upright, profile, notes)
    pixels, mode = _pixels(upright, name)
    return Photo(
        pixels,
        mode,
        name=name,
        format=image.format,
        metadata=metadata,
        jpeg=jpeg,
        rotated=orientation in (5, 6, 7, 8),
        warnings=tuple(f"{name}: {note}." for note in notes),
    )


def _without_thumbnails(metadata: dict[str, Any]) -> dict[str, Any]:
    """EXIF and XMP without their small copies of the photo, which would still show what was removed."""
    if "exif" in metadata:
        probe, rest = Image.Exif(), Image.Exif()
        for copy in (probe, rest):
            copy.load(metadata["exif"])
        if probe.get_ifd(ExifTags.IFD.IFD1):
            metadata = metadata | {"exif": rest.tobytes()}  # Pillow writes all directories but one never looked into
    if "xmp" in metadata:
        xmp = metadata["xmp"] if isinstance(metadata["xmp"], bytes) else metadata["xmp"].encode()
        metadata = metadata | {"xmp": re.sub(rb"<xmp:Thumbnails\b.*?</xmp:Thumbnails\s*>", b"", xmp, flags=re.DOTALL)}
    return metadata


def _pixels(image: Image.Image, name: str) -> tuple[np.ndarray, str]:
    """The array to be given back, and its mode; see the table at the top of this file."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16), "I;16"
    if image.mode in ("I", "F"):
        raise PhotoError(
            f"{name} has 32 bits per pixel, whose range is not known: save it as 8-bit (or 16-bit grey) first."
        )
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La")
    mode = {(True, False): "L", (True, True): "LA", (False, False): "RGB", (False, True): "RGBA"}[grey, transparent]
    converted = image if image.mode == mode else image.convert(mode)
    return np.array(converted), mode


def _to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    sources: list[Any] = [io.BytesIO(profile)] if profile else []
    if image.mode == "LAB":  # without a profile of its own, Lab is defined by itself
        sources.append(ImageCms.createProfile("LAB"))
    for source in sources:
        try:
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            notes.append("its colour profile is damaged and was left out")
        else:
            assert converted is not None  # only a conversion in place returns nothing
            return converted
    return image.convert("RGB")


def _jpeg_quality(image: Image.Image) -> dict[str, Any]:
    tables = getattr(image, "quantization", None)
    if image.format not in ("JPEG", "MPO") or not tables:
        return {}
    quality: dict[str, Any] = {"qtables": tables}
    # CMYK comes back as RGB, and grey has no chroma: only three components have a subsampling to keep.
    if image.mode == "RGB" and (sampling := get_sampling(image)) >= 0:
        quality["subsampling"] = sampling
    if image.info.get("progressive"):
        quality["progressive"] = True
    return quality


def _descriptive_exif(image: Image.Image) -> bytes | None:
    """A TIFF's tags also describe its strips; keep those that describe the photo."""
    present = image.getexif()
    kept = Image.Exif()
    for tag in _DESCRIPTIVE_TIFF_TAGS:
        if tag in present:
            kept[tag] = present[tag]
    if details := present.get_ifd(_EXIF_DIRECTORY):
        kept.get_ifd(_EXIF_DIRECTORY).update(details)
    return kept.tobytes() if len(kept) or details else None


def _is_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) or (hasattr(source, "detach") and hasattr(source, "numpy"))


def _as_numpy(source: Any) -> np.ndarray:
    """A numpy array as it is; a torch tensor on the CPU, channels last."""
    if isinstance(source, np.ndarray):
        array = source
        channels_first = array.ndim == 3 and array.shape[-1] not in (1, 2, 3, 4)
    else:
        tensor = source.detach().cpu()
        array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        if array.ndim == 4 and array.shape[0] == 1:
            array = array[0]
        channels_first = array.ndim == 3
    if channels_first and array.shape[0] in (1, 3, 4):
        array = np.moveaxis(array, 0, -1)
    return array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array


def _photo_from_array(source: Any, name: str = "photo", any_integer: bool = False) -> Photo:
    array = _as_numpy(source)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (2, 3, 4)) or 0 in array.shape:
        raise PhotoError(f"The {name}'s shape {tuple(source.shape)} is neither (H, W), (H, W, C) nor (C, H, W).")
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotoError(
                f"A {name} of type {array.dtype} must lie in [0, 1]; rescale it, or pass uint8 in [0, 255]."
            )
        array = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
    elif any_integer and np.issubdtype(array.dtype, np.integer) and array.dtype != np.uint16:
        if array.min() < 0 or array.max() > 255:
            raise PhotoError(f"A {name} of type {array.dtype} must lie in [0, 255].")
        array = array.astype(np.uint8)
    if array.dtype == np.uint16 and array.ndim == 2:
        return Photo(np.array(array), "I;16", name=name)
    if array.dtype != np.uint8:
        raise PhotoError(f"A {name} of type {array.dtype}: pass uint8 in [0, 255], float in [0, 1] or uint16 grey.")
    mode = "L" if array.ndim == 2 else {2: "LA", 3: "RGB", 4: "RGBA"}[array.shape[-1]]
    return Photo(np.array(array), mode, name=name)


def _grey(photo: Photo) -> np.ndarray:
    """A mask's values: (H, W) uint8 or uint16, transparent = black."""
    if photo.mode in ("L", "I;16"):
        return photo.pixels
    if photo.mode == "LA":
        grey, alpha = photo.pixels[..., 0], photo.pixels[..., 1:]
    else:
        grey, alpha = photo.rgb @ _LUMINANCE, photo.pixels[..., 3:]
    opacity = alpha[..., 0] / 255 if alpha.size else 1
    return np.rint(grey * opacity).astype(np.uint8)


__all__ = [
    "PHOTO_SUFFIXES",
    "Photo",
    "PhotoError",
    "SizeError",
    "load_labels",
    "load_mask",
    "load_photo",
    "save_photo",
    "whole_file",
]
