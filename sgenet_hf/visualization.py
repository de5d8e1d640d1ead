"""Drawings of what SGE-Net thinks, in plain numpy and Pillow; shared by the Space, training and evaluation.

Arrays in, arrays or pictures out. Segmentations get class colours, confidences a heat map (dark = doubt,
bright = sure), and reliability masks follow the figures of the paper: white = unreliable, the opposite of the
tensors of Eq. 4, where 1 = reliable.
"""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


Picture = Image.Image | np.ndarray

VOID_COLOUR = (0, 0, 0)
INK, FRAME, PAPER = (32, 33, 36), (160, 163, 168), (255, 255, 255)
# Doubt to certainty. Lightness rises all the way, so that the map also reads in grey and for the colour-blind.
HEAT_COLOURS = ((24, 15, 61), (98, 24, 116), (176, 47, 96), (229, 92, 48), (250, 164, 49), (250, 232, 135))
GOLDEN_RATIO = 0.618034
MARGIN = 6


def class_palette(num_labels: int, label_colors: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """Returns one colour per class: the given ones (`config.label_colors`), else colours that are easy to tell apart.

    Args:
        num_labels: Number of classes.
        label_colors: RGB per class, 0 to 255.

    Returns:
        uint8 array of shape (num_labels, 3).

    Raises:
        ValueError: If the number of colours is not the number of classes.
    """
    if label_colors is None:
        # Steps of the golden ratio keep neighbouring classes far apart in hue, however many there are.
        hues = (0.58 + GOLDEN_RATIO * np.arange(num_labels)) % 1
        lightness = (0.55, 0.4, 0.7)
        label_colors = [
            [round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness[index % 3], 0.6)]
            for index, hue in enumerate(hues)
        ]
    if len(label_colors) != num_labels:
        raise ValueError(f"{len(label_colors)} colours for {num_labels} classes; give one colour per class.")
    return np.asarray(label_colors, dtype=np.uint8).reshape(num_labels, 3)


