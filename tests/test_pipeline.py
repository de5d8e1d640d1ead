"""From photo and mask to filled photo: strategies, known pixels, leaks, warnings, batches, checkpoints."""

import shutil
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from transformers import pipeline

import sgenet_hf
from sgenet_hf import (
    CheckpointError,
    EdgeConnectConfig,
    EdgeConnectModel,
    GatedConvConfig,
    GatedConvModel,
    ImageInpaintingPipeline,
    Inpainter,
    SGENetConfig,
    SGENetImageProcessor,
    SGENetModel,
    SPGNetConfig,
    SPGNetModel,
    inpaint,
    load_model,
)
from sgenet_hf.photos import PhotoError
from sgenet_hf.pipeline import STRATEGIES
from sgenet_hf.regions import Box, feather_weights, hole_boxes, merged, plan_regions


@pytest.fixture(scope="module")
def inpainter() -> Inpainter:
    torch.manual_seed(0)
    model = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4))
    return Inpainter(model, device="cpu")


def scene(rng, height, width, mode="RGB") -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def box_mask(height, width, *boxes) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def assert_known_pixels_untouched(result, photo, mask):
    before, after = np.asarray(photo), np.asarray(result.image)
    assert (result.image.size, result.image.mode) == (photo.size, photo.mode)
    np.testing.assert_array_equal(after[~mask], before[~mask])


