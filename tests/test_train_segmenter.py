"""A tiny segmenter learns toy scenes, and its folder is one that every `--segmenter` takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_network import save_tiny_feature_network
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from eval.train_segmenter import load_backbone, main, prepare_for_training, rate_factor
from sgenet_hf.data import DATASETS, InpaintingDataset, load_inpainting_dataset
from sgenet_hf.segmenters import Segmenter, enlarged_logits


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    return save_tiny_feature_network(tmp_path_factory.mktemp("backbone"))


def command(backbone: Path, out: Path, *more: str, data: str = "toy:40") -> list[str]:
    """A run of seconds; the random backbone's batch statistics fit nothing, so it must learn them."""
    words = ["--backbone", str(backbone), "--data", data, "--out", str(out), "--crop-size", "64", "--cpu"]
    return [*words, "--train-norm", "--learning-rate", "3e-3", *more]


@pytest.fixture(scope="module")
def trained(backbone, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "segmenter"
    crops = ["--crop-size", "96", "--scales", "0.6", "1", "--photometric", "0"]
    assert main(command(backbone, out, "--samples", "640", *crops)) == 0
    return out


def test_the_loss_falls_and_the_record_says_how(trained):
    record = json.loads((trained / "training.json").read_text())
    losses = [loss for _, loss in record["loss"]]
    assert record["loss"][-1][0] == 640
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    assert record["provenance"]["command"][:3] == ["python", "-m", "eval.train_segmenter"]
    assert {"commit", "libraries", "code_sha256"} <= set(record["provenance"])
    assert record["data"]["train"]["n"] == 40 and record["data"]["validation"]["n"] == 8
    assert record["data"]["train"]["crops_sha256"] != record["data"]["validation"]["crops_sha256"]
    scores = record["validation"]
    assert list(scores["class_iou"]) == list(DATASETS["toy"].classes)
    assert 0.15 < scores["mean_iou"] < 1 and scores["pixel_accuracy"] > 0.5
    assert not list(trained.parent.glob("*.partial"))


def test_the_folder_labels_scenes_that_it_never_saw(trained):
    segmenter, spec = Segmenter(trained), DATASETS["toy"]
    assert segmenter.classes == spec.id2label
    assert segmenter.ids_among(spec.classes) == list(range(spec.num_labels))
    rows = load_inpainting_dataset("toy:40", "report")
    scenes = InpaintingDataset(rows, size=256, num_labels=spec.num_labels, train=False)
    labels = torch.stack([scene["labels"] for scene in scenes])
    found = segmenter(torch.stack([scene["pixel_values"] for scene in scenes]))
    for name in ("sky", "road"):
        there, said = labels == spec.classes.index(name), found == spec.classes.index(name)
        # By chance, or by one answer for everything, both shares would be the same.
        assert said[there].float().mean() > said[~there].float().mean() + 0.4, name


def test_transformers_load_the_folder(trained):
    model = AutoModelForSemanticSegmentation.from_pretrained(trained)
    assert model.config.output_stride == 16 and model.config.num_labels == DATASETS["toy"].num_labels
    processor = AutoImageProcessor.from_pretrained(trained)
    pixels = processor(np.zeros((256, 384, 3), np.uint8), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 256, 384)  # nothing of the photo is cropped away
    assert torch.allclose(pixels, torch.tensor(-2.0))  # (0 - 0.5) / 0.25, as the backbone's processor says


def test_the_same_seed_gives_the_same_weights(backbone, tmp_path):
    weights = []
    for number, seed in enumerate("001"):
        main(command(backbone, tmp_path / str(number), "--samples", "16", "--seed", seed, data="toy:8"))
        weights.append(load_file(tmp_path / str(number) / "model.safetensors"))
    first, again, other = weights
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_two_processes_train_one_network(backbone, tmp_path, project_root):
    out = tmp_path / "two"
    words = command(backbone, out, "--samples", "32", "--batch-size", "4", data="toy:16")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eval.train_segmenter"]
    result = subprocess.run(
        [sys.executable, *start, *words],
        cwd=project_root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    record = json.loads((out / "training.json").read_text())
    assert record["provenance"]["hardware"]["processes"] == 2
    assert [seen for seen, _ in record["loss"]] == [8, 16, 24, 32]
    Segmenter(out)


def test_a_frozen_norm_stays_and_an_idle_layer_has_no_gradient(backbone):
    model, mean, std = load_backbone(str(backbone), DATASETS["toy"], 16)
    prepare_for_training(model, freeze_norm=True)
    before = {name: value.clone() for name, value in model.named_buffers() if "running_mean" in name}
    enlarged_logits(model, torch.rand(2, 3, 64, 64), mean, std).sum().backward()
    for name, value in model.named_buffers():
        if "running_mean" in name:
            assert torch.equal(value, before[name]) == name.startswith("mobilenet_v2."), name
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert wanted == {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_running_statistics_remember_more_than_a_batch(backbone):
    """With the momentum that transformers sets, one odd batch would be all that the trained network knows."""
    model, mean, std = load_backbone(str(backbone), DATASETS["toy"], 16)
    prepare_for_training(model, freeze_norm=False)
    norm = model.segmentation_head.conv_projection.normalization
    enlarged_logits(model, torch.rand(2, 3, 64, 64), mean, std)
    assert norm.running_var.mean() > 0.9


def test_rates_rise_and_fall():
    factors = [rate_factor(step, 100, 10, 0.9) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == pytest.approx(0.91**0.9) and factors[100] == 0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert rate_factor(50, 100, 10, 1.0) == pytest.approx(0.5)


def test_bad_input_is_refused(backbone, tmp_path, photo):
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match=r"^eval\.train_segmenter: .*no MobileNetV2"):
        main(command(tmp_path, out))
    with pytest.raises(SystemExit, match="splits train, dev, report, not 'test'"):
        main(command(backbone, out, "--validation-split", "test"))
    with pytest.raises(SystemExit, match=r"do not fill one batch of 8: lower --batch-size"):
        main(command(backbone, out, data="toy:4"))
    with pytest.raises(SystemExit):
        main(command(backbone, out, "--batch-size", "1"))
    photos = tmp_path / "photos"
    photos.mkdir()
    photo.save(photos / "one.png")
    (tmp_path / "classes.txt").write_text("sky 1 2 3\nroad 4 5 6\n")
    with pytest.raises(SystemExit, match="has no labels in 'train'"):
        main(command(backbone, out, data=f"folders:{photos}"))
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(SystemExit, match="is not empty"):
        main(command(backbone, out))
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
