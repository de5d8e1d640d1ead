"""Redrawing a fill with the photo's own patches: what it must keep, and that it does some good."""

import pytest
import torch

from sgenet_hf import patch_synthesis
from sgenet_hf.patch_synthesis import (
    COHERENCE,
    PATCH,
    average,
    blend,
    carry_on,
    cut,
    decide,
    inherit,
    nearest,
    pyramid,
    recolour,
    redraw,
    search,
    surroundings,
)


def scene(height: int = 128, width: int = 128) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Upright stripes on the left, level ones on the right, a hole on their border, and the class of each side."""
    row, column = torch.arange(height)[:, None], torch.arange(width)
    left = (column < width // 2).expand(height, width)
    stripes = torch.where(left, (column // 4 % 2).expand(height, width), (row // 4 % 2).expand(height, width))
    photo = (stripes * 1.2 - 0.6)[None].repeat(3, 1, 1)
    hole = torch.zeros(height, width)
    hole[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = 1
    return photo, hole, torch.stack([left.float(), 1 - left.float()])


def drawn_badly(photo: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
    """What a network might fill in: the stripes, faint and noisy."""
    noise = torch.randn(photo.shape, generator=torch.Generator().manual_seed(3))
    return torch.where(hole > 0, 0.4 * photo + 0.2 * noise, photo)


def test_a_bad_drawing_becomes_the_photos_own_texture():
    photo, hole, classes = scene()
    fill = drawn_badly(photo, hole)
    redrawn = redraw(fill, hole, classes)
    inside = (hole > 0).expand_as(photo)
    assert (redrawn - photo)[inside].abs().mean() < 0.5 * (fill - photo)[inside].abs().mean()
    assert torch.equal(redrawn[~inside], photo[~inside])


def test_the_class_decides_where_colours_do_not():
    photo, hole, classes = scene()
    neither = torch.where(hole > 0, 0.1 * torch.randn(hole.shape, generator=torch.Generator().manual_seed(3)), photo)
    inside = (slice(48, 80), slice(48, 80))  # of the left side's columns and of the right side's
    upright, level = (redraw(neither, hole, side)[0][inside] for side in (told(classes, 0), told(classes, 1)))
    along = [(image.diff(dim=0).abs().mean(), image.diff(dim=1).abs().mean()) for image in (upright, level)]
    assert along[0][0] < along[0][1] and along[1][0] > along[1][1]


def told(classes: torch.Tensor, name: int) -> torch.Tensor:
    """The whole hole's surroundings said to be of one class."""
    classes = classes.clone()
    classes[:, 40:90, 40:90] = 0
    classes[name, 40:90, 40:90] = 1
    return classes


@pytest.mark.parametrize("size", [(7, 13), (64, 64), (65, 97), (257, 130), (200, 40)])
def test_any_size_is_redrawn_alike_every_time_and_outside_the_hole_not_at_all(size):
    photo, hole, classes = scene(*size)
    fill = drawn_badly(photo, hole)
    once, again = redraw(fill, hole, classes), redraw(fill.clone(), hole, classes)
    assert once.shape == photo.shape and once.isfinite().all() and torch.equal(once, again)
    known = (hole == 0).expand_as(photo)
    assert torch.equal(once[known], photo[known])
    assert once.min() >= -1 and once.max() <= 1
    assert torch.equal(once, fill) == (size == (7, 13))  # where no whole patch is known


def test_a_hole_of_many_patches_gets_one_round_and_is_redrawn_all_the_same(monkeypatch):
    photo, hole, classes = scene()
    fill = drawn_badly(photo, hole)
    in_full, calls = redraw(fill, hole, classes), []
    monkeypatch.setattr(patch_synthesis, "MANY", 10)
    monkeypatch.setattr(patch_synthesis, "search", lambda *given: calls.append(1) or search(*given))
    once = redraw(fill, hole, classes)
    inside = (hole > 0).expand_as(photo)
    assert len(calls) == 2  # one for each level
    assert not torch.equal(once, in_full)
    assert (once - photo)[inside].abs().mean() < 0.7 * (fill - photo)[inside].abs().mean()


def test_where_comparing_everything_would_take_long_the_search_starts_anywhere(monkeypatch):
    photo, hole, classes = scene()
    fill = drawn_badly(photo, hole)
    monkeypatch.setattr(patch_synthesis, "PAIRS", 10)
    monkeypatch.setattr(patch_synthesis, "nearest", None)
    inside = (hole > 0).expand_as(photo)
    redrawn = redraw(fill, hole, classes)
    assert (redrawn - photo)[inside].abs().mean() < 0.7 * (fill - photo)[inside].abs().mean()