# What must hold for every photo


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (257, 511)])
def test_any_size_comes_back_with_its_known_pixels(inpainter, rng, size, strategy):
    height, width = size
    photo = scene(rng, height, width)
    mask = box_mask(height, width, (width // 3, height // 3, width // 2 + 1, height // 2 + 1))
    result = inpainter(photo, mask, strategy=strategy)
    assert_known_pixels_untouched(result, photo, mask)
    assert (np.asarray(result.image)[mask] != np.asarray(photo)[mask]).any()
    assert [view.level for view in result.scales] == [4, 3, 2, 1, 0]
    assert 0 <= result.score <= 1
    left, top, right, bottom = result.region
    for view in result.scales:
        assert view.labels.shape == view.confidence.shape == view.reliability.shape == view.image.size[::-1]
    assert (right - left, bottom - top) == result.scales[-1].image.size  # nothing had to be shrunk


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_every_mode_is_filled_in_place(inpainter, rng, mode):
    mask = box_mask(40, 50, (10, 12, 30, 31))
    if mode == "I;16":
        photo = Image.fromarray(rng.integers(0, 65536, (40, 50), dtype=np.uint16))
    else:
        photo = scene(rng, 40, 50, mode)
    if mode in ("LA", "RGBA"):
        photo.putalpha(Image.fromarray(rng.integers(0, 256, (40, 50), dtype=np.uint8)))
    result = inpainter(photo, mask)
    assert_known_pixels_untouched(result, photo, mask)
    if mode in ("LA", "RGBA"):
        np.testing.assert_array_equal(np.asarray(result.image.getchannel("A")), np.asarray(photo.getchannel("A")))
    before, after = np.asarray(photo).astype(int), np.asarray(result.image).astype(int)
    assert np.abs(after - before)[mask].mean() > 10
    if mode == "I;16":
        assert after[mask].max() > 255  # the fill is on the photo's scale


def test_a_palette_photo_comes_back_in_colours(inpainter, rng):
    photo = scene(rng, 40, 50).quantize(16)
    mask = box_mask(40, 50, (10, 12, 30, 31))
    assert_known_pixels_untouched(inpainter(photo, mask), photo.convert("RGB"), mask)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("feather", [0, 6])
def test_nothing_of_the_removed_object_leaks(inpainter, rng, strategy, feather):
    photo = np.asarray(scene(rng, 250, 820)).copy()
    mask = box_mask(250, 820, (100, 40, 420, 220), (700, 200, 760, 250))
    first = inpainter(photo, mask, strategy=strategy, feather=feather)
    photo[mask] = rng.integers(0, 256, (mask.sum(), 3))
    second = inpainter(photo, mask, strategy=strategy, feather=feather)
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(second.image))
    assert first.score == second.score


def test_an_empty_mask_returns_the_photo(inpainter, rng):
    photo = scene(rng, 30, 40, "RGBA")
    result = inpainter(photo, np.zeros((30, 40), bool))
    np.testing.assert_array_equal(np.asarray(result.image), np.asarray(photo))
    assert result.score is None
    assert result.scales == []
    assert "the mask is empty" in result.warnings[0]
    shrunk = inpainter(photo, box_mask(*np.asarray(photo).shape[:2], (3, 3, 9, 9)), grow=-9)
    assert "grow=-9 leaves nothing of the hole" in shrunk.warnings[0]


def test_where_nothing_is_found_nothing_is_filled(inpainter, rng, monkeypatch):
    monkeypatch.setattr(inpainter, "segment", lambda photo: SimpleNamespace(labels=np.zeros((60, 80), int)))
    result = inpainter(scene(rng, 60, 80), remove="label_1, LABEL_2")
    assert "nothing was found that is LABEL_1 or LABEL_2" in result.warnings[0] and not result.mask.any()
    black = inpainter(scene(rng, 60, 80), np.ones((60, 80), bool), invert_mask=True, remove=["label_1"])
    assert "what is light in it is known, and nothing was found that is LABEL_1" in black.warnings[0]


def test_a_mask_that_is_mostly_hole_may_be_inverted(inpainter, rng):
    photo, mask = scene(rng, 60, 80), box_mask(60, 80, (5, 5, 40, 40))
    assert not any("invert_mask" in message for message in inpainter(photo, mask).warnings)
    assert any("invert_mask" in message for message in inpainter(photo, ~mask).warnings)


def test_a_full_mask_still_runs_and_warns(inpainter, rng):
    for strategy in STRATEGIES:
        result = inpainter(scene(rng, 30, 40), np.ones((30, 40), bool), strategy=strategy)
        assert result.image.size == (40, 30)
        assert any("100% of the photo is hole" in message and "invert_mask" in message for message in result.warnings)


def test_invert_mask_turns_black_into_hole(inpainter, rng):
    photo, mask = scene(rng, 30, 40), box_mask(30, 40, (5, 5, 20, 20))
    inverted = inpainter(photo, ~mask, invert_mask=True)
    np.testing.assert_array_equal(inverted.mask, mask)
    assert_known_pixels_untouched(inverted, photo, mask)


def test_a_mask_of_another_size_needs_resize_mask(inpainter, rng):
    photo, mask = scene(rng, 30, 40), box_mask(60, 80, (10, 10, 40, 40))
    with pytest.raises(PhotoError, match=r"80x60.*40x30"):
        inpainter(photo, mask)
    np.testing.assert_array_equal(inpainter(photo, mask, resize_mask=True).mask, box_mask(30, 40, (5, 5, 20, 20)))


def test_mistakes_are_refused(inpainter, rng):
    photo, mask = scene(rng, 30, 40), box_mask(30, 40, (5, 5, 20, 20))
    with pytest.raises(ValueError, match="auto, crop, resize, original"):
        inpainter(photo, mask, strategy="magic")
    with pytest.raises(ValueError, match="feather"):
        inpainter(photo, mask, feather=-1)
    with pytest.raises(ValueError, match="pass a mask"):
        inpainter(photo)
    with pytest.raises(TypeError, match="featherr"):
        inpainter(photo, mask, featherr=1)


# Strategies


def test_auto_crops_large_photos_only(inpainter, rng):
    for width, strategy in ((800, "original"), (801, "crop")):
        mask = box_mask(16, width, (3, 3, 9, 9))
        assert inpainter.prepare(scene(rng, 16, width), mask).strategy == strategy


def test_crop_takes_two_and_a_half_times_the_box_and_shrinks_it():
    region = plan_regions(box_mask(2000, 3000, (1000, 800, 1400, 1100)), "crop", context=256)[0]
    assert region.box == Box(700, 575, 1700, 1325)  # 1000 x 750 around the middle of 400 x 300
    assert region.size == (384, 512)
    assert region.hole == Box(1000, 800, 1400, 1100)


def test_crop_stays_inside_the_photo_and_keeps_its_context():
    region = plan_regions(box_mask(2000, 3000, (2990, 0, 3000, 4)), "crop", context=256)[0]
    assert region.box == Box(2744, 0, 3000, 256)
    assert region.size == (256, 256)


def test_resize_and_original_see_the_whole_photo():
    mask = box_mask(600, 1200, (100, 100, 110, 110))
    assert plan_regions(mask, "resize", context=256)[0].size == (256, 512)
    assert plan_regions(mask, "original", context=256)[0].size == (600, 1200)


def test_neighbouring_holes_are_filled_together_and_distant_ones_alone():
    whole = Box(0, 0, 4000, 3000)
    near = box_mask(3000, 4000, (1000, 1000, 1060, 1060), (1130, 1010, 1190, 1050))
    assert merged(hole_boxes(near), whole, 256) == [Box(1000, 1000, 1190, 1060)]
    far = box_mask(3000, 4000, (100, 100, 200, 200), (3000, 2500, 3100, 2600))
    assert merged(hole_boxes(far), whole, 256) == [Box(100, 100, 200, 200), Box(3000, 2500, 3100, 2600)]
    # Together these would have to be shrunk; alone each keeps its sharpness, and the other is a hole in its context.
    large = box_mask(3000, 4000, (1000, 1000, 1200, 1200), (1400, 1000, 1600, 1200))
    assert len(merged(hole_boxes(large), whole, 256)) == 2


def test_every_hole_pixel_belongs_to_exactly_one_region(rng):
    mask = np.zeros((1500, 2000), bool)
    for row, column in rng.integers(0, (1490, 1990), (150, 2)):
        mask[row : row + rng.integers(1, 30), column : column + rng.integers(1, 30)] = True
    count = np.zeros(mask.shape, int)
    for region in plan_regions(mask, "crop", context=256):
        count[region.hole.window] += mask[region.hole.window]
        assert region.box.union(region.hole) == region.box
    np.testing.assert_array_equal(count, mask)


def wires(height, width, thickness):
    """A cross from corner to corner."""
    mask = Image.new("L", (width, height))
    for ends in ((0, 0, width, height), (0, height, width, 0)):
        ImageDraw.Draw(mask).line(ends, fill=255, width=thickness)
    return np.asarray(mask) > 0


def test_wires_are_filled_in_pieces_at_full_resolution():
    mask = wires(1500, 2000, 8)
    count = np.zeros(mask.shape, int)
    regions = plan_regions(mask, "crop", context=256)
    for region in regions:
        assert region.size == (region.box.height, region.box.width) == (256, 256)
        assert region.box.union(region.hole) == region.box
        count[region.hole.window] += mask[region.hole.window]
    assert len(regions) > 10
    np.testing.assert_array_equal(count, mask)


def test_what_is_not_thin_or_would_be_too_many_pieces_is_filled_in_one():
    wide = wires(1500, 2000, 8) | box_mask(1500, 2000, (900, 700, 1000, 800))
    assert len(plan_regions(wide, "crop", context=256)) == 1
    assert len(plan_regions(wires(400, 500, 8)[:200, :200], "crop", context=256)) == 1  # not shrunk
    larger = plan_regions(wires(4000, 5000, 8), "crop", context=224)  # cells of the largest crop
    assert {region.size for region in larger} == {(512, 512)} and 10 < len(larger) <= 50
    grid = np.zeros((4500, 6000), bool)
    grid[::100], grid[:, ::100] = True, True
    assert len(plan_regions(grid, "crop", context=256)) == 1


def test_the_pieces_of_a_wire_meet_without_a_gap(inpainter, rng):
    photo, mask = scene(rng, 700, 1300), wires(700, 1300, 5)
    result = inpainter(photo, mask, feather=2)
    assert len(inpainter.prepare(photo, mask).regions) > 5 and not result.warnings
    changed = (np.asarray(result.image) != np.asarray(photo)).any(axis=-1)
    assert changed[mask].mean() > 0.99


def test_each_hole_of_a_large_photo_is_filled(inpainter, rng):
    photo = scene(rng, 700, 1300)
    mask = box_mask(700, 1300, (20, 30, 60, 80), (1200, 600, 1290, 690), (0, 650, 30, 700))
    result = inpainter(photo, mask)
    assert result.strategy == "crop"
    assert_known_pixels_untouched(result, photo, mask)
    changed = (np.asarray(result.image) != np.asarray(photo)).any(axis=-1)
    for box in ((20, 30, 60, 80), (1200, 600, 1290, 690), (0, 650, 30, 700)):
        assert changed[box[1] : box[3], box[0] : box[2]].mean() > 0.9
    assert Box(*result.region).union(Box(1200, 600, 1290, 690)) == result.region  # the largest hole is shown


def test_fills_of_large_holes_are_announced(inpainter, rng):
    photo = scene(rng, 900, 1000)
    assert inpainter.prepare(photo, box_mask(900, 1000, (100, 100, 280, 280))).warnings == []
    shrunk = inpainter.prepare(photo, box_mask(900, 1000, (100, 100, 500, 500))).warnings
    assert "400x400" in shrunk[0] and "softer" in shrunk[0] and "at 51% of" in shrunk[0]
    whole = inpainter.prepare(photo, box_mask(900, 1000, (100, 100, 500, 500)), strategy="original").warnings
    assert "looks made up" in whole[0]
    scratch = np.zeros((900, 1000), np.uint8)
    scratch[100:700, 200:206] = scratch[400:406, 100:900] = 255
    assert inpainter.prepare(photo, scratch, strategy="original").warnings == []


def test_an_enlarged_fill_continues_its_surroundings():
    """A network that copies what it sees must come back in place: shrinking, enlarging and pasting do not shift."""

    class Gradient(SGENetModel):
        """Draws what a smooth photo shows, in the hole too."""

        def forward(self, pixel_values, mask, **kwargs):
            output = super().forward(pixel_values, mask, **kwargs)
            height, width = pixel_values.shape[-2:]
            ramp = ((torch.arange(width) + 0.5) / width * 2 - 1).expand(1, 3, height, width)
            output.composite = torch.where(mask > 0, ramp, pixel_values)
            return output

    smooth = Gradient(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4))
    ramp = np.rint((np.arange(1800) + 0.5) / 1800 * 255).astype(np.uint8)
    photo = np.broadcast_to(ramp[None, :, None], (60, 1800, 3)).copy()
    mask = box_mask(60, 1800, (500, 20, 1200, 40))
    result = np.asarray(Inpainter(smooth, device="cpu")(photo, mask, strategy="resize").image).astype(int)
    assert np.abs(result - photo).max() <= 1


