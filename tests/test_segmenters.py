"""Segmenters of other people: found by name, as labels for training and as the finder of what is to be removed."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from feature_network import save_tiny_feature_network
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

from sgenet_hf import Inpainter, SGENetConfig, SGENetModel
from sgenet_hf.data import DATASETS
from sgenet_hf.masks import grow_mask
from sgenet_hf.segmenters import Segmenter
from sgenet_hf.trainer import Trainer, load_labeller
from sgenet_hf.training_arguments import parse_arguments


NAMES = ("unicorn", "Car", "sky")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A segmenter that tells dark (unicorn) from bright (Car) and never sees sky."""
    folder = tmp_path_factory.mktemp("segmenter")
    names = dict(enumerate(NAMES))
    torch.manual_seed(0)
    model = MobileNetV2ForSemanticSegmentation(
        MobileNetV2Config(depth_multiplier=0.1, finegrained_output=False, id2label=names)
    )
    model.save_pretrained(folder)
    MobileNetV2ImageProcessor(image_mean=[0.5] * 3, image_std=[0.25] * 3).save_pretrained(folder)
    return folder


@pytest.fixture
def segmenter(folder) -> Segmenter:
    """Its network is exchanged for one whose answer is known; everything else is real."""
    segmenter = Segmenter(folder)

    class Brightness(torch.nn.Module):
        def forward(self, pixels):
            logits = torch.cat([-pixels[:, :1], pixels[:, :1], torch.full_like(pixels[:, :1], -9)], dim=1)
            return type("Output", (), {"logits": logits[:, :, ::4, ::4]})

    segmenter.model = Brightness()
    return segmenter


def test_a_segmenter_saved_in_half_precision_answers_too(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "half")
    MobileNetV2ForSemanticSegmentation.from_pretrained(folder, dtype=torch.float16).save_pretrained(tmp_path / "half")
    assert Segmenter(tmp_path / "half")(torch.rand(1, 3, 64, 64)).shape == (1, 64, 64)


def test_a_saved_segmenter_gives_its_own_classes(folder):
    segmenter = Segmenter(folder)
    assert segmenter.classes == dict(enumerate(NAMES))
    photos = torch.rand(2, 3, 64, 96) * 2 - 1
    labels = segmenter(photos)
    assert labels.shape == (2, 64, 96) and labels.dtype == torch.int64
    with torch.no_grad():  # the processor's normalisation, written out
        logits = segmenter.model((photos / 2 + 0.5 - 0.5) / 0.25).logits
    centre = labels[:, 32, 48]
    upright = torch.nn.functional.interpolate(logits, size=(64, 96), mode="bilinear").argmax(dim=1)
    assert torch.equal(centre, upright[:, 32, 48])


def test_what_is_no_segmenter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no segmenter"):
        Segmenter(tmp_path)


def test_a_backbone_without_its_head_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not trained for segmentation"):
        Segmenter(save_tiny_feature_network(tmp_path))


def test_machine_labels_are_matched_by_name(folder):
    spec = DATASETS["camvid"]
    label = load_labeller(str(folder), spec, torch.device("cpu"))
    assert set(label(torch.rand(1, 3, 64, 64)).unique().tolist()) <= {255, 0, spec.classes.index("car")}
    roads = dataclasses.replace(spec, classes=("road",), colors=spec.colors[:1])
    with pytest.raises(ValueError, match="knows none of the classes road; its own: unicorn, Car, sky"):
        load_labeller(str(folder), roads, torch.device("cpu"))


def test_machine_labels_fill_gaps_or_replace_all(folder, tmp_path):
    options = ["--dataset", "toy:24", "--crop_size", "64", "--widths", *"48888", "--cpu", "true"]
    options += ["--output_dir", str(tmp_path / "run"), "--label_model", str(folder)]
    batch = {
        "pixel_values": torch.rand(2, 3, 64, 64),
        "labels": torch.full((2, 64, 64), 3),
        "has_labels": torch.tensor([1.0, 0.0]),
        "semantic_prompt": torch.full((2, 64, 64), -1),
    }
    said = load_labeller(str(folder), DATASETS["toy"], torch.device("cpu"))(batch["pixel_values"])
    assert (said != 3).any()
    for extra, changed in (
        ([], [False, True]),
        (["--machine_labels_only", "true", "--prompt_share", "0"], [True, True]),
    ):
        prepared = Trainer(parse_arguments(options + extra), Accelerator(cpu=True)).prepare(batch)
        assert prepared["has_labels"].tolist() == [1, 1]
        for found, machine, human, is_machine in zip(prepared["labels"], said, batch["labels"], changed, strict=True):
            assert torch.equal(found, machine if is_machine else human)
    with pytest.raises(ValueError, match="needs label_model"):
        parse_arguments([*options[:-2], "--machine_labels_only", "true"])
    with pytest.raises(ValueError, match="drawn from human labels: with machine_labels_only give prompt_share 0"):
        parse_arguments([*options, "--machine_labels_only", "true"])


def test_removal_by_name_asks_the_segmenter(segmenter):
    network = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4))
    inpainter = Inpainter(network, segmenter=segmenter)
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[8:24, 12:40] = 250
    found = inpainter.mask_of(photo, ["car"], grow=0)
    assert found[12:20, 16:36].all() and not found[28:].any()
    np.testing.assert_array_equal(inpainter(photo, remove=["car"]).mask, grow_mask(found, 2))
    with pytest.raises(ValueError, match=r"The segmenter does not know LABEL_0.*unicorn, Car, sky"):
        inpainter.mask_of(photo, ["LABEL_0"])