@pytest.mark.parametrize("side", [128, 129, 131])
def test_a_change_at_the_coarser_level_is_carried_on_to_its_place(side):
    hole = torch.zeros(side, side)
    hole[40:90, 40:90] = 1
    coarse, fine = pyramid(torch.zeros(3, side, side), hole, torch.ones(1, side, side), hole)
    row = torch.arange(coarse.fill.shape[1]) * 2 + 0.5  # of the middle of each cell, in pixels
    ramp = (row / side).expand(3, len(row), len(row)).transpose(1, 2)
    carried = carry_on(fine, ramp, coarse)
    expected = (torch.arange(side) / side)[:, None].expand(3, side, side)
    inside = (slice(None), slice(45, 85), slice(45, 85))
    assert (carried - expected)[inside].abs().max() < 0.2 / side


def test_sources_of_the_coarser_level_are_inherited_at_twice_their_place():
    photo, hole, classes = scene()
    coarse, fine = pyramid(drawn_badly(photo, hole), hole, classes, hole)
    sources = nearest(coarse)
    inherited = inherit(fine, sources, coarse, torch.Generator().manual_seed(0))
    table = dict(zip(coarse.wanted.tolist(), sources.tolist(), strict=True))
    kept = 0
    for place, source in zip(fine.wanted.tolist(), inherited.tolist(), strict=True):
        row, column = place // fine.columns, place % fine.columns
        parent = table.get(row // 2 * coarse.columns + column // 2)
        if parent is not None:
            twice = [2 * (parent // coarse.columns) + row % 2, 2 * (parent % coarse.columns) + column % 2]
            kept += [source // fine.columns, source % fine.columns] == twice
    assert kept > 0.8 * len(fine.wanted)


def test_where_there_is_nothing_to_take_or_to_fill_the_fill_stays():
    photo, hole, classes = scene()
    fill = drawn_badly(photo, hole)
    small = (..., slice(5), slice(5))
    frame = torch.ones_like(hole)
    frame[:3] = 0  # no whole patch fits in
    for image, mask, names in (
        (photo, torch.zeros_like(hole), classes),
        (fill, torch.ones_like(hole), classes),
        (fill, frame, classes),
        (fill[small], torch.eye(5), classes[small]),
    ):
        assert redraw(image, mask, names) is image


def test_threads_are_as_many_afterwards_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        redraw(*scene())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_what_the_network_drew_in_lower_precision_comes_back_in_it():
    photo, hole, classes = scene()
    assert redraw(photo.bfloat16(), hole.bfloat16(), classes.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("place", [(0, 0), (127, 127), (127, 60), (60, 127)])
def test_a_hole_of_one_pixel_is_redrawn_wherever_it_is(place):
    photo, hole, classes = scene()
    hole.zero_()
    hole[place] = 1
    fill = torch.where(hole > 0, 0.1, photo)  # a grey that the photo does not have
    assert (redraw(fill, hole, classes)[(slice(None), *place)] - 0.1).abs().min() > 0.2


@pytest.mark.parametrize("wide", [1, 2])
def test_a_scratch_is_the_patches_alone(wide):
    photo, hole, classes = scene()
    hole.zero_()
    hole[40:80, 30 : 30 + wide] = 1
    fill = torch.where(hole > 0, 0.1, photo)
    redrawn = redraw(fill, hole, classes)
    inside = hole.expand_as(photo) > 0
    assert (redrawn - photo)[inside].abs().mean() < 0.4 * (fill - photo)[inside].abs().mean()


def test_a_hole_at_the_rim_is_redrawn_to_the_last_pixel():
    photo, hole, classes = scene()
    hole[60:, 60:] = 1
    redrawn = redraw(torch.where(hole > 0, 0.1, photo), hole, classes)
    assert (redrawn[:, 60:, 127] != 0.1).all() and (redrawn[:, 127, 60:] != 0.1).all()


def test_the_surroundings_of_a_small_hole_in_a_large_photo_are_all_that_is_looked_at():
    photo, hole, classes = scene(600, 700)
    hole.zero_()
    hole[300:340, 20:60] = 1
    assert surroundings(hole > 0) == (slice(236, 404), slice(0, 124))
    fill = drawn_badly(photo, hole)
    far = fill.clone()
    far[:, :200] = 0.9
    assert torch.equal(redraw(fill, hole, classes)[:, 200:], redraw(far, hole, classes)[:, 200:])


def test_the_search_finds_what_comparing_everything_finds(monkeypatch):
    monkeypatch.setattr(patch_synthesis, "COHERENCE", 0)  # which prefers company to likeness
    photo, hole, classes = scene()
    fill = drawn_badly(photo, hole)
    coarse, fine = pyramid(fill, hole, classes, hole)
    assert [min(level.fill.shape[1:]) for level in (coarse, fine)] == [64, 128]
    assert fine.known[inherit(fine, nearest(coarse), coarse, torch.Generator().manual_seed(0))].all()
    known = fine.known.nonzero()[:, 0]
    anywhere = known[torch.randint(len(known), fine.wanted.shape, generator=torch.Generator().manual_seed(1))]
    sources, distances = search(fine, fine.fill, 0.5, anywhere, torch.Generator().manual_seed(0))
    assert fine.known[sources].all()

    def unlikeness(places):
        colours = (fine.patches[places] - fine.patches[fine.wanted]).square().sum(dim=1)
        return colours + (fine.traits[places] - fine.traits[fine.wanted]).square().sum(dim=1)

    torch.testing.assert_close(distances, unlikeness(sources))
    best, before = unlikeness(nearest(fine)), unlikeness(anywhere)
    assert (best <= distances + 1e-3).all() and (distances <= before + 1e-3).all()
    assert distances.mean() < best.mean() + 0.2 * (before.mean() - best.mean())


def test_what_is_done_within_the_box_of_the_wanted_patches_is_what_the_whole_plane_gives():
    photo, hole, classes = scene(90, 120)
    hole[70:, 100:] = 1  # two holes, one of them in the corner
    for level in pyramid(drawn_badly(photo, hole), hole, classes, hole):
        assert torch.equal(cut(level.fill[(..., *level.box)])[level.in_box], cut(level.fill)[level.wanted])
        random = torch.Generator().manual_seed(1)
        weights = torch.rand(len(level.wanted), PATCH**2, generator=random)
        colours = torch.rand(len(level.wanted), 3 * PATCH**2, generator=random)
        total, count = torch.zeros(level.fill.shape), torch.zeros(level.fill.shape[1:])
        for place, weight, colour in zip(level.wanted, weights, colours, strict=True):
            row, column = int(place) // level.columns, int(place) % level.columns
            there = (..., slice(row, row + PATCH), slice(column, column + PATCH))
            total[there] += (colour.view(3, -1) * weight).view(3, PATCH, PATCH)
            count[there] += weight.view(PATCH, PATCH)
        mean, covered = blend(level, weights, colours)
        assert torch.equal(covered, level.left_open & (count > 0))
        torch.testing.assert_close(mean[:, covered], (total / count)[:, covered])


def test_the_search_passes_over_nothing_that_would_win():
    """Candidates that lose however much they are forgiven are not looked at further; it ends as without that."""
    photo, hole, classes = scene(96, 96)
    level = pyramid(drawn_badly(photo, hole), hole, classes, hole)[-1]
    start = patch_synthesis.anywhere(level, torch.Generator().manual_seed(2))
    sources, distances = search(level, level.fill, 0.5, start, torch.Generator().manual_seed(3))
    expected, expected_distances = searched_without_shortcuts(level, start, torch.Generator().manual_seed(3))
    assert torch.equal(sources, expected) and torch.equal(distances, expected_distances)
    assert (sources != start).float().mean() > 0.5


def searched_without_shortcuts(level, sources, generator):
    """`search` of a level's own fill, one patch after another in Python, each candidate weighed whole."""
    sought, sources = cut(level.fill), sources.clone()
    number = {int(place): index for index, place in enumerate(level.wanted)}

    def unlike(index, candidate):
        place = int(level.wanted[index])
        colours = (level.patches[candidate] - sought[place])[None].square().sum(dim=1)
        return (colours + (level.traits[candidate] - level.traits[place])[None].square().sum(dim=1))[0]

    def around(index, step):
        row, column = divmod(int(level.wanted[index]), level.columns)
        for down, across in ((0, step), (0, -step), (step, 0), (-step, 0)):
            inside = 0 <= row + down < level.rows and 0 <= column + across < level.columns
            yield down, across, number.get((row + down) * level.columns + column + across) if inside else None

    def forgiven(index, candidate, sources):
        agreeing = sum(
            there is not None and int(sources[there]) == candidate + down * level.columns + across
            for down, across, there in around(index, level.spacing)
        )
        return 1 - COHERENCE * torch.tensor(float(agreeing)) / 4

    distances = torch.stack([unlike(index, int(source)) for index, source in enumerate(sources)])

    def offer(candidates):
        before, changes = sources.clone(), []
        for index, candidate in enumerate(candidates):
            if candidate is not None and level.known[candidate]:
                found = unlike(index, candidate)
                mine = distances[index] * forgiven(index, int(before[index]), before)
                if found * forgiven(index, candidate, before) < mine:
                    changes.append((index, candidate, found))
        for index, candidate, found in changes:
            sources[index], distances[index] = candidate, found

    def moved(place, down, across):
        row, column = divmod(int(place), level.columns)
        row, column = row + int(down), column + int(across)
        return row * level.columns + column if 0 <= row < level.rows and 0 <= column < level.columns else None

    for _ in range(2):
        for step in (4, 2, 1):
            for direction in range(4):
                neighbours = [list(around(index, step * level.spacing))[direction] for index in range(len(sources))]
                offer([None if j is None else moved(sources[j], -down, -across) for down, across, j in neighbours])
        radius = max(level.rows, level.columns) / 2
        while radius >= 1:
            away = ((torch.rand(2, len(sources), generator=generator) * 2 - 1) * radius).round().long()
            offer([moved(place, *away[:, index]) for index, place in enumerate(sources)])
            radius /= 2
    return sources, distances


def test_a_patch_is_wanted_where_it_touches_the_hole_and_known_where_it_does_not():
    photo, hole, classes = scene()
    fine = pyramid(photo, hole, classes, hole)[-1]
    row, column = fine.wanted // fine.columns, fine.wanted % fine.columns
    for top, left in zip(row.tolist(), column.tolist(), strict=True):
        assert hole[top : top + PATCH, left : left + PATCH].any()
    touched = hole.unfold(0, PATCH, 1).unfold(1, PATCH, 1).any(dim=3).any(dim=2)
    assert torch.equal(fine.known, ~touched.flatten())


def test_patches_that_lie_side_by_side_in_the_photo_are_preferred(monkeypatch):
    generator = torch.Generator().manual_seed(5)
    photo = torch.rand(3, 128, 128, generator=generator) * 2 - 1
    hole = torch.zeros(128, 128)
    hole[40:80, 40:80] = 1
    fine = pyramid(torch.where(hole > 0, 0.0, photo), hole, torch.ones(1, 128, 128), hole)[-1]
    start = fine.known.nonzero()[:, 0][torch.randint(1000, fine.wanted.shape, generator=generator)]
    together = []
    for coherence in (0, 0.3):
        monkeypatch.setattr(patch_synthesis, "COHERENCE", coherence)
        sources, _ = search(fine, fine.fill, 0.5, start, torch.Generator().manual_seed(0))
        of = dict(zip(fine.wanted.tolist(), sources.tolist(), strict=True))
        together.append(sum(of.get(place + fine.spacing) == source + fine.spacing for place, source in of.items()))
    assert together[1] > 1.2 * together[0] > 0


@pytest.mark.parametrize("contrast", [0, patch_synthesis.CONTRAST])
def test_the_last_average_keeps_the_contrast_of_the_patches(contrast, monkeypatch):
    monkeypatch.setattr(patch_synthesis, "CONTRAST", contrast)
    generator = torch.Generator().manual_seed(5)
    photo = torch.rand(3, 128, 128, generator=generator) - 0.5
    hole = torch.zeros(128, 128)
    hole[40:80, 40:80] = 1
    fine = pyramid(photo, hole, torch.ones(1, 128, 128), hole)[-1]
    known = fine.known.nonzero()[:, 0]
    sources = known[torch.randint(len(known), fine.wanted.shape, generator=generator)]  # that do not fit together
    distances = torch.rand(len(sources), generator=generator)
    mean, decided = (made(fine, sources, distances) for made in (average, decide))
    inside = hole.expand_as(photo) > 0
    assert mean[inside].std() < 0.7 * photo[~inside].std()  # which is what is to be mended
    least = 0.85 if contrast else 0.65  # what is given back, and that one patch decides
    assert least * photo[~inside].std() < decided[inside].std() < 1.2 * photo[~inside].std()
    assert torch.equal(decided[~inside], photo[~inside]) and decided.abs().max() <= 1


def test_flat_patches_of_other_tones_meet_without_a_line(monkeypatch):
    grain = 0.01 * torch.randn(128, 128, generator=torch.Generator().manual_seed(2))
    photo = (grain + 0.2 * (torch.arange(128)[:, None] > 64))[None].repeat(3, 1, 1)
    hole = torch.zeros(128, 128)
    hole[30:100, 40:90] = 1
    fine = pyramid(photo, hole, torch.ones(1, 128, 128), hole)[-1]
    sources = (
        torch.where(fine.wanted // fine.columns < 61, 5, 105) * fine.columns + 5
    )  # darker ones, and lighter below
    distances = torch.rand(len(sources), generator=torch.Generator().manual_seed(4))

    def steepest(flat: float) -> float:
        monkeypatch.setattr(patch_synthesis, "FLAT_PATCH", flat)
        inside = decide(fine, sources, distances)[0, 34:96, 44:86]
        return float(inside.mean(dim=1).diff().abs().max())

    assert steepest(patch_synthesis.FLAT_PATCH) < 0.5 * steepest(1e-9)


def test_a_step_at_the_holes_border_is_not_taken_for_contrast():
    generator = torch.Generator().manual_seed(2)
    photo = 0.1 * torch.randn(3, 128, 128, generator=generator)
    hole = torch.zeros(128, 128)
    hole[40:80, 40:80] = 1
    fine = pyramid(photo, hole, torch.ones(1, 128, 128), hole)[-1]
    fine.patches += 0.3 * patch_synthesis.window_weights(photo).sqrt().repeat(3)  # as if all in there were lighter
    known = fine.known.nonzero()[:, 0]
    sources = known[torch.randint(len(known), fine.wanted.shape, generator=generator)]
    decided = decide(fine, sources, torch.ones(len(sources)))
    assert abs(decided[:, 40, 40:80].mean() - 0.3) < 0.02


def test_coarse_colours_come_from_the_network_and_detail_from_the_patches():
    photo, hole, _ = scene()
    recoloured = recolour(photo, torch.full_like(photo, 0.5), hole > 0)
    inside = hole.expand_as(photo) > 0
    assert torch.equal(recoloured[~inside], photo[~inside])
    rim, middle = ((slice(None), rows, slice(56, 72)) for rows in (slice(42, 50), slice(60, 68)))  # two stripes each
    for place in (rim, middle):
        assert 0.55 * 0.5 < recoloured[place].mean() - photo[place].mean() < 0.8 * 0.5  # seven tenths of the way
    stripes = [(image[0, 56:72, 50] - image[0, 56:72, 54]).abs().mean() for image in (photo, recoloured)]
    torch.testing.assert_close(*stripes, rtol=0.05, atol=0)


def test_only_what_is_left_open_is_redrawn_and_nothing_else_of_the_hole_is_copied():
    photo, hole, classes = scene()
    fill = torch.where(hole > 0, 0.97, photo)  # a colour that the photo does not have
    left_open = hole.clone()
    left_open[:, 60:] = 0
    redrawn = redraw(fill, hole, classes, colours=torch.zeros_like(fill), left_open=left_open)
    kept = (left_open == 0).expand_as(photo)
    assert torch.equal(redrawn[kept], fill[kept]) and redrawn[~kept].mean() < 0.3  # .5 if it were


def test_a_little_that_is_left_open_in_a_wide_hole_is_redrawn():
    photo, hole, classes = scene(320, 320)
    hole.zero_()
    hole[20:300, 20:300] = 1
    left_open = torch.zeros_like(hole)
    left_open[150:170, 150:170] = 1
    fill = drawn_badly(photo, hole)
    changed = (redraw(fill, hole, classes, left_open=left_open) != fill).any(dim=0)
    assert changed[left_open > 0].all() and not changed[left_open == 0].any()


def test_autocast_does_not_reach_the_search():
    _, hole, classes = scene()
    photo = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(5)) * 2 - 1
    fill = drawn_badly(photo, hole)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = redraw(fill, hole, classes)
    assert torch.equal(mixed, redraw(fill, hole, classes))


def test_at_the_finest_level_the_networks_scribble_leads_less(monkeypatch):
    leads = []
    monkeypatch.setattr(patch_synthesis, "search", lambda *given: leads.append(given[2]) or search(*given))
    photo, hole, classes = scene(256, 256)
    redraw(drawn_badly(photo, hole), hole, classes)
    assert leads == 8 * [0.5] + 4 * [0.5] + 3 * [0.4]