# Grow and feather


def test_grow_widens_the_hole(inpainter, rng):
    photo, mask = scene(rng, 60, 70), box_mask(60, 70, (20, 20, 30, 30))
    result = inpainter(photo, mask, grow=3)
    assert result.mask[25, 17] and not result.mask[25, 16] and not result.mask[17, 17]  # a disc, not a square
    assert_known_pixels_untouched(result, photo, result.mask)
    assert inpainter(photo, mask, grow=-3).mask.sum() == 16


def test_feather_blends_a_band_and_nothing_beyond(inpainter, rng):
    photo, mask = scene(rng, 90, 100), box_mask(90, 100, (40, 30, 60, 50))
    sharp, soft = inpainter(photo, mask), inpainter(photo, mask, feather=5)
    changed = (np.asarray(soft.image) != np.asarray(photo)).any(axis=-1)
    assert changed[28, 45] and changed[40, 62]
    assert (
        not changed[:25].any() and not changed[55:].any() and not changed[:, :35].any() and not changed[:, 65:].any()
    )
    np.testing.assert_allclose(np.asarray(soft.image)[mask].astype(int), np.asarray(sharp.image)[mask], atol=1)


def test_feather_weights_fall_from_the_hole_outwards():
    hole = box_mask(60, 60, (20, 20, 40, 40))
    weights = feather_weights(hole, 8)
    assert (weights[hole] == 1).all()
    profile = weights[30, 40:60]
    assert (np.diff(profile) <= 0).all()
    assert 0.6 < profile[0] < 1 and 0.3 < profile[3] < 0.7 and (profile[8:] == 0).all()
    np.testing.assert_array_equal(feather_weights(hole, 0) == 1, hole)


