"""What the page says about a result: shares, confidences, changes of mind, and HTML that holds them."""

import re

import numpy as np
import pytest
from PIL import Image

from sgenet_hf import Inpainter, InpaintingResult
from sgenet_hf.page import facts_of
from sgenet_hf.pipeline import ScaleView
from sgenet_hf.regions import whole_box
from sgenet_hf.thoughts import changed_since, classes_in_hole, describe, share_changed, show_thoughts
from sgenet_hf.visualization import class_palette


@pytest.fixture
def result() -> InpaintingResult:
    """A hole of 2 x 4 pixels in 4 x 4 whose upper half changes from class 0 to 1 at the finest scale."""
    mask = np.zeros((4, 4), bool)
    mask[:, 1:3] = True
    coarse, fine = np.zeros((2, 2), np.int64), np.zeros((4, 4), np.int64)
    fine[:2] = 1
    scales = [
        ScaleView(1, Image.new("RGB", (2, 2)), coarse, np.full((2, 2), 0.5, np.float32), None),
        ScaleView(0, Image.new("RGB", (4, 4)), fine, np.where(fine == 1, 0.6, 0.9).astype(np.float32), None),
    ]
    return InpaintingResult(
        Image.new("RGB", (4, 4)), mask, "original", 0.75, scales, whole_box(mask), [], {0: "road", 1: "<b>car"}
    )


def test_classes_with_share_and_confidence(result):
    found = {item.name: item for item in classes_in_hole(result)}
    assert found["road"].share == found["<b>car"].share == 0.5
    assert found["road"].confidence == pytest.approx(0.9) and found["<b>car"].confidence == pytest.approx(0.6)


def test_the_page_says_where_scale_0_is_not_the_networks_own_drawing(result):
    palette = class_palette(2)
    assert "redrawn" not in show_thoughts(result, palette) and not facts_of(result)["redrawn_share"]
    assert "Redrawn" not in describe(result, 0)
    result.redrawn_share = 1.0
    assert "Redrawn with the photo's own patches." in describe(result, 0)
    assert "At scale 0 the hole is redrawn with patches of the photo." in show_thoughts(result, palette)
    assert facts_of(result)["redrawn_share"] == 1.0


def test_what_changed_its_mind(result):
    assert np.array_equal(changed_since(*result.scales), result.scales[1].labels == 1)
    assert share_changed(result) == 0.5
    assert "4 px (50% of the hole) since scale 1" in show_thoughts(result, class_palette(2))


def test_the_sentence_sums_up_and_names_are_escaped(result):
    said = describe(result, 0)
    assert "<strong>fairly sure</strong>" in said and "75% confidence" in said and "about 50% of it" in said
    assert "street photos only" in said
    assert "<b>" not in said and "&lt;b&gt;car" in said
    assert "<b>" not in show_thoughts(result, class_palette(2))


def test_what_was_prescribed_is_no_change_of_mind(result):
    result.prompted = True
    assert "Where you painted" in describe(result, 0) and "changed its mind" not in describe(result, 0)
    assert "Changed its mind" not in show_thoughts(result, class_palette(2))
    assert facts_of(result)["changed"] is None


def test_the_amount_of_texture_is_said_where_there_is_a_choice(result):
    assert "Texture" not in describe(result, 0)
    result.noise_strength = 0.5
    assert "Texture: 0.5." in describe(result, 0)


def test_how_far_a_prompt_pulled_is_said_where_one_spoke(tiny_model, photo, mask):
    inpainter = Inpainter(tiny_model)
    free, asked = np.full((80, 96), 255), np.where(np.asarray(mask) > 0, 2, 255)
    for prompt, said in ((None, False), (free, False), (asked, True)):
        result = inpainter(photo, mask, semantic_prompt=prompt, guidance_scale=3)
        assert ("The prompt pulled at 3." in describe(result, 0)) == said == (result.guidance_scale is not None)


def test_the_expected_error_is_said_and_drawn(result):
    assert "miss the truth" not in describe(result, 0) and "Expected error" not in show_thoughts(
        result, class_palette(2)
    )
    result.expected_error = 21.4
    result.scales[0].expected_error = np.full((2, 2), 21.4, np.float32)
    assert "miss the truth by 21 of 255" in describe(result, 0)
    assert "bright is 0, dark 64 of 255 or more" in show_thoughts(result, class_palette(2))


def test_what_was_pasted_is_drawn(result):
    assert "Pasted" not in show_thoughts(result, class_palette(2))
    result.scales[0].pasted = result.scales[0].image
    assert "from the known part" in show_thoughts(result, class_palette(2))


def test_nothing_filled_means_nothing_thought(tiny_model, photo):
    result = Inpainter(tiny_model)(photo, np.zeros((80, 96), bool))
    assert classes_in_hole(result) == [] and show_thoughts(result, class_palette(4)) == ""
    assert "0 of 96 x 80 pixels" in describe(result, 0) and "Confidence" not in describe(result, 0)


def test_odd_sizes_and_all_five_scales(tiny_model, photo, mask):
    size = (93, 71)
    result = Inpainter(tiny_model)(photo.resize(size), mask.resize(size, Image.Resampling.NEAREST))
    page = show_thoughts(result, class_palette(4))
    assert re.findall(r'data-scale="(\d)"', page) == ["4", "3", "2", "1", "0"]
    assert page.count('data-view="Changed its mind"') == 4
    assert sum(item.share for item in classes_in_hole(result)) == pytest.approx(1)
