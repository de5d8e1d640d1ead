"""Which parts of a photo the network sees, at which size: geometry for `pipeline.py`, numpy only.

A region is what one run of the network sees. `crop` gives each hole that stands alone a region of its own, about 2.5
times the hole's box, and a scratch or wire that reaches far one for each of its pieces; `resize` and `original` have
one region, the whole photo.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from .masks import grow_mask


LARGEST_SIDE = 512  # of what the network sees under `crop` and `resize`
CONTEXT = 2.5  # side of the crop over side of the hole's box
WIDE_ABOVE = 200  # pixels of hole, as the network sees it, above which fills look made up
CELLS = 64  # holes are told apart on a grid of this many cells along the longer side
THIN = 1 / 5  # of the smallest crop: scratches and wires, whose surroundings lie beside them
PIECE = 3 / 4  # of a crop: side of the cells in which a thin hole that reaches far is filled
MOST_PIECES = 100  # regions of a photo, above which no hole is cut: one takes .7 s, of the largest crops 3
TOUCHING = 1 / 8  # of a box's side: holes closer than that are filled together


class Box(NamedTuple):
    """A rectangle in pixels; right and bottom lie outside, as in PIL."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the rectangle in an array (H, W, ...)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def union(self, other: Box) -> Box:
        return Box(*map(min, self[:2], other[:2]), *map(max, self[2:], other[2:]))

    def meets(self, other: Box) -> bool:
        beside = self.right < other.left or other.right < self.left
        return not (beside or self.bottom < other.top or other.bottom < self.top)

    def seen_from(self, other: Box) -> Box:
        """The same rectangle with the other's upper left corner as origin."""
        left, top = other[:2]
        return Box(self.left - left, self.top - top, self.right - left, self.bottom - top)

    def grown(self, across: int, down: int, within: Box) -> Box:
        return Box(
            max(self.left - across, within.left),
            max(self.top - down, within.top),
            min(self.right + across, within.right),
            min(self.bottom + down, within.bottom),
        )


@dataclass(frozen=True)
class Region:
    """One run of the network: what it sees, at which size, and the box of the holes that this run fills."""

    box: Box
    size: tuple[int, int]
    hole: Box


def plan_regions(mask: np.ndarray, strategy: str, context: int) -> list[Region]:
    """What the network will see of a photo; nothing if there is no hole.

    Args:
        mask: bool (H, W), True = hole.
        strategy: `crop`, `resize` or `original`.
        context: smallest side of a crop in pixels, as far as the photo has them.
    """
    if not mask.any():
        return []
    whole = whole_box(mask)
    if strategy == "crop":
        regions: list[Region] = []
        for hole in merged(hole_boxes(mask), whole, context):
            regions += regions_of(hole, mask, whole, context, MOST_PIECES - len(regions))
        return regions
    hole = _bounds(mask)
    size = (whole.height, whole.width)
    return [Region(whole, shrunk_size(size) if strategy == "resize" else size, hole)]


