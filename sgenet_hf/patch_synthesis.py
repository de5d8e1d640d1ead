"""Redraws a network's fill with patches of the photo itself (not in the paper).

A network that learnt from few photos knows what belongs in a hole, in which colours and how busy it is, but it draws
bricks and leaves as scribble. The photo has real ones. Coarse to fine, each patch that touches the hole gives way to
the known patch that is most like it, in colour, class and texture, and patches that overlap are averaged; then again,
with what came out (Wexler, Shechtman and Irani, Space-Time Completion of Video, PAMI 2007). The search is PatchMatch
(Barnes et al., SIGGRAPH 2009): what is good for a patch is good, one step on, for its neighbour. Patches that lie side
by side in the photo are preferred side by side in the hole, and at last each pixel is nearly its best patch's alone:
the mean of all that cover it is soft. But where patches are flat, as in a sky, one that is lighter than its neighbour
would end in a line: there their tones are averaged. What the network knows better than the patches, how light each
part is and of what colour, is laid over them.

A *place* is the number of a patch in its plane, row by row: its top left pixel is (place // columns, place % columns).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import torch
from torch.nn import functional as F


PATCH = 7  # pixels a side
COARSEST = 64  # pixels: no level has a shorter side below it, unless the photo has
ROUNDS = (8, 4, 3)  # of search and average, from the coarsest level on; the last for all that are finer
MANY = 2**15  # patches to replace, more than a 256x256 photo has: one round is what they get, or it would take minutes
SPACING = 2  # pixels between patches that are averaged, but for levels of the least size
LEAD = 0.5  # of the network's fill in what patches are sought for: without it they follow each other astray
LEAD_AT_LAST = 0.4  # the same at the finest level, where the network scribbles
COHERENCE = 0.3  # of its unlikeness that a patch is forgiven whose four neighbours lie around it in the photo too
TEXTURE_WEIGHT = 0.4  # of the logarithm of a patch's variance beside its colours in [-1, 1]
FLAT = 1e-4  # variance that counts as none
DECISIVENESS = 6  # power of a patch's weight in the pixels that it covers, at the very last
LEAST_TRUST = 0.01  # of the best patch's weight, which every patch has: to its power it must not underflow
CONTRAST = 1.6  # times the way from the last mean's contrast to its patches': not all that is soft is its fault
CONTRAST_WINDOW = 3  # pixels a side, in which contrast is measured: the mean loses the finest
MOST_CONTRAST = 2.5  # times the mean's contrast, that patches are taken to have
FLAT_PATCH = 0.003  # variance of a patch's lightness, about seven grey levels, at which flatness has fallen to 1/e
COLOUR_WINDOW = 9  # pixels a side, of the means that are compared with the network's
COLOUR_SHARE = 0.7  # of the way towards the network's means
RIM_SHARE = 0.5  # of such a window that lies in the hole at a straight rim; in thinner holes means count for less
PAIRS = 2**26  # of patches that are all compared, in about a second: a hole like a grid is left alone at fine levels
PAIRS_AT_ONCE = 2**23  # of patches compared: 32 MB


@dataclass
class Level:
    """One size of the photo and its patches.

    Attributes:
        fill: The photo with the network's fill, (3, h, w) in [-1, 1].
        left_open: Where a pixel is to be redrawn, wholly or in part, (h, w), bool.
        patches: Colours of all patches of `fill` times the root of `window_weights`, (places, 3 * 49).
        traits: Class probabilities and texture at each patch's middle, (places, classes + 1); in the hole what is
            sought.
        known: Whether a patch has no pixel in the hole, be it left open or not, (places,).
        wanted: Places of the patches that are to be replaced, (n,).
        spacing: Pixels between neighbours in `wanted`, but for the last row and column.
    """

    fill: torch.Tensor
    left_open: torch.Tensor
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

    @cached_property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels that the wanted patches cover."""
        row, column = self.wanted // self.columns, self.wanted % self.columns
        return slice(int(row.min()), int(row.max()) + PATCH), slice(int(column.min()), int(column.max()) + PATCH)

    @cached_property
    def in_box(self) -> torch.Tensor:
        """Places of the wanted patches in `box` alone, (n,)."""
        rows, columns = self.box
        row, column = self.wanted // self.columns - rows.start, self.wanted % self.columns - columns.start
        return row * (columns.stop - columns.start - PATCH + 1) + column


