"""Redraws a network's fill with patches of the photo itself (not in the paper).

A network that learnt from few photos knows what belongs in a hole, in which colours and how busy it is, but it draws
bricks and leaves as scribble. The photo has real ones. Coarse to fine, each patch that touches the hole gives way to
the known patch that is most like it, in colour, class and texture, and patches that overlap are averaged; then again,
with what came out (Wexler, Shechtman and Irani, Space-Time Completion of Video, PAMI 2007). The search is PatchMatch
(Barnes et al., SIGGRAPH 2009): what is good for a patch is good, one step on, for its neighbour.

A *place* is the number of a patch in its plane, row by row: its top left pixel is (place // columns, place % columns).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.nn import functional as F


PATCH = 7  # pixels a side
COARSEST = 64  # pixels: no level has a shorter side below it, unless the photo has
ROUNDS = (8, 4, 3)  # of search and average, from the coarsest level on; the last for all that are finer
MANY = 2**15  # patches to replace, more than a 256x256 photo has: one round is what they get, or it would take minutes
SPACING = 2  # pixels between patches that are averaged, but for the coarsest level
LEAD = 0.5  # of the network's fill in what patches are sought for: without it they follow each other astray
TEXTURE_WEIGHT = 0.4  # of the logarithm of a patch's variance beside its colours in [-1, 1]
FLAT = 1e-4  # variance that counts as none
PAIRS = (
    2**26
)  # of patches that are all compared, in about a second: a hole like a grid leaves patches at fine levels alone
PAIRS_AT_ONCE = 2**23  # of patches compared: 32 MB


@dataclass
class Level:
    """One size of the photo and its patches.

    Attributes:
        fill: The photo with the network's fill, (3, h, w) in [-1, 1].
        hole: Where a pixel is not wholly known, (h, w), bool.
        patches: Colours of all patches of `fill` times the root of `window_weights`, (places, 3 * 49).
        traits: Class probabilities and texture at each patch's middle, (places, classes + 1).
        known: Whether a patch has no pixel in the hole, (places,).
        wanted: Places of the patches that are to be replaced, (n,).
        spacing: Pixels between neighbours in `wanted`, but for the last row and column.
    """

    fill: torch.Tensor
    hole: torch.Tensor
    patches: torch.Tensor
    traits: torch.Tensor
    known: torch.Tensor
    wanted: torch.Tensor
    spacing: int

    @property
    def rows(self) -> int:
        return self.fill.shape[1] - PATCH + 1

    @property
    def columns(self) -> int:
        return self.fill.shape[2] - PATCH + 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Thousands of small steps: where another process is busy, threads that wait for each other took thirty times as
    long, and where none is they gain a third."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.compiler.disable  # how many patches there are depends on the hole
@torch.no_grad()
@one_thread()
def redraw(fill: torch.Tensor, hole: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Redraws the hole with known patches; the same input always gives the same output.

    Args:
        fill: Photo with a network's fill in its hole, (3, H, W) in [-1, 1].
        hole: 1 = hole, (H, W).
        classes: Probability of each class, (classes, H, W).

    Returns:
        (3, H, W); `fill` itself where there is no hole, or no known patch near it.
    """
    window = surroundings(hole > 0.5)
    levels = pyramid(*(planes[(..., *window)].float() for planes in (fill, hole, classes)))
    if not levels:
        return fill
    generator = torch.Generator().manual_seed(0)
    coarsest = levels[0]
    known_pairs = len(coarsest.wanted) * int(coarsest.known.sum())
    sources = nearest(coarsest) if known_pairs <= PAIRS else anywhere(coarsest, generator)
    image = coarsest.fill
    for number, level in enumerate(levels):
        if number:
            image = carry_on(level, image, levels[number - 1])
            sources = inherit(level, sources, levels[number - 1], generator)
        rounds = ROUNDS[min(number, len(ROUNDS) - 1)] if len(level.wanted) <= MANY else 1
        for _ in range(rounds):
            sources, distances = search(level, image, sources, generator)
            image = average(level, sources, distances)
    redrawn = fill.clone()
    redrawn[(..., *window)] = image.to(fill.dtype)
    return redrawn