def hole_boxes(mask: np.ndarray) -> list[Box]:
    """One box for each group of holes that touch on a coarse grid, exact to the pixel."""
    cell = -(-max(mask.shape) // CELLS)
    rows, columns = (-(-side // cell) for side in mask.shape)
    padded = np.pad(mask, ((0, rows * cell - mask.shape[0]), (0, columns * cell - mask.shape[1])))
    occupied = padded.reshape(rows, cell, columns, cell).any(axis=(1, 3))
    waiting = {(int(row), int(column)) for row, column in np.argwhere(occupied)}
    boxes = []
    while waiting:
        group = np.zeros_like(occupied)
        frontier = [waiting.pop()]
        while frontier:
            row, column = frontier.pop()
            group[row, column] = True
            beside = {(row + down, column + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & waiting
            waiting -= beside
            frontier += beside
        cells = _bounds(group)
        grid = group[cells.window].repeat(cell, axis=0).repeat(cell, axis=1)
        left, top = cells.left * cell, cells.top * cell
        inside = padded[top : top + grid.shape[0], left : left + grid.shape[1]] & grid
        found = _bounds(inside)
        boxes.append(Box(found.left + left, found.top + top, found.right + left, found.bottom + top))
    return boxes


def merged(boxes: list[Box], whole: Box, context: int) -> list[Box]:
    """Puts neighbouring hole boxes together, until each of the rest is better filled by itself.

    Two are neighbours if they nearly touch; or if one lies in the other's context, where it would be missing, and both
    fit into one crop that need not be shrunk.
    """
    waiting = list(boxes)
    alone: list[Box] = []
    while waiting:
        box = waiting.pop()
        for other in alone:
            if _neighbours(box, other, whole, context):
                alone.remove(other)
                waiting.append(box.union(other))
                break
        else:
            alone.append(box)
    return sorted(alone)


def _neighbours(first: Box, second: Box, whole: Box, context: int) -> bool:
    reach = [(round(box.width * TOUCHING), round(box.height * TOUCHING)) for box in (first, second)]
    if first.grown(*reach[0], whole).meets(second.grown(*reach[1], whole)):
        return True
    together = crop_around(first.union(second), whole, context)
    in_context = any(crop_around(a, whole, context).meets(b) for a, b in ((first, second), (second, first)))
    return in_context and max(together.width, together.height) <= LARGEST_SIDE


def regions_of(hole: Box, mask: np.ndarray, whole: Box, context: int, most: int) -> list[Region]:
    """One region, or those of the pieces of a thin hole, whose crop would have to be shrunk, so that what is a pixel
    wide would become several: each piece is what lies in a cell that fits into the smallest crop, or, if these would
    be too many, into the largest.

    Args:
        hole: box of the hole.
        mask: bool (H, W), True = hole.
        whole: box of the photo.
        context: smallest side of a crop in pixels.
        most: so many pieces may be small, and half as many large.
    """
    in_one = crop_around(hole, whole, context)
    if max(in_one.width, in_one.height) <= LARGEST_SIDE:
        return [cropped(in_one, hole)]
    for side, at_most in ((context, most), (LARGEST_SIDE, most // 2)):
        pieces = pieces_of(hole, mask, int(side * PIECE))
        if len(pieces) <= at_most:
            if is_thick(pieces, mask, whole, int(context * THIN)):
                break
            return [cropped(crop_around(piece, whole, side, times=1), piece) for piece in pieces]
    return [cropped(in_one, hole)]


def cropped(box: Box, hole: Box) -> Region:
    """A crop for the holes in a box, shrunk if it is too large."""
    return Region(box, shrunk_size((box.height, box.width)), hole)


def pieces_of(hole: Box, mask: np.ndarray, side: int) -> list[Box]:
    """Boxes of what lies in each of the cells, of at most that side, of a hole's box."""
    pieces = []
    for top, bottom in cuts(hole.top, hole.bottom, side):
        for left, right in cuts(hole.left, hole.right, side):
            if mask[top:bottom, left:right].any():
                inside = _bounds(mask[top:bottom, left:right])
                pieces.append(Box(inside.left + left, inside.top + top, inside.right + left, inside.bottom + top))
    return pieces


def is_thick(pieces: list[Box], mask: np.ndarray, whole: Box, thin: int) -> bool:
    """Whether the hole around some piece is wider than `thin` pixels both ways."""
    return any(holds_square(mask[piece.grown(thin, thin, whole).window], thin + 1) for piece in pieces)


def cuts(start: int, end: int, longest: int) -> list[tuple[int, int]]:
    """Equal parts, but for a pixel, of at most that length."""
    count = -(-(end - start) // max(1, longest))
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return list(itertools.pairwise(edges))


def crop_around(hole: Box, whole: Box, context: int, times: float = CONTEXT) -> Box:
    """About 2.5 `times` the hole's box around it, moved inside the photo where it would reach beyond."""
    starts, ends = [], []
    for axis in (0, 1):
        start, end, limit = hole[axis], hole[axis + 2], whole[axis + 2]
        side = min(limit, max(context, round(times * (end - start))))
        first = min(max(0, (start + end - side) // 2), limit - side)
        starts.append(first)
        ends.append(first + side)
    return Box(*starts, *ends)


def enlarged(pixels: np.ndarray, region: Region, target: Box) -> np.ndarray:
    """The part of a region's picture that `target` names, at the photo's resolution, bicubic.

    Args:
        pixels: float32 (h, w, 3) of the region's size.
        region: what the picture shows.
        target: a box of the photo inside the region's.

    Returns:
        float32 of the target's size; may overshoot [0, 255] at edges.
    """
    window = target.seen_from(region.box)
    if region.size == (region.box.height, region.box.width):
        return pixels[window.window]
    across, down = region.size[1] / region.box.width, region.size[0] / region.box.height
    source = (window.left * across, window.top * down, window.right * across, window.bottom * down)
    size = (target.width, target.height)
    channels = [Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(pixels, -1, 0)]
    return np.stack([np.asarray(channel.resize(size, Image.Resampling.BICUBIC, source)) for channel in channels], -1)


def feather_weights(hole: np.ndarray, feather: int) -> np.ndarray:
    """How much of the fill to show: 1 in the hole, falling to 0 within `feather` pixels; float32 (H, W)."""
    if feather == 0:
        return hole.astype(np.float32)
    half = Image.fromarray(grow_mask(hole, (feather + 1) // 2)).convert("L")
    ramp = np.asarray(half.filter(ImageFilter.BoxBlur(feather / 2)), np.float32) / 255
    ramp[~grow_mask(hole, feather)] = 0
    return np.where(hole, np.float32(1), ramp)


def size_warning(region: Region, hole: np.ndarray) -> str | None:
    """Of a region that had to be shrunk, whose fill is soft, or in which the hole, (H, W) of the whole photo, is wider
    than 200 pixels both ways: of its middle the network knows little. Scratches are not, however far they reach."""
    shrinking = region.box.width / region.size[1]
    size = f"{region.hole.width}x{region.hole.height}"
    if shrinking > 1:
        share = f"{1 / shrinking:.0%} of the photo's resolution"
        return f"A hole of {size} pixels was filled at {share}: expect it to be softer than its surroundings."
    if holds_square(hole[region.hole.window], WIDE_ABOVE + 1):
        return f"A hole of {size} pixels is more than this network can oversee: expect a fill that looks made up."
    return None


def holds_square(hole: np.ndarray, side: int) -> bool:
    """Whether nine tenths of some square of `side` pixels are hole."""
    if min(hole.shape) < side:
        return False
    sums = np.pad(hole.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    within = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return bool(within.max() >= 0.9 * side**2)


def whole_box(mask: np.ndarray) -> Box:
    return Box(0, 0, mask.shape[1], mask.shape[0])


def _bounds(mask: np.ndarray) -> Box:
    """Smallest box around what is True."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def shrunk_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) with a longer side of at most 512."""
    factor = max(1.0, max(size) / LARGEST_SIDE)
    return max(1, round(size[0] / factor)), max(1, round(size[1] / factor))


def hole_on_grid(region: Region) -> np.ndarray:
    """Where the region's own hole box lies on the network's grid: bool of the region's size."""
    inside = np.zeros(region.size, bool)
    down, across = region.size[0] / region.box.height, region.size[1] / region.box.width
    top, bottom = region.hole.top - region.box.top, region.hole.bottom - region.box.top
    left, right = region.hole.left - region.box.left, region.hole.right - region.box.left
    inside[int(top * down) : int(np.ceil(bottom * down)), int(left * across) : int(np.ceil(right * across))] = True
    return inside


__all__ = [
    "LARGEST_SIDE",
    "Box",
    "Region",
    "enlarged",
    "feather_weights",
    "hole_boxes",
    "hole_on_grid",
    "merged",
    "plan_regions",
    "shrunk_size",
    "size_warning",
    "whole_box",
]