# Semantics


@pytest.mark.parametrize("kind", ["gatedconv", "edgeconnect", "spgnet"])
def test_the_compared_systems_fill_photos_too(tmp_path, rng, kind):
    """Two holes of two sizes: as one region each, the second must not see the padding of the first."""
    torch.manual_seed(0)
    network = {
        "gatedconv": lambda: GatedConvModel(GatedConvConfig(width=8)),
        "edgeconnect": lambda: EdgeConnectModel(EdgeConnectConfig(width=4, num_blocks=1)),
        "spgnet": lambda: SPGNetModel(SPGNetConfig(width=4, num_blocks=1, num_labels=4)),
    }[kind]()
    network.save_pretrained(tmp_path)
    SGENetImageProcessor().save_pretrained(tmp_path)
    inpainter = Inpainter(tmp_path, device="cpu")
    assert type(inpainter.model) is type(network)
    photo, mask = scene(rng, 64, 80), box_mask(64, 80, (20, 20, 60, 50))
    result = inpainter(photo, mask)
    assert_known_pixels_untouched(result, photo, mask)
    pixels = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        alone = network.eval()(pixels, torch.from_numpy(mask)[None, None].float()).composite
    expected = (alone[0].permute(1, 2, 0).numpy() + 1) * 127.5
    assert np.abs(np.asarray(result.image).astype(float) - expected)[mask].max() <= 1
    both = inpainter.batch([photo, photo.resize((100, 70))], [mask, box_mask(70, 100, (9, 9, 40, 40))])
    np.testing.assert_array_equal(np.asarray(both[0].image), np.asarray(result.image))
    if kind == "spgnet":
        assert 0 < result.score < 1 and [view.level for view in result.scales] == [0]
        assert inpainter.segment(photo).labels.shape == (64, 80)
        guided = [inpainter(photo, mask, semantic_prompt=np.full((64, 80), label)).image for label in (0, 3)]
        assert (np.asarray(guided[0]) != np.asarray(guided[1])).any()
        return
    assert result.score is None and result.scales == [] and result.classes == {}
    with pytest.raises(ValueError, match="no semantic guidance"):
        inpainter(photo, mask, semantic_prompt=np.zeros((64, 80), int))
    with pytest.raises(ValueError, match="names no classes"):
        inpainter.segment(photo)
    with pytest.raises(ValueError, match="names no classes"):
        inpainter.mask_of(photo, ["car"])


def test_a_prompt_guides_the_fill_and_255_leaves_it(inpainter, rng):
    photo, mask = scene(rng, 64, 80), box_mask(64, 80, (20, 20, 60, 50))
    free = np.full((64, 80), 255, np.uint8)
    prompt = np.where(mask, 2, free).astype(np.uint8)
    unguided = np.asarray(inpainter(photo, mask).image)
    np.testing.assert_array_equal(
        np.asarray(inpainter(photo, mask, semantic_prompt=Image.fromarray(free)).image), unguided
    )
    guided = inpainter(photo, mask, semantic_prompt=Image.fromarray(prompt))
    assert (np.asarray(guided.image) != unguided).any()
    assert_known_pixels_untouched(guided, photo, mask)
    by_name = inpainter(photo, mask, semantic_prompt="label_2")
    np.testing.assert_array_equal(np.asarray(by_name.image), np.asarray(guided.image))
    assert by_name.prompted
    both = inpainter.batch([photo, photo], [mask, mask], semantic_prompts="LABEL_2")
    np.testing.assert_array_equal(np.asarray(both[1].image), np.asarray(guided.image))
    with pytest.raises(ValueError, match="'unicorn' is no file, no folder and no class.*LABEL_3"):
        inpainter(photo, mask, semantic_prompt="unicorn")
    with pytest.raises(PhotoError, match="semantic prompt has 40x32"):
        inpainter(photo, mask, semantic_prompt=prompt[::2, ::2])
    resized = inpainter(photo, mask, semantic_prompt=prompt[::2, ::2], resize_mask=True)
    np.testing.assert_array_equal(np.asarray(resized.image), np.asarray(guided.image))