def colour_labels(labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Draws a segmentation in class colours; ids outside the palette (void, -1) are black.

    Args:
        labels: Class ids of shape (height, width).
        palette: Colours of shape (num_labels, 3) from `class_palette`.

    Returns:
        uint8 array of shape (height, width, 3).
    """
    labels = np.asarray(labels).astype(np.int64)
    colours = np.vstack([palette, [VOID_COLOUR]]).astype(np.uint8)
    known = (labels >= 0) & (labels < len(palette))
    return colours[np.where(known, labels, len(palette))]


def confidence_heat_map(confidence: np.ndarray) -> np.ndarray:
    """Draws confidences: dark violet at 0, bright yellow at 1. Values outside [0, 1] take the nearer end.

    Args:
        confidence: Floats of shape (height, width).

    Returns:
        uint8 array of shape (height, width, 3).
    """
    stops = np.linspace(0, 1, len(HEAT_COLOURS))
    colours = np.asarray(HEAT_COLOURS, dtype=np.float64)
    channels = [np.interp(np.asarray(confidence, dtype=np.float64), stops, colours[:, i]) for i in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def draw_reliability(reliability: np.ndarray) -> np.ndarray:
    """Draws a reliability mask as the figures of the paper do: unreliable white, reliable black.

    Args:
        reliability: Array of shape (height, width), 1 or True = reliable (Eq. 4).

    Returns:
        uint8 array of shape (height, width), 255 = unreliable.
    """
    return np.where(np.asarray(reliability) > 0.5, 0, 255).astype(np.uint8)


def hole_outline(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of the hole that touch a known pixel; the edge of the photo is no border.

    Args:
        mask: bool array of shape (height, width), True = hole.

    Returns:
        bool array of shape (height, width).
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1, mode="edge")
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return padded[1:-1, 1:-1] & ~inside


def tint_hole(
    photo: Picture, mask: np.ndarray, colour: Sequence[int] = (255, 90, 60), opacity: float = 0.7
) -> Image.Image:
    """Lays a colour over the hole, so that a person sees both the mask and what it removes.

    Args:
        photo: Picture of shape (height, width).
        mask: bool array of shape (height, width), True = hole.
        colour: RGB, 0 to 255.
        opacity: 0 shows the photo, 1 only the colour.

    Raises:
        ValueError: If photo and mask differ in size.
    """
    pixels = np.asarray(as_image(photo).convert("RGB"), dtype=np.float64)
    if pixels.shape[:2] != mask.shape:
        raise ValueError(f"The photo is {pixels.shape[:2]}, the mask {mask.shape} (height, width); they must agree.")
    tinted = (1 - opacity) * pixels + opacity * np.asarray(colour, dtype=np.float64)
    return Image.fromarray(np.where(mask[..., None], tinted, pixels).round().astype(np.uint8))


def legend(names: Mapping[int, str], palette: np.ndarray, width: int = 480) -> Image.Image:
    """Draws a swatch and a name for each class, in as many lines as the width needs.

    Args:
        names: Name per class id, in the order to draw.
        palette: Colours of shape (num_labels, 3) from `class_palette`.
        width: Width of the picture in pixels.
    """
    font = ImageFont.load_default(14)
    swatch, line_height = 14, 22
    places, x, y = [], MARGIN, MARGIN
    for index, name in names.items():
        needed = swatch + MARGIN + int(font.getlength(name)) + 2 * MARGIN
        if x > MARGIN and x + needed > width:
            x, y = MARGIN, y + line_height
        places.append((x, y, index, name))
        x += needed
    picture = Image.new("RGB", (width, y + line_height), PAPER)
    draw = ImageDraw.Draw(picture)
    for left, top, index, name in places:
        fill = tuple(int(part) for part in palette[index])
        draw.rectangle((left, top, left + swatch, top + swatch), fill=fill, outline=INK)
        draw.text((left + swatch + MARGIN, top - 1), name, fill=INK, font=font)
    return picture


def confidence_bar(width: int = 480, height: int = 14) -> Image.Image:
    """Draws the scale of `confidence_heat_map` from 0 % to 100 %, with its numbers below."""
    font = ImageFont.load_default(12)
    picture = Image.new("RGB", (width, height + 3 * MARGIN + 12), PAPER)
    length = width - 2 * MARGIN
    ramp = np.repeat(np.linspace(0, 1, length)[None], height, axis=0)
    picture.paste(Image.fromarray(confidence_heat_map(ramp)), (MARGIN, MARGIN))
    draw = ImageDraw.Draw(picture)
    for share, anchor in ((0, "la"), (0.5, "ma"), (1, "ra")):
        place = (MARGIN + share * length, height + 2 * MARGIN)
        draw.text(place, f"{share:.0%}", fill=INK, font=font, anchor=anchor)
    return picture


def panel(
    rows: Sequence[Sequence[Picture | None]],
    captions: Sequence[str] = (),
    row_captions: Sequence[str] = (),
    cell: int = 256,
) -> Image.Image:
    """Sets pictures out in a grid with captions above the columns and left of the rows.

    Small pictures are enlarged without smoothing, so that one cell of a coarse scale shows as one square.

    Args:
        rows: Pictures by row; uint8 arrays of shape (height, width) or (height, width, 3), bool arrays or Pillow
            images. None leaves a cell empty.
        captions: One per column, or none.
        row_captions: One per row, or none.
        cell: Side of the square that each picture is fitted into, in pixels.

    Raises:
        ValueError: If there is no picture, or the number of captions is not that of the columns or rows.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("A panel needs at least one row with one picture.")
    if len(captions) not in (0, columns) or len(row_captions) not in (0, len(rows)):
        raise ValueError(
            f"{len(captions)} captions for {columns} columns, {len(row_captions)} row captions for {len(rows)} rows; "
            "give one each, or none."
        )
    text_size = max(11, cell // 18)
    font = ImageFont.load_default(text_size)
    fitted = [[None if content is None else fit(content, cell) for content in row] for row in rows]
    heights = [max((content.height for content in row if content), default=0) for row in fitted]
    left = MARGIN + max((int(font.getlength(text)) + 2 * MARGIN for text in row_captions), default=0)
    top = MARGIN + (2 * text_size if captions else 0)
    step = cell + MARGIN
    picture = Image.new("RGB", (left + columns * step, top + sum(heights) + MARGIN * len(rows)), PAPER)
    draw = ImageDraw.Draw(picture)
    for column, text in enumerate(captions):
        draw.text((left + column * step + cell / 2, top - MARGIN), text, fill=INK, font=font, anchor="md")
    for index, (row, height) in enumerate(zip(fitted, heights, strict=True)):
        if row_captions:
            draw.text((left - 2 * MARGIN, top + height / 2), row_captions[index], fill=INK, font=font, anchor="rm")
        for column, content in enumerate(row):
            if content:
                x = left + column * step + (cell - content.width) // 2
                y = top + (height - content.height) // 2
                # White masks would melt into the paper without a frame.
                draw.rectangle((x - 1, y - 1, x + content.width, y + content.height), outline=FRAME)
                picture.paste(content, (x, y))
        top += height + MARGIN
    return picture


def fit(picture: Picture, side: int) -> Image.Image:
    """Scales a picture so that its longer side has `side` pixels: nearest when enlarging, smooth when shrinking."""
    image = as_image(picture).convert("RGB")
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS)


def as_image(picture: Picture) -> Image.Image:
    """Returns a Pillow image of an image, a uint8 array or a bool array (True = white).

    Raises:
        TypeError: If it is none of these.
    """
    if isinstance(picture, Image.Image):
        return picture
    if picture.dtype == bool:
        return Image.fromarray(np.where(picture, 255, 0).astype(np.uint8))
    if picture.dtype != np.uint8:
        raise TypeError(f"Expected an array of uint8 or bool, got {picture.dtype}; scale it to 0..255 first.")
    return Image.fromarray(picture)


__all__ = [
    "as_image",
    "class_palette",
    "colour_labels",
    "confidence_bar",
    "confidence_heat_map",
    "draw_reliability",
    "fit",
    "hole_outline",
    "legend",
    "panel",
    "tint_hole",
]