def surroundings(hole: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of the hole (H, W) and of as much around it on each side as it is wide or high, at least
    `COARSEST` pixels: what is farther away costs time and is less alike."""
    if not hole.any():
        return slice(0, 0), slice(0, 0)
    ends = [(int(line.nonzero()[0]), int(line.nonzero()[-1]) + 1) for line in (hole.any(dim=1), hole.any(dim=0))]
    margin = max(COARSEST, *(stop - start for start, stop in ends))
    rows, columns = (slice(max(0, start - margin), stop + margin) for start, stop in ends)
    return rows, columns


def pyramid(fill: torch.Tensor, hole: torch.Tensor, classes: torch.Tensor) -> list[Level]:
    """The levels from coarse to fine, each twice as large as the one before, without those that know no patch."""
    levels: list[Level] = []
    while min(fill.shape[1:]) >= PATCH:
        texture = TEXTURE_WEIGHT * (variance(fill.mean(dim=0)) + FLAT).log()
        middle = PATCH // 2
        traits = torch.cat([classes, texture[None]])[:, middle:-middle, middle:-middle].flatten(1).T
        touched = F.max_pool2d(hole[None], PATCH, stride=1)[0].flatten() > 0.5
        if touched.all():
            break
        coarser = [
            F.avg_pool2d(planes[None], 2, ceil_mode=True, count_include_pad=False)[0] for planes in (fill, classes)
        ]
        last = min(coarser[0].shape[1:]) < COARSEST
        spacing = 1 if last else SPACING
        columns = fill.shape[2] - PATCH + 1
        wanted = touched.nonzero()[:, 0]
        row, column = wanted // columns, wanted % columns
        last_row, last_column = row == fill.shape[1] - PATCH, column == columns - 1  # or the photo's rim is left out
        wanted = wanted[((row % spacing == 0) | last_row) & ((column % spacing == 0) | last_column)]
        levels.insert(0, Level(fill, hole > 0.5, cut(fill), traits, ~touched, wanted, spacing))
        if last:
            break
        fill, classes = coarser
        hole = F.max_pool2d(hole[None], 2, ceil_mode=True)[0]
    return levels


def variance(plane: torch.Tensor) -> torch.Tensor:
    """Of the surroundings of each pixel of (h, w)."""
    means = [
        F.avg_pool2d(values[None, None], PATCH, stride=1, padding=PATCH // 2, count_include_pad=False)[0, 0]
        for values in (plane, plane.square())
    ]
    return (means[1] - means[0].square()).clamp(min=0)


def cut(image: torch.Tensor) -> torch.Tensor:
    """All patches of (3, h, w), weighted: (places, 3 * 49)."""
    return F.unfold(image[None], PATCH)[0].T * window_weights(image).sqrt().repeat(3)


def window_weights(like: torch.Tensor) -> torch.Tensor:
    """How much each pixel of a patch counts, (49,): those in its middle most."""
    offsets = torch.arange(PATCH, device=like.device) - PATCH // 2
    line = torch.exp(-((offsets * 3.5 / PATCH) ** 2) / 2)
    return (line[:, None] * line).flatten()


def nearest(level: Level) -> torch.Tensor:
    """For each wanted patch the known place most like it, all compared with all, (n,)."""
    known = level.known.nonzero()[:, 0]
    everything = torch.cat([level.patches, level.traits], dim=1)
    keys = everything[known]
    lengths = keys.square().sum(dim=1)
    found = [
        torch.addmm(lengths, queries, keys.T, alpha=-2).argmin(dim=1)
        for queries in everything[level.wanted].split(max(1, PAIRS_AT_ONCE // len(known)))
    ]
    return known[torch.cat(found)]


def carry_on(level: Level, image: torch.Tensor, coarser: Level) -> torch.Tensor:
    """What was made at the coarser level, enlarged, with the detail that the network drew at this one."""
    size = level.fill.shape[1:]
    changed = F.interpolate((image - coarser.fill)[None], scale_factor=2, mode="bicubic", align_corners=False)[0]
    changed = changed[:, : size[0], : size[1]]  # an odd side was rounded up
    return torch.where(level.hole, (level.fill + changed).clamp(-1, 1), level.fill)


def inherit(level: Level, sources: torch.Tensor, coarser: Level, generator: torch.Generator) -> torch.Tensor:
    """The coarser level's sources, enlarged: (n,). A known place at random where that gives none."""
    table = torch.full_like(coarser.known, -1, dtype=torch.long)
    table[coarser.wanted] = sources
    row, column = level.wanted // level.columns, level.wanted % level.columns
    parent_row, parent_column = (
        (line // 2).clamp(max=last - 1) // coarser.spacing * coarser.spacing
        for line, last in ((row, coarser.rows), (column, coarser.columns))
    )
    parent = table[parent_row * coarser.columns + parent_column]
    candidates, usable = locate(
        level,
        parent // coarser.columns * 2 + row - 2 * parent_row,
        parent % coarser.columns * 2 + column - 2 * parent_column,
    )
    return torch.where(usable & (parent >= 0), candidates, anywhere(level, generator))


def anywhere(level: Level, generator: torch.Generator) -> torch.Tensor:
    """For each wanted patch a known place at random, (n,)."""
    known = level.known.nonzero()[:, 0]
    return known[torch.randint(len(known), (len(level.wanted),), generator=generator).to(known.device)]


def locate(level: Level, row: torch.Tensor, column: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Places at rows and columns, and whether these exist and are known; those that do not exist are moved inside."""
    inside = (row >= 0) & (row < level.rows) & (column >= 0) & (column < level.columns)
    place = row.clamp(0, level.rows - 1) * level.columns + column.clamp(0, level.columns - 1)
    return place, inside & level.known[place]


def search(
    level: Level, image: torch.Tensor, sources: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Better sources for what `image` shows in the wanted patches, and how unlike they are, both (n,)."""
    sought = cut(LEAD * level.fill + (1 - LEAD) * image)[level.wanted]
    traits = level.traits[level.wanted]
    index = torch.full_like(level.known, -1, dtype=torch.long)
    index[level.wanted] = torch.arange(len(level.wanted), device=index.device)
    row, column = level.wanted // level.columns, level.wanted % level.columns

    def unlikeness(candidates: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        colours = (level.patches[candidates] - sought[which]).square().sum(dim=1)
        return colours + (level.traits[candidates] - traits[which]).square().sum(dim=1)

    sources = sources.clone()
    distances = unlikeness(sources, torch.arange(len(sources), device=sources.device))

    def offer(candidates: torch.Tensor, usable: torch.Tensor) -> None:
        which = usable.nonzero()[:, 0]
        candidates = candidates[which]
        unlike = unlikeness(candidates, which)
        better = unlike < distances[which]
        sources[which[better]] = candidates[better]
        distances[which[better]] = unlike[better]

    for _ in range(2):
        for step in (4 * level.spacing, 2 * level.spacing, level.spacing):
            for down, across in ((0, step), (0, -step), (step, 0), (-step, 0)):  # what a neighbour found, one step on
                neighbour_row, neighbour_column = row + down, column + across
                inside = (neighbour_row >= 0) & (neighbour_row < level.rows)
                inside &= (neighbour_column >= 0) & (neighbour_column < level.columns)
                neighbour = index[torch.where(inside, neighbour_row * level.columns + neighbour_column, 0)]
                found = sources[neighbour]  # of -1 the last one: not usable
                candidates, usable = locate(level, found // level.columns - down, found % level.columns - across)
                offer(candidates, usable & inside & (neighbour >= 0))
        radius = max(level.rows, level.columns) / 2
        while radius >= 1:  # and what lies near by at random, ever nearer
            away = (torch.rand(2, len(sources), generator=generator) * 2 - 1).to(sought) * radius
            down, across = away.round().long()
            offer(*locate(level, sources // level.columns + down, sources % level.columns + across))
            radius /= 2
    return sources, distances


def average(level: Level, sources: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """The image (3, h, w) that the sources make of the hole: a mean of all that cover a pixel, where those most like
    what they stand for count most."""
    size = level.fill.shape[1:]
    spread = distances.quantile(0.75)
    trust = torch.exp(-distances / (2 * spread.clamp(min=1e-6))) + 1e-4
    weights = window_weights(level.fill)
    values = torch.zeros_like(level.patches)
    values[level.wanted] = level.patches[sources] * weights.sqrt().repeat(3) * trust[:, None]
    shares = torch.zeros(len(level.patches), PATCH**2, device=values.device)
    shares[level.wanted] = weights * trust[:, None]
    total, share = (F.fold(planes.T[None], size, PATCH)[0] for planes in (values, shares))
    return torch.where(level.hole & (share > 0), total / share.clamp(min=1e-9), level.fill)