def test_a_network_without_guidance_takes_no_prompt(rng):
    base = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, semantic_guidance=False, confidence_evaluation=False)
    base_net = Inpainter(SGENetModel(base), device="cpu")
    photo, mask = scene(rng, 30, 40), box_mask(30, 40, (5, 5, 20, 20))
    with pytest.raises(ValueError, match="no semantic guidance"):
        base_net(photo, mask, semantic_prompt=np.zeros((30, 40), int))
    assert all(view.reliability is None for view in base_net(photo, mask).scales)


def test_segmentation_has_the_photos_size(inpainter, rng):
    result = inpainter.segment(scene(rng, 300, 700))
    assert result.labels.shape == result.confidence.shape == (300, 700)
    assert set(np.unique(result.labels)) <= set(result.classes)
    assert 0.2 < result.confidence.min() and result.confidence.max() <= 1


def test_remove_by_name_fills_what_the_network_sees(inpainter, rng):
    photo = scene(rng, 120, 150)
    labels = inpainter.segment(photo).labels
    name = inpainter.classes[int(labels[60, 75])].upper()
    exact = labels == labels[60, 75]
    np.testing.assert_array_equal(inpainter.mask_of(photo, [name], grow=0), exact)
    grown = inpainter.mask_of(photo, [name])
    assert grown[exact].all() and grown.sum() > exact.sum()
    removed = inpainter(photo, remove=name)
    np.testing.assert_array_equal(removed.mask, grown)
    assert removed.removed == {name: exact.mean()}
    extra = box_mask(120, 150, (0, 0, 9, 9))
    np.testing.assert_array_equal(inpainter(photo, extra, remove=[name]).mask, grown | extra)
    with pytest.raises(ValueError, match=r"unicorn.*LABEL_0"):
        inpainter.mask_of(photo, ["unicorn"])


def test_the_score_leaves_out_the_band_beside_the_known_part(inpainter, rng):
    photo, mask = scene(rng, 64, 80), box_mask(64, 80, (20, 20, 60, 50))
    result = inpainter(photo, mask)
    confidence = result.scales[-1].confidence
    assert result.score == pytest.approx(confidence[24:46, 24:56].mean(), abs=2e-3)  # the disc rounds the corners
    thin = inpainter(photo, box_mask(64, 80, (20, 20, 60, 22)))
    assert thin.score == pytest.approx(thin.scales[-1].confidence[20:22, 20:60].mean(), abs=1e-6)


# Batches, the transformers pipeline, the short way


def test_a_batch_gives_what_single_photos_give(inpainter, rng):
    photos = [scene(rng, *size) for size in ((40, 50), (64, 48), (40, 50), (500, 900))]
    masks = [box_mask(photo.height, photo.width, (10, 10, 30, 25)) for photo in photos]
    masks[2][:] = False
    together = inpainter.batch(photos, masks, batch_size=3)
    for photo, mask, result in zip(photos, masks, together, strict=True):
        alone = np.asarray(inpainter(photo, mask).image).astype(int)
        assert np.abs(np.asarray(result.image) - alone).max() <= 1
    with pytest.raises(ValueError, match="zip"):
        inpainter.batch(photos, masks[:2])


def test_the_transformers_pipeline(tiny_checkpoint, rng):
    photo, mask = scene(rng, 40, 50), box_mask(40, 50, (10, 10, 30, 25))
    pipe = pipeline("image-inpainting", model=str(tiny_checkpoint), device="cpu")
    expected = np.asarray(Inpainter(tiny_checkpoint, device="cpu")(photo, mask).image)
    single = pipe({"image": photo, "mask": mask})
    np.testing.assert_array_equal(np.asarray(single["image"]), expected)
    assert 0 <= single["score"] <= 1
    smaller = {"image": photo.crop((0, 0, 45, 33)), "mask": mask[:33, :45]}
    for batch_size in (1, 2):
        several = pipe(
            [{"image": photo, "mask": mask}, smaller, {"image": photo, "mask": mask}], batch_size=batch_size
        )
        assert [result["image"].size for result in several] == [(50, 40), (45, 33), (50, 40)]
        assert np.abs(np.asarray(several[2]["image"]).astype(int) - expected).max() <= 1
    with pytest.raises(ValueError, match='"image"'):
        pipe({"photo": photo})


def test_pipeline_options_and_a_network_in_hand(tiny_model, rng):
    photo, mask = scene(rng, 40, 50), box_mask(40, 50, (10, 10, 30, 25))
    pipe = ImageInpaintingPipeline(model=tiny_model, device="cpu")
    result = pipe({"image": photo, "mask": ~mask}, invert_mask=True, grow=2, strategy="resize")
    assert result["strategy"] == "resize"
    assert result["mask"].sum() > mask.sum()


