"""Drawings: colours mean what the captions say, and nothing is lost or moved in a grid."""

import numpy as np
import pytest
from PIL import Image

from sgenet_hf import visualization as vis


def luminance(colours):
    return np.asarray(colours, dtype=float) @ [0.299, 0.587, 0.114]


@pytest.mark.parametrize("num_labels", [1, 7, 11, 20, 150])
def test_generated_colours_can_be_told_apart(num_labels):
    palette = vis.class_palette(num_labels)
    assert palette.shape == (num_labels, 3) and palette.dtype == np.uint8
    assert len(np.unique(palette, axis=0)) == num_labels
    if 1 < num_labels <= 20:
        distances = np.abs(palette[:, None].astype(int) - palette[None]).sum(-1) + 1000 * np.eye(num_labels)
        assert distances.min() > 25


def test_given_colours_are_used_and_counted():
    assert vis.class_palette(2, [[1, 2, 3], [4, 5, 6]]).tolist() == [[1, 2, 3], [4, 5, 6]]
    with pytest.raises(ValueError, match="1 colours for 2 classes"):
        vis.class_palette(2, [[1, 2, 3]])


def test_labels_take_their_colour_and_void_is_black():
    palette = np.array([[10, 20, 30], [200, 100, 50]], dtype=np.uint8)
    drawn = vis.colour_labels(np.array([[0, 1], [255, -1]]), palette)
    assert drawn.tolist() == [[[10, 20, 30], [200, 100, 50]], [[0, 0, 0], [0, 0, 0]]]
    assert drawn.dtype == np.uint8


def test_uint8_labels_work_with_large_palettes():
    palette = vis.class_palette(200)
    labels = np.array([[199, 200]], dtype=np.uint8)
    assert vis.colour_labels(labels, palette).tolist() == [[palette[199].tolist(), [0, 0, 0]]]


def test_heat_map_brightens_with_confidence_all_the_way():
    brightness = luminance(vis.confidence_heat_map(np.linspace(0, 1, 101)[None]))[0]
    assert (np.diff(brightness) > 0).all()


def test_heat_map_takes_values_outside_the_range_as_the_nearer_end():
    drawn = vis.confidence_heat_map(np.array([[-3.0, 0.0, 1.0, 9.0]], dtype=np.float32))[0].tolist()
    assert drawn[0] == drawn[1] != drawn[2] == drawn[3]


def test_unreliable_is_white():
    assert vis.draw_reliability(np.array([[1.0, 0.0]])).tolist() == [[0, 255]]
    assert vis.draw_reliability(np.array([[True, False]])).tolist() == [[0, 255]]


def test_outline_is_the_rim_of_the_hole_only():
    mask = np.zeros((7, 7), dtype=bool)
    mask[1:6, 1:6] = True
    expected = mask.copy()
    expected[2:5, 2:5] = False
    assert np.array_equal(vis.hole_outline(mask), expected)
    assert not vis.hole_outline(np.ones((4, 4), dtype=bool)).any()


def test_tint_changes_the_hole_alone():
    photo = np.full((4, 6, 3), 100, dtype=np.uint8)
    mask = np.zeros((4, 6), dtype=bool)
    mask[1, 2] = True
    drawn = np.asarray(vis.tint_hole(photo, mask, colour=(200, 0, 0), opacity=0.5))
    assert drawn[1, 2].tolist() == [150, 50, 50]
    assert (drawn[~mask] == 100).all()
    with pytest.raises(ValueError, match="must agree"):
        vis.tint_hole(photo, mask[:2])


def test_legend_shows_each_colour_and_wraps():
    palette = vis.class_palette(11)
    names = {index: f"class number {index}" for index in range(11)}
    narrow, wide = vis.legend(names, palette, width=200), vis.legend(names, palette, width=2000)
    assert narrow.width == 200 and narrow.height > wide.height
    for picture in (narrow, wide):
        seen = {colour for _, colour in picture.getcolors(maxcolors=1 << 20)}
        assert {tuple(int(part) for part in colour) for colour in palette} <= seen


def test_confidence_bar_runs_from_doubt_to_certainty():
    row = np.asarray(vis.confidence_bar(width=300))[vis.MARGIN + 3, vis.MARGIN : -vis.MARGIN]
    assert row[0].tolist() == list(vis.HEAT_COLOURS[0]) and row[-1].tolist() == list(vis.HEAT_COLOURS[-1])


def test_panel_keeps_order_and_enlarges_without_blur():
    red, blue = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    drawn = np.asarray(vis.panel([[red, None], [None, blue]], cell=32)).astype(int)
    reds = np.argwhere((drawn == [255, 0, 0]).all(-1))
    blues = np.argwhere((drawn == [0, 0, 255]).all(-1))
    assert len(reds) == len(blues) == 32 * 32
    assert (reds.max(0) < blues.min(0)).all()


def test_panel_draws_captions_without_covering_pictures():
    black = Image.new("L", (8, 8))
    plain = np.asarray(vis.panel([[black, black]], cell=64))
    captioned = np.asarray(vis.panel([[black, black]], ["Image", "Mask"], ["scale 4"], cell=64))
    assert captioned.shape[0] > plain.shape[0] and captioned.shape[1] > plain.shape[1]
    assert ((captioned == 0).all(-1)).sum() == ((plain == 0).all(-1)).sum() == 2 * 64 * 64


def test_panel_takes_wide_pictures_and_masks():
    drawn = np.asarray(vis.panel([[np.ones((4, 16), dtype=bool)], [Image.new("RGBA", (40, 10))]], cell=32))
    assert drawn.shape == (2 * (8 + vis.MARGIN) + vis.MARGIN, 32 + 2 * vis.MARGIN, 3)


@pytest.mark.parametrize(
    ("rows", "captions", "row_captions"),
    [([], [], []), ([[]], [], []), ([[None]], ["a", "b"], []), ([[None]], [], ["a", "b"])],
)
def test_panel_refuses_what_does_not_fit(rows, captions, row_captions):
    with pytest.raises(ValueError, match=r"panel needs|give one each"):
        vis.panel(rows, captions, row_captions)


def test_float_pictures_are_refused():
    with pytest.raises(TypeError, match="uint8 or bool"):
        vis.as_image(np.zeros((2, 2)))