ONE_AT_A_TIME = Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Thousands of small steps: where another process is busy, threads that wait for each other took thirty times as
    long, and where none is they gain a third. Two at a time would put back each other's number. A thread of the
    caller's that first computes meanwhile starts with this number, and keeps it: set it in each."""
    with ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@torch.compiler.disable  # how many patches there are depends on the hole
@torch.no_grad()
@one_thread()
def redraw(
    fill: torch.Tensor,
    hole: torch.Tensor,
    classes: torch.Tensor,
    colours: torch.Tensor | None = None,
    left_open: torch.Tensor | None = None,
) -> torch.Tensor:
    """Redraws the hole with known patches; the same input always gives the same output.

    Args:
        fill: Photo with a network's fill in its hole, (3, H, W) in [-1, 1].
        hole: 1 = hole, (H, W).
        classes: Probability of each class, (classes, H, W).
        colours: What the network says of the fill's colours where it draws no texture, such as a coarser scale's image
            enlarged, (3, H, W) in [-1, 1]; by default the fill itself.
        left_open: The pixels of the hole to redraw, 1 = these, (H, W); by default all.

    Returns:
        (3, H, W); `fill` itself where there is nothing to redraw, or no known patch near it.
    """
    left_open = hole if left_open is None else left_open
    colours = fill if colours is None else colours
    window = surroundings(hole > 0.5)
    with torch.autocast(fill.device.type, enabled=False):
        levels = pyramid(*(planes[(..., *window)].float() for planes in (fill, hole, classes, left_open)))
        if not levels:
            return fill
        image = from_patches(levels, torch.Generator().manual_seed(0))
        image = recolour(image, colours[(..., *window)].float(), levels[-1].left_open)
    redrawn = fill.clone()
    redrawn[(..., *window)] = image.to(fill.dtype)
    return redrawn


def from_patches(levels: list[Level], generator: torch.Generator) -> torch.Tensor:
    """The finest level's photo, (3, h, w), with what patches make of its hole."""
    coarsest = levels[0]
    known_pairs = len(coarsest.wanted) * int(coarsest.known.sum())
    sources = nearest(coarsest) if known_pairs <= PAIRS else anywhere(coarsest, generator)
    image = coarsest.fill
    for number, level in enumerate(levels):
        if number:
            image = carry_on(level, image, levels[number - 1])
            sources = inherit(level, sources, levels[number - 1], generator)
        lead = LEAD_AT_LAST if number == len(levels) - 1 else LEAD
        rounds = ROUNDS[min(number, len(ROUNDS) - 1)] if len(level.wanted) <= MANY else 1
        for _ in range(rounds):
            sources, distances = search(level, image, lead, sources, generator)
            image = average(level, sources, distances)
    return decide(levels[-1], sources, distances)


