"""Toy scenes: exact labels, seeds, variety."""

import subprocess
import sys
import zlib

import numpy as np
import pytest

from sgenet_hf import toy
from sgenet_hf.toy import CAR, FACADE, HILL, ROAD, SKY, TOY_CLASSES, TREE, WINDOW, draw_scene


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(seed) for seed in range(12)]


def test_scenes_are_uint8_of_the_asked_size():
    for height, width in ((256, 256), (96, 160), (17, 40)):
        picture, labels = draw_scene(5, height, width)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert labels.shape == (height, width)
        assert labels.dtype == np.uint8
        assert labels.max() < len(TOY_CLASSES)


def test_a_seed_is_a_scene_in_every_process():
    code = (
        f"import runpy, zlib; draw = runpy.run_path({toy.__file__!r}, run_name='toy')['draw_scene']\n"
        "print(*(zlib.crc32(part.tobytes()) for part in draw(11)))"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    picture, labels = draw_scene(11)
    assert outcome.stdout.split() == [str(zlib.crc32(picture.tobytes())), str(zlib.crc32(labels.tobytes()))]


def test_seeds_differ(scenes):
    assert len({zlib.crc32(picture.tobytes()) for picture, _ in scenes}) == len(scenes)


def test_every_class_is_there_and_none_fills_everything(scenes):
    counts = np.mean([np.bincount(labels.ravel(), minlength=len(TOY_CLASSES)) for _, labels in scenes], axis=0)
    shares = counts / counts.sum()
    assert shares.min() > 0.005
    assert shares.max() < 0.5


def test_the_layout_is_a_street(scenes):
    for _, labels in scenes:
        rows = {label: np.nonzero(labels == label)[0] for label in range(len(TOY_CLASSES))}
        assert rows[SKY].mean() < rows[ROAD].mean()
        assert rows[WINDOW].mean() < rows[ROAD].mean()
        assert (labels[-1] == ROAD).any()
        assert not (labels[-1] == SKY).any()
        assert not (labels[0] == ROAD).any()


def test_labels_lie_where_the_colours_change(scenes):
    """Colours step at the borders of classes: labels shifted by a few pixels fit worse."""

    def step(picture, labels):
        border = labels[:, 1:] != labels[:, :-1]
        return np.abs(np.diff(picture.astype(float), axis=1)).sum(axis=-1)[border].mean()

    for shift in (-3, 3):
        exact = np.mean([step(picture, labels) for picture, labels in scenes])
        shifted = np.mean([step(picture, np.roll(labels, shift, axis=1)) for picture, labels in scenes])
        assert exact > 1.5 * shifted


def test_classes_can_be_told_apart_by_colour(scenes):
    means = {
        label: np.mean(
            [picture[labels == label].mean(axis=0) for picture, labels in scenes if (labels == label).any()], axis=0
        )
        for label in (SKY, HILL, FACADE, ROAD, TREE, CAR)
    }
    assert means[SKY][2] > means[SKY][0]
    assert means[TREE][1] > max(means[TREE][0], means[TREE][2])
    assert means[HILL][1] > means[HILL][2]
    assert means[FACADE][0] > means[FACADE][2]
    assert np.ptp(means[ROAD]) < 30


def test_tiny_scenes_are_refused():
    with pytest.raises(ValueError, match="at least 16"):
        draw_scene(0, 8, 64)