def test_the_short_way_loads_once_and_warns(tiny_checkpoint, rng):
    photo, mask = scene(rng, 40, 50), box_mask(40, 50, (10, 10, 30, 25))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first = sgenet_hf.inpaint(photo, mask, model=tiny_checkpoint, device="cpu")
    assert first.size == photo.size
    with pytest.warns(UserWarning, match="empty"):
        sgenet_hf.inpaint(photo, np.zeros((40, 50), bool), model=tiny_checkpoint, device="cpu")
    from sgenet_hf.pipeline import _kept_inpainter

    assert _kept_inpainter(str(tiny_checkpoint), "cpu", None) is _kept_inpainter(str(tiny_checkpoint), "cpu", None)


def test_bfloat16_keeps_known_pixels(tiny_checkpoint, rng):
    photo, mask = scene(rng, 40, 50), box_mask(40, 50, (10, 10, 30, 25))
    half = Inpainter(tiny_checkpoint, device="cpu", dtype="bfloat16")
    assert Inpainter(SGENetModel.from_pretrained(tiny_checkpoint), dtype="bfloat16").model.dtype == torch.bfloat16
    assert half.model.dtype == torch.bfloat16
    assert_known_pixels_untouched(half(photo, mask), photo, mask)


# Checkpoints


def test_names_of_bundled_weights_are_folders_of_this_package(monkeypatch, tmp_path, tiny_checkpoint):
    assert set(sgenet_hf.BUNDLED) == {"street"}
    monkeypatch.setitem(sgenet_hf.BUNDLED, "street", tmp_path)
    with pytest.raises(CheckpointError, match="install"):
        load_model("street")
    monkeypatch.setitem(sgenet_hf.BUNDLED, "street", tiny_checkpoint)
    assert load_model("street", device="cpu").config.num_labels == 4