def surroundings(hole: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of the hole (H, W) and of as much around it on each side as it is wide or high, at least
    `COARSEST` pixels: what is farther away costs time and is less alike."""
    if not hole.any():
        return slice(0, 0), slice(0, 0)
    ends = [(int(line.nonzero()[0]), int(line.nonzero()[-1]) + 1) for line in (hole.any(dim=1), hole.any(dim=0))]
    margin = max(COARSEST, *(stop - start for start, stop in ends))
    rows, columns = (slice(max(0, start - margin), stop + margin) for start, stop in ends)
    return rows, columns


def pyramid(fill: torch.Tensor, hole: torch.Tensor, classes: torch.Tensor, left_open: torch.Tensor) -> list[Level]:
    """The levels from coarse to fine, each twice as large as the one before, without those that know no patch."""
    levels: list[Level] = []
    while min(fill.shape[1:]) >= PATCH:
        texture = TEXTURE_WEIGHT * (variance(fill.mean(dim=0)) + FLAT).log()
        middle = PATCH // 2
        traits = torch.cat([classes, texture[None]])[:, middle:-middle, middle:-middle].flatten(1).T.contiguous()
        touched, unknown = (
            F.max_pool2d(plane[None], PATCH, stride=1)[0].flatten() > 0.5 for plane in (left_open, hole)
        )
        if unknown.all() or not touched.any():
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
        levels.insert(0, Level(fill, left_open > 0.5, cut(fill), traits, ~unknown, wanted, spacing))
        if last:
            break
        fill, classes = coarser
        hole, left_open = (F.max_pool2d(plane[None], 2, ceil_mode=True)[0] for plane in (hole, left_open))
    return levels


def variance(plane: torch.Tensor) -> torch.Tensor:
    """Of the surroundings of each pixel of (h, w)."""
    mean, mean_of_squares = around_each(torch.stack([plane, plane.square()]), PATCH)
    return (mean_of_squares - mean.square()).clamp(min=0)


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
    return torch.where(level.left_open, (level.fill + changed).clamp(-1, 1), level.fill)


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
    level: Level, image: torch.Tensor, lead: float, sources: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Better sources for what `image` shows in the wanted patches, of which `lead` is the network's fill, and how
    unlike they are, both (n,)."""
    sought = cut((lead * level.fill + (1 - lead) * image)[(..., *level.box)])[level.in_box]
    traits = level.traits[level.wanted]
    index = torch.full_like(level.known, -1, dtype=torch.long)
    everyone = torch.arange(len(level.wanted), device=index.device)
    index[level.wanted] = everyone
    row, column = level.wanted // level.columns, level.wanted % level.columns

    def neighbours(step: int) -> list[tuple[int, int, torch.Tensor]]:
        """Four directions and for each wanted patch the number of the wanted one there, -1 if there is none."""
        found = []
        for down, across in ((0, step), (0, -step), (step, 0), (-step, 0)):
            there_row, there_column = row + down, column + across
            inside = (there_row >= 0) & (there_row < level.rows) & (there_column >= 0) & (there_column < level.columns)
            there = index[torch.where(inside, there_row * level.columns + there_column, 0)]
            found.append((down, across, torch.where(inside, there, -1)))
        return found

    beside = neighbours(level.spacing)

    def unlikeness(candidates: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        colours = (level.patches[candidates] - sought[which]).square().sum(dim=1)
        return colours + (level.traits[candidates] - traits[which]).square().sum(dim=1)

    def forgiven(candidates: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """Of the unlikeness: by how many of the four neighbours lie around the candidates in the photo too."""
        agreeing = torch.zeros(len(which), device=which.device)
        for down, across, there in beside:
            there = there[which]
            agreeing += (there >= 0) & (sources[there] == candidates + down * level.columns + across)
        return 1 - COHERENCE * agreeing / len(beside)

    sources = sources.clone()
    distances = unlikeness(sources, everyone)

    def offer(candidates: torch.Tensor, usable: torch.Tensor) -> None:
        which = (usable & (candidates != sources)).nonzero()[:, 0]
        unlike = unlikeness(candidates[which], which)
        hopeful = unlike * (1 - COHERENCE) < distances[which]  # the others lose however much they are forgiven
        which, unlike = which[hopeful], unlike[hopeful]
        candidates = candidates[which]
        mine = distances[which] * forgiven(sources[which], which)
        better = unlike * forgiven(candidates, which) < mine
        sources[which[better]] = candidates[better]
        distances[which[better]] = unlike[better]

    steps = [neighbours(step * level.spacing) for step in (4, 2, 1)]
    for _ in range(2):
        for down, across, there in (each for around in steps for each in around):
            found = sources[there]  # of -1 the last one: not usable; what a neighbour found, one step on
            candidates, usable = locate(level, found // level.columns - down, found % level.columns - across)
            offer(candidates, usable & (there >= 0))
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
    mean, covered = blend(level, weights_of(level, distances), colours_of(level, sources))
    return torch.where(covered, mean, level.fill)


def decide(level: Level, sources: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """As `average`, but each pixel is nearly its best patch's alone, and contrast that is still lost is given back.
    Flat patches are taken apart: their detail is so decided, their tone averaged, or tones would meet in a line."""
    colours, trust = colours_of(level, sources), weights_of(level, distances)
    tones, variances = tones_of(colours)
    details = colours - tones
    tone, variance, _ = blend(level, trust, tones, variances)
    mean, mean_of_squares, detail, detail_of_squares, covered = blend(
        level, trust**DECISIVENESS, colours, colours.square(), details, details.square()
    )
    flatness = torch.exp(-variance / FLAT_PATCH)
    disagreement = torch.lerp(mean_of_squares - mean.square(), detail_of_squares - detail.square(), flatness)
    image = torch.where(covered, torch.lerp(mean, tone + detail, flatness), level.fill)
    # Of the hole alone: a step at its border is no contrast of the patches'.
    around = masked_mean(image, covered, CONTRAST_WINDOW)
    lost = masked_mean(disagreement.clamp(min=0), covered, CONTRAST_WINDOW).mean(dim=0)
    kept = masked_mean((image - around).square(), covered, CONTRAST_WINDOW).mean(dim=0)
    contrast = (1 + lost / kept.clamp(min=FLAT)).sqrt().clamp(max=MOST_CONTRAST)  # of the patches, times the mean's
    image = around + (1 + CONTRAST * (contrast - 1)) * (image - around)
    return torch.where(covered, image.clamp(-1, 1), level.fill)


def tones_of(colours: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean colour of each patch of (n, 3 * 49), for all of its pixels, and the variance of its lightness there,
    (n, 49)."""
    planes = colours.view(len(colours), 3, PATCH**2)
    weights = window_weights(colours)
    weights = weights / weights.sum()
    tones = (planes * weights).sum(dim=2, keepdim=True)
    lightness = (planes - tones).mean(dim=1)
    variances = (lightness.square() * weights).sum(dim=1, keepdim=True)
    return tones.expand_as(planes).flatten(1), variances.expand_as(lightness)


def colours_of(level: Level, sources: torch.Tensor) -> torch.Tensor:
    """Of the sources' pixels, not weighted, (n, 3 * 49)."""
    return level.patches[sources] / window_weights(level.fill).sqrt().repeat(3)


def weights_of(level: Level, distances: torch.Tensor) -> torch.Tensor:
    """How much each wanted patch counts in the pixels that it covers, (n, 49)."""
    spread = distances.quantile(0.75)
    trust = torch.exp(-distances / (2 * spread.clamp(min=1e-6))).clamp(min=LEAST_TRUST)
    return window_weights(level.fill) * trust[:, None]


def blend(level: Level, weights: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The means (c, h, w) of values (n, c * 49) that wanted patches have for a pixel, by weights (n, 49), and, last,
    which pixels that are to be redrawn have any, (h, w)."""

    size = level.fill[(0, *level.box)].shape

    def total(planes: torch.Tensor) -> torch.Tensor:
        everywhere = planes.new_zeros((size[0] - PATCH + 1) * (size[1] - PATCH + 1), planes.shape[1])
        everywhere[level.in_box] = planes
        return F.fold(everywhere.T[None], size, PATCH)[0]

    def in_place(planes: torch.Tensor) -> torch.Tensor:
        whole = planes.new_zeros(len(planes), *level.fill.shape[1:])
        whole[(..., *level.box)] = planes
        return whole

    weight = total(weights)
    means = [
        in_place(total(each * weights.repeat(1, each.shape[1] // PATCH**2)) / torch.where(weight > 0, weight, 1))
        for each in values
    ]
    return *means, level.left_open & (in_place(weight)[0] > 0)


def recolour(image: torch.Tensor, colours: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """Moves the means of the hole's colours in (3, h, w) towards those of `colours`; what is finer stays as it is, and
    so does most of a hole of a pixel or two."""
    difference = masked_mean(colours.clamp(-1, 1) - image, hole, COLOUR_WINDOW, smooth, RIM_SHARE)
    return torch.where(hole, (image + COLOUR_SHARE * difference).clamp(-1, 1), image)


def around_each(planes: torch.Tensor, side: int) -> torch.Tensor:
    """The mean over `side` x `side` cells around each of (..., c, h, w), fewer at the border."""
    return F.avg_pool2d(planes, side, stride=1, padding=side // 2, count_include_pad=False)


def smooth(planes: torch.Tensor, side: int) -> torch.Tensor:
    """`around_each` twice: the second pass rounds the first one's kinks."""
    return around_each(around_each(planes, side), side)


def masked_mean(
    planes: torch.Tensor,
    mask: torch.Tensor,
    side: int,
    mean: Callable[[torch.Tensor, int], torch.Tensor] = around_each,
    least: float = 0.0,
) -> torch.Tensor:
    """`mean` of (c, h, w) over the pixels of a mask (h, w), bool, alone; as if the share of its window that these take
    were at least `least`, and what is missing 0."""
    share = mean(mask.to(planes.dtype)[None], side).clamp(min=least)
    return mean(torch.where(mask, planes, 0), side) / torch.where(share > 0, share, 1)
