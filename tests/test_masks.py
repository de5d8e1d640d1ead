"""Masks: kinds, hole ratios, seeds, growth, and prompts."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sgenet_hf import masks
from sgenet_hf.masks import (
    HOLE_RATIO_BINS,
    MASK_SETS,
    IrregularMaskFiles,
    centre_mask,
    evaluation_mask,
    free_form_mask,
    generated_irregular_mask,
    grow_mask,
    mask_set_sha256,
    partial_prompt,
    random_boxes_mask,
    training_mask,
)


PUBLISHED = "fa6a99cb7c1f147825d8e003867bb1c8ff1e6ecb5aa29d1a3b830755a91f723e"


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def mask_files(tmp_path, monkeypatch):
    """A folder of mask files of 5, 15 and 35 % holes, without symmetry."""
    monkeypatch.setenv("SGENET_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "masks"
    folder.mkdir()
    for name, percent in (("a", 5), ("b", 15), ("c", 35)):
        pixels = np.zeros((50, 40), np.uint8)
        pixels.flat[: 20 * percent] = 255
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_centre_mask_is_where_the_paper_has_it():
    mask = centre_mask(256, 256, 96)
    assert mask.sum() == 96 * 96
    assert mask[80:176, 80:176].all()


def test_centre_mask_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="300x300 does not fit an image of 256x256"):
        centre_mask(256, 256, 300)


@pytest.mark.parametrize("kind", ["centre", "boxes", "free_form", "irregular"])
@pytest.mark.parametrize("size", [(128, 128), (64, 96)])
def test_training_masks_leave_something_on_both_sides(kind, size):
    generator = rng()
    ratios = [training_mask(*size, generator, {kind: 1.0}).mean() for _ in range(40)]
    assert min(ratios) > 0
    assert max(ratios) < 0.8
    assert 0.05 < np.mean(ratios) < 0.45


def test_strokes_of_128_and_256_pixels_look_alike():
    small = np.mean([free_form_mask(128, 128, rng(seed)).mean() for seed in range(60)])
    large = np.mean([free_form_mask(256, 256, rng(seed)).mean() for seed in range(60)])
    assert small == pytest.approx(large, rel=0.1)


def test_boxes_have_sides_in_the_asked_range():
    mask = random_boxes_mask(100, 200, rng(3), count=(1, 1), side=(0.2, 0.3))
    rows, columns = mask.any(axis=1).sum(), mask.any(axis=0).sum()
    assert mask.sum() == rows * columns
    assert 20 <= rows <= 30
    assert 40 <= columns <= 60


@pytest.mark.parametrize("ratio_bin", HOLE_RATIO_BINS)
@pytest.mark.parametrize("size", [(64, 64), (100, 37)])
def test_generated_irregular_masks_hit_their_bin(ratio_bin, size):
    for seed in range(8):
        ratio = generated_irregular_mask(*size, rng(seed), ratio_bin).mean()
        assert ratio_bin[0] < ratio <= ratio_bin[1]


def test_a_bin_without_a_whole_pixel_is_refused():
    with pytest.raises(ValueError, match="use a larger image or bin"):
        generated_irregular_mask(3, 3, rng(), (0.01, 0.1))


def test_mixes_are_followed_and_checked():
    generator = rng()
    assert all(training_mask(64, 64, generator, {"centre": 1.0, "boxes": 0.0})[32, 32] for _ in range(30))
    with pytest.raises(ValueError, match=r"\['squares'\]"):
        training_mask(64, 64, generator, {"squares": 1.0})
    with pytest.raises(ValueError, match="at least one above 0"):
        training_mask(64, 64, generator, {"centre": 0.0})


def test_mask_files_are_binned_by_what_they_hold(mask_files):
    files = IrregularMaskFiles(mask_files)
    assert files.ratios == pytest.approx([0.05, 0.15, 0.35])
    assert files.names_in((0.1, 0.2)) == ["b.png"]
    for seed in range(6):
        assert files.sample(rng(seed), 50, 40, (0.1, 0.2)).mean() == pytest.approx(0.15)
        assert 0.28 < files.sample(rng(seed), 33, 77, (0.3, 0.4)).mean() < 0.42
    with pytest.raises(ValueError, match=r"\(0.5, 0.6\)"):
        files.sample(rng(), 8, 8, (0.5, 0.6))


def test_sampled_mask_files_are_mirrored_in_all_ways(mask_files):
    files = IrregularMaskFiles(mask_files)
    seen = {files.sample(rng(seed), 50, 40, (0.3, 0.4)).tobytes() for seed in range(40)}
    original = np.asarray(Image.open(mask_files / "c.png")) > 0
    assert seen == {view.tobytes() for view in (original, original[::-1], original[:, ::-1], original[::-1, ::-1])}


def test_cached_ratios_notice_a_changed_file(mask_files):
    IrregularMaskFiles(mask_files)
    Image.fromarray(np.full((60, 40), 255, np.uint8)).save(mask_files / "a.png")
    assert IrregularMaskFiles(mask_files).ratios[0] == 1.0


def test_a_broken_mask_file_is_named(mask_files):
    (mask_files / "d.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"d\.png"):
        IrregularMaskFiles(mask_files)
    with pytest.raises(FileNotFoundError, match="No mask files"):
        IrregularMaskFiles(mask_files / "nowhere")


@pytest.mark.parametrize("name", MASK_SETS)
def test_evaluation_masks_depend_on_their_arguments_only(name):
    first = [evaluation_mask(name, 7, index, 256, 256) for index in (3, 1)]
    again = [evaluation_mask(name, 7, index, 256, 256) for index in (1, 3)]
    assert mask_set_sha256(first) == mask_set_sha256(again[::-1])
    if not name.startswith("centre"):
        assert not np.array_equal(first[0], first[1])
        assert not np.array_equal(first[0], evaluation_mask(name, 8, 3, 256, 256))


def test_evaluation_sets_hold_what_their_names_say():
    assert evaluation_mask("centre-48", 0, 0, 128, 128).sum() == 48 * 48
    assert 0.2 < evaluation_mask("irregular-20-30", 0, 5, 128, 128).mean() <= 0.3
    with pytest.raises(ValueError, match="irregular-10-20"):
        evaluation_mask("irregular-15-20", 0, 0, 64, 64)


def test_the_same_seed_gives_the_same_masks_in_another_process():
    """`masks.py` alone: it needs nothing of the package, whose import takes seconds."""
    code = (
        f"import runpy; m = runpy.run_path({masks.__file__!r})\n"
        "names = m['MASK_SETS'][2:]\n"
        "print(m['mask_set_sha256'](m['evaluation_mask'](n, 3, i, 96, 80) for n in names for i in range(3)))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = mask_set_sha256(evaluation_mask(name, 3, index, 96, 80) for name in MASK_SETS[2:] for index in range(3))
    assert outcome.stdout.strip() == here


def test_the_published_sets_stay_as_they_are():
    """Numbers in result files name a seed; a change here means that old numbers are of other masks."""
    published = (evaluation_mask(name, 0, index, 256, 256) for name in MASK_SETS for index in range(4))
    assert mask_set_sha256(published) == PUBLISHED


def test_mask_set_hash_sees_pixels_sizes_and_order():
    one, other = np.zeros((4, 6), bool), np.ones((4, 6), bool)
    hashes = {mask_set_sha256(group) for group in ([one, other], [other, one], [one.T, other], [one])}
    assert len(hashes) == 4
    assert mask_set_sha256([]) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("pixels", [1, 2, 5, 9])
def test_growing_is_a_dilation_by_a_disc(pixels):
    mask = rng(4).random((40, 31)) < 0.01
    rows, columns = np.nonzero(mask)
    grid = np.stack(np.meshgrid(np.arange(40), np.arange(31), indexing="ij"), axis=-1)
    distance = ((grid[:, :, None] - np.stack([rows, columns], axis=-1)) ** 2).sum(axis=-1).min(axis=-1)
    assert np.array_equal(grow_mask(mask, pixels), distance <= pixels * pixels)


def test_shrinking_undoes_growing_of_a_disc_and_keeps_the_border():
    mask = np.zeros((30, 30), bool)
    mask[14:17, 14:17] = True
    assert np.array_equal(grow_mask(grow_mask(mask, 4), -4), mask)
    full = np.ones((5, 5), bool)
    assert grow_mask(full, -2).all()
    assert not grow_mask(np.zeros((5, 5), bool), 3).any()


@pytest.fixture
def scene():
    labels = np.zeros((96, 96), np.uint8)
    labels[48:] = 1
    labels[:, 40:56] = 2
    labels[60:66, 20:70] = 255
    return labels, centre_mask(96, 96, 60)


def test_prompts_carry_the_truth_inside_the_hole_only(scene):
    labels, mask = scene
    shares = []
    for seed in range(60):
        prompt = partial_prompt(labels, mask, rng(seed), num_labels=3)
        given = prompt >= 0
        assert given.any()
        assert not given[~mask].any()
        assert np.array_equal(prompt[given], labels[given])
        assert (prompt[~given] == -1).all()
        assert not given[labels == 255].any()
        shares.append(given.sum() / (mask & (labels != 255)).sum())
    assert min(shares) < 0.1
    assert max(shares) == 1.0
    assert 0.05 < np.mean(np.array(shares) == 1.0) < 0.25


def test_prompts_are_ragged():
    """A ragged region has far more boundary than a disc of its area."""
    labels, mask = np.zeros((128, 128), np.uint8), centre_mask(128, 128, 110)
    ratios = []
    for seed in range(40):
        given = partial_prompt(labels, mask, rng(seed), num_labels=1, whole_share=0.0) >= 0
        if given.sum() > 100:
            boundary = (given[1:] != given[:-1]).sum() + (given[:, 1:] != given[:, :-1]).sum()
            ratios.append(boundary / np.sqrt(4 * np.pi * given.sum()))
    assert len(ratios) > 20
    assert np.median(ratios) > 2.0


def test_some_strokes_keep_to_one_class(scene):
    labels, mask = scene
    prompts = [partial_prompt(labels, mask, rng(seed), 3, whole_share=0.0) for seed in range(40)]
    classes = [len(np.unique(prompt[prompt >= 0])) for prompt in prompts]
    assert 1 in classes
    assert max(classes) > 1


def test_prompts_of_unlabelled_holes_are_empty(scene):
    labels, mask = scene
    assert (partial_prompt(np.full_like(labels, 255), mask, rng(), 3) == -1).all()
    assert (partial_prompt(labels, np.zeros_like(mask), rng(), 3) == -1).all()
    assert (partial_prompt(labels, mask, rng(), num_labels=1, whole_share=1.0) <= 0).all()