def test_a_folder_needs_no_slash(monkeypatch, tmp_path, tiny_checkpoint):
    shutil.copytree(tiny_checkpoint, tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert load_model("mine", device="cpu").config.num_labels == 4
    with pytest.raises(CheckpointError, match=r"of the name 'street2'.*\(street\)"):
        load_model("street2")


def damaged(tiny_checkpoint, tmp_path, damage):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    damage(folder)
    return folder


def truncate(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def rename_a_key(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["renamed"] = tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def replace_in_config(old, new):
    def damage(folder):
        config = folder / "config.json"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
        (replace_in_config('"sgenet"', '"resnet"'), "resnet"),
        (replace_in_config('"image_size": 256', '"image_size": "big"'), "image_size"),
        (lambda folder: (folder / "model.safetensors").unlink(), "weights are missing"),
        (truncate, "damaged"),
        (rename_a_key, "lacks 1 weights"),
        (replace_in_config('"reliability_channels": 8', '"reliability_channels": 5'), "does not fit"),
        (lambda folder: shutil.rmtree(folder), "There is no folder"),
    ],
    ids=[
        "no config",
        "config cut",
        "other model",
        "wrong type",
        "no weights",
        "cut",
        "other key",
        "shapes",
        "no folder",
    ],
)
def test_a_damaged_checkpoint_is_one_clear_error(tiny_checkpoint, tmp_path, damage, message):
    with pytest.raises(CheckpointError, match=message):
        load_model(damaged(tiny_checkpoint, tmp_path, damage), device="cpu")


def test_a_name_that_is_no_checkpoint_is_told_apart(monkeypatch, tmp_path, tiny_checkpoint):
    for folder in ("toy/final", "toy/final.partial", "street"):
        shutil.copytree(tiny_checkpoint, tmp_path / "runs" / folder)
    (tmp_path / "runs/toy/segmenter").mkdir()
    (tmp_path / "runs/toy/segmenter/config.json").write_text('{"model_type": "mobilenet_v2"}')
    monkeypatch.chdir(tmp_path)
    for name, message in (
        ("runs/toy/finall", r"There is no folder 'runs/toy/finall'.*OWNER/NAME.*\(street\)"),
        ("", r"has no config\.json, so it is no checkpoint: name one that save_pretrained wrote\.$"),
        ("runs/toy", r"'runs/toy' has no config\.json.* \(runs/toy/final\)\.$"),
        ("runs/toy/final/model.safetensors", "is a file: name the folder that holds it"),
        ("runs/tooy", "runs/tooy is no folder here, and the Hub gave no usable checkpoint"),  # this may be a Hub id
    ):
        with pytest.raises(CheckpointError, match=message):
            load_model(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/runs/toy/final", device="cpu").config.num_labels == 4
    truncate(tmp_path / "runs/street")
    monkeypatch.setitem(sgenet_hf.BUNDLED, "street", tmp_path / "runs/street")
    with pytest.raises(CheckpointError, match=r"^street is no usable checkpoint.* damaged"):
        load_model("street")


def test_a_checkpoint_without_processor_says_how_to_add_one(tiny_checkpoint, tmp_path):
    folder = damaged(tiny_checkpoint, tmp_path, lambda folder: (folder / "preprocessor_config.json").unlink())
    with pytest.raises(CheckpointError, match=r"SGENetImageProcessor\(\)\.save_pretrained"):
        Inpainter(folder, device="cpu")


def test_a_device_that_is_not_there_is_named(tiny_checkpoint):
    for device in ("nonsense", "cuda:77"):
        with pytest.raises(ValueError, match=f"Cannot use device '{device}'"):
            load_model(tiny_checkpoint, device=device)


def test_settings_of_the_processor_beside_the_weights_count(inpainter, rng):
    photo, mask = scene(rng, 64, 64), box_mask(64, 64, (10, 10, 30, 30))
    inverting = Inpainter(inpainter.model, processor=SGENetImageProcessor(invert_mask=True, mask_threshold=0.9))
    np.testing.assert_array_equal(inverting(photo, mask).mask, ~mask)
    np.testing.assert_array_equal(inverting(photo, mask, invert_mask=False).mask, mask)
    grey = np.where(mask, np.uint8(200), np.uint8(255))
    np.testing.assert_array_equal(inverting(photo, grey).mask, mask)


def test_inpaint_removes_by_name_without_a_mask(inpainter, rng):
    photo = scene(rng, 64, 80)
    name = inpainter.classes[int(inpainter.segment(photo).labels[30, 30])]
    expected = inpainter(photo, remove=[name]).image
    np.testing.assert_array_equal(inpaint(photo, remove=[name], model=inpainter.model), expected)


# Large photos


def test_twelve_megapixels_with_a_small_hole_stay_below_three_gigabytes(tmp_path):
    """The small preset's size in a process of its own, measured by the operating system."""
    code = """
import resource
import numpy as np
from sgenet_hf import Inpainter, SGENetConfig, SGENetModel

photo = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
mask = np.zeros((3000, 4000), bool)
mask[1000:1300, 2000:2400] = True
inpainter = Inpainter(SGENetModel(SGENetConfig.small(num_labels=11)), device="cpu")
result = inpainter(photo, mask)
assert result.strategy == "crop" and result.image.size == (4000, 3000)
assert (np.asarray(result.image)[~mask] == photo[~mask]).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kilobytes = int(done.stdout.split()[-1]) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 3 * 1024**2, f"{kilobytes / 1024**2:.2f} GiB"


@pytest.mark.parametrize("strategy", ["crop", "resize"])
def test_twelve_megapixels_come_back_with_their_known_pixels(inpainter, rng, strategy):
    photo = scene(rng, 3000, 4000)
    mask = box_mask(3000, 4000, (100, 100, 300, 200), (1500, 1500, 2600, 2300))
    assert_known_pixels_untouched(inpainter(photo, mask, strategy=strategy), photo, mask)


def test_the_expected_error_is_that_of_the_hole(rng):
    torch.manual_seed(0)
    config = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, error_estimation=True)
    inpainter = Inpainter(SGENetModel(config).eval())
    photo, mask = scene(rng, 70, 90), box_mask(70, 90, (20, 30, 50, 60))
    result = inpainter(photo, mask, strategy="original")
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        cells = inpainter.model(pixels, torch.from_numpy(mask)[None, None].float()).expected_error[0, 0].numpy()
    wanted = cells.repeat(4, 0).repeat(4, 1)[:70, :90][mask].mean() * 127.5
    assert result.expected_error == pytest.approx(float(wanted), rel=1e-4)
    assert [view.level for view in result.scales if view.expected_error is not None] == [2]
    assert inpainter(photo, np.zeros_like(mask)).expected_error is None


def test_under_a_prompt_no_error_is_expected(tiny_checkpoint, rng):
    inpainter = Inpainter(tiny_checkpoint, device="cpu")
    photo, mask = scene(rng, 70, 90), box_mask(70, 90, (20, 30, 50, 60))
    assert inpainter(photo, mask).expected_error is not None
    result = inpainter(photo, mask, semantic_prompt=np.full((70, 90), 2))
    assert result.expected_error is None and all(view.expected_error is None for view in result.scales)


def test_a_result_says_whether_it_was_redrawn(tiny_checkpoint, rng):
    inpainter = Inpainter(str(tiny_checkpoint))
    photo, mask = rng.integers(0, 256, (64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    drawn = inpainter(photo, mask)
    inpainter.model.config.redrawn_share = 1
    redrawn = inpainter(photo, mask)
    assert (drawn.redrawn, redrawn.redrawn) == (False, True)
    assert not np.array_equal(np.asarray(drawn.image), np.asarray(redrawn.image))
    prompt = np.where(mask > 0, 1, 255).astype(np.uint8)
    prompted = inpainter(photo, mask, semantic_prompt=prompt)
    assert not prompted.redrawn and repr(prompted.redrawn_share) == "0.0" and not prompted.warnings
    asked = inpainter(photo, mask, semantic_prompt=prompt, redrawn_share=1)
    assert not asked.redrawn and "redrawn_share changes nothing" in asked.warnings[0]
    prompt[:, :30] = 255
    half = inpainter(photo, mask, semantic_prompt=prompt, redrawn_share=0.5)
    assert half.redrawn and half.redrawn_share == 0.5 and not half.warnings
    assert not inpainter(photo, np.zeros_like(mask)).redrawn and not inpainter(photo, np.ones_like(mask)).redrawn
    assert not inpainter(photo, mask, redrawn_share=0).redrawn


def test_redrawn_share_says_how_much_of_a_fill_is_redrawn(tiny_checkpoint, rng):
    photo, mask = scene(rng, 70, 90), box_mask(70, 90, (20, 30, 50, 60))
    inpainter = Inpainter(tiny_checkpoint, device="cpu")
    jobs = [inpainter.prepare(photo, mask, redrawn_share=share) for share in (None, 0, 0.5, 1)]
    together = [inpainter.finish(job, fills) for job, fills in zip(jobs, inpainter.fill(jobs), strict=True)]
    plain, none, half, full = (np.asarray(result.image).astype(int) for result in together)
    assert np.array_equal(plain, none) and abs((none + full) / 2 - half)[mask].max() <= 1
    assert (full != none)[mask].mean() > 0.5 and not (full != none)[~mask].any()
    assert [result.redrawn for result in together] == [False, False, True, True]
    alone = np.asarray(sgenet_hf.inpaint(photo, mask, tiny_checkpoint, device="cpu", redrawn_share=1)).astype(int)
    assert abs(alone - full).mean() < 1
    for wrong in (-1, 1.5, float("nan"), "0.5"):
        with pytest.raises(ValueError, match="`redrawn_share` must be a number from 0 to 1, got"):
            inpainter(photo, mask, redrawn_share=wrong)
    with pytest.raises(ValueError, match="leave out redrawn_share"):
        Inpainter(SPGNetModel(SPGNetConfig(width=4, num_blocks=1, num_labels=4)))(photo, mask, redrawn_share=1)


def test_guidance_scale_says_how_far_a_prompt_pulls(tiny_checkpoint, rng):
    photo, mask = scene(rng, 70, 90), box_mask(70, 90, (20, 30, 50, 60))
    prompt = np.full((70, 90), 2)
    inpainter, scales = Inpainter(tiny_checkpoint, device="cpu"), (0, None, 4)
    weak, trained, far = (
        np.asarray(inpainter(photo, mask, semantic_prompt=prompt, guidance_scale=scale).image) for scale in scales
    )
    assert (weak != trained)[mask].any() and (trained != far)[mask].any() and not (weak != far)[~mask].any()
    jobs = [inpainter.prepare(photo, mask, semantic_prompt=prompt, guidance_scale=scale) for scale in scales]
    for job, fills, alone in zip(jobs, inpainter.fill(jobs), (weak, trained, far), strict=True):
        together = np.asarray(inpainter.finish(job, fills).image)
        assert inpainter.finish(job, fills).guidance_scale == job.guidance_scale
        assert abs(together.astype(int) - alone).max() <= 1, "each photo has its own scale"
    for wrong in (-3, 4.5, float("nan"), "2"):
        with pytest.raises(ValueError, match="number from 0 to 4, got"):
            inpainter(photo, mask, semantic_prompt=prompt, guidance_scale=wrong)
    base = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, semantic_guidance=False, confidence_evaluation=False)
    for unguided in (SGENetModel(base), SPGNetModel(SPGNetConfig(width=4, num_blocks=1, num_labels=4))):
        with pytest.raises(ValueError, match="leave out guidance_scale"):
            Inpainter(unguided)(photo, mask, guidance_scale=2)


def test_noise_strength_says_how_much_texture_a_fill_shows(tiny_checkpoint, rng):
    photo, mask = scene(rng, 70, 90), box_mask(70, 90, (20, 30, 50, 60))
    full, none = (
        np.asarray(sgenet_hf.inpaint(photo, mask, tiny_checkpoint, device="cpu", noise_strength=strength)).astype(int)
        for strength in (None, 0)
    )
    assert (full != none)[mask].any() and not (full != none)[~mask].any()
    inpainter = Inpainter(tiny_checkpoint, device="cpu")
    jobs = [inpainter.prepare(photo, mask, noise_strength=strength) for strength in (0, None, 0.5)]
    together = [inpainter.finish(job, fills) for job, fills in zip(jobs, inpainter.fill(jobs), strict=True)]
    for result, alone in zip(together, (none, full), strict=False):
        assert abs(np.asarray(result.image).astype(int) - alone).max() <= 1, "each photo has its own strength"
    assert (np.asarray(together[2].image) != none)[mask].any()
    assert [result.noise_strength for result in together] == [0, inpainter.model.config.noise_strength, 0.5]
    for wrong in (-3, 2.5, float("nan"), float("inf"), "0.5"):
        with pytest.raises(ValueError, match="number from 0 to 2, got"):
            inpainter(photo, mask, noise_strength=wrong)
    plain = Inpainter(SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4)))
    assert plain(photo, mask).noise_strength is None
    with pytest.raises(ValueError, match="leave out noise_strength"):
        plain(photo, mask, noise_strength=0.5)
