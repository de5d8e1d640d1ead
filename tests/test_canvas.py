"""Paint to masks and maps of classes and back, at the preview's size and at the photo's."""

import numpy as np
import pytest
from PIL import Image

from sgenet_hf import canvas
from sgenet_hf.photos import load_mask, load_photo
from sgenet_hf.visualization import class_palette


PALETTE = class_palette(4, [(255, 0, 0), (0, 160, 0), (0, 0, 255), (90, 90, 90)])


def test_a_small_photo_is_painted_on_at_its_own_size_and_a_big_one_at_a_preview(photo):
    assert canvas.preview_size(load_photo(photo)) == photo.size
    big = load_photo(Image.new("RGB", (4000, 30)))
    assert canvas.preview_size(big) == canvas.preview(big).size == (1280, 10)


def test_painted_classes_come_back(rng):
    photo = load_photo(Image.new("RGB", (60, 40)))
    labels = rng.integers(-1, 4, (40, 60))
    assert np.array_equal(canvas.painted_labels([canvas.paint_labels(labels, PALETTE)], photo, PALETTE), labels)


def test_mixed_and_faint_colours_mean_no_class():
    photo = load_photo(Image.new("RGB", (3, 1)))
    layer = np.array([[[128, 80, 0, 255], [255, 0, 0, 90], [250, 4, 0, 255]]], np.uint8)
    assert canvas.painted_labels([layer], photo, PALETTE).tolist() == [[-1, -1, 0]]
    with pytest.raises(ValueError, match="No class is painted"):
        canvas.painted_labels([layer[:, :2].repeat(2, axis=1)[:, :3]], photo, PALETTE)


def test_a_map_painted_on_a_preview_grows_to_the_photo():
    photo = load_photo(Image.new("RGB", (2560, 20)))
    layer = np.zeros((10, 1280, 4), np.uint8)
    layer[:, :640] = (0, 0, 255, 255)
    labels = canvas.painted_labels([layer], photo, PALETTE)
    assert labels.shape == (20, 2560) and (labels[:, :1280] == 2).all() and (labels[:, 1280:] == -1).all()


def test_an_exact_mask_counts_until_somebody_paints_on_it():
    photo = load_photo(Image.new("RGB", (2560, 2000)))
    mask = np.zeros((2000, 2560), bool)
    mask[1:4, 1:4] = True
    shown = canvas.shrink_mask(mask, canvas.preview_size(photo))
    exact = canvas.mask_png(mask)
    assert np.array_equal(load_mask(exact), mask)
    assert np.array_equal(canvas.full_size_hole(shown, photo, exact), mask)
    shown[500, 500] = True
    painted = canvas.full_size_hole(shown, photo, exact)
    assert painted[1000:1002, 1000:1002].all() and painted[:4, :4].all()


def test_paint_of_another_photo_is_refused(photo):
    with pytest.raises(ValueError, match="does not belong to this photo"):
        canvas.painted_hole([np.zeros((5, 5, 4), np.uint8)], load_photo(photo))


@pytest.mark.parametrize(
    ("name", "expected"), [("a.jpg", "JPEG"), ("a.webp", "WEBP"), ("a.bmp", "BMP"), ("a.png", None)]
)
def test_the_own_format_of_a_photo(photo, tmp_path, name, expected):
    photo.save(tmp_path / name)
    written = canvas.save_in_own_format(load_photo(tmp_path / name), photo, f"{tmp_path}/filled")
    assert (Image.open(written).format if written else None) == expected
