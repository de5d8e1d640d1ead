"""The prompt test on a network that obeys half of its prompts, read by a judge that knows; and the whole command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

from eval import prompts
from eval.evaluation_set import Sample
from sgenet_hf import SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


def obedient_in_the_upper_half(model, sample: Sample, prompt: np.ndarray | None) -> np.ndarray:
    """Paints the class as a shade of grey; below the middle, and without a prompt, it always paints class 1."""
    painted = np.full(sample.labels.shape, 1)
    if prompt is not None:
        half = len(painted) // 2
        painted[:half] = np.where(prompt[:half] >= 0, prompt[:half], 1)
    filled = np.where(sample.mask, painted, sample.labels)
    return np.repeat((10 * filled).astype(np.uint8)[..., None], 3, axis=2)


def shade(photo: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    return photo[..., 0] // 10


def sample(group: str) -> Sample:
    """Left half class 0, right half class 2, one column of void; a hole of four rows in eight."""
    labels = np.zeros((8, 8), np.int64)
    labels[:, 4:] = 2
    labels[:, 7] = 255
    mask = np.zeros((8, 8), bool)
    mask[2:6] = True
    photo = np.repeat((10 * np.where(labels == 255, 0, labels)).astype(np.uint8)[..., None], 3, axis=2)
    return Sample(id=group, group=group, photo=photo, labels=labels, mask=mask)


def test_only_pixels_of_another_true_class_count(monkeypatch):
    monkeypatch.setattr(prompts, "fill", obedient_in_the_upper_half)
    row, pictures = prompts.ask(None, sample("a/1"), shade, None, [0, 1, 2])
    # Of 4 rows, columns 4 to 6 are class 2 and count for class 0; columns 0 to 3 count for class 2; all for class 1.
    assert row["pixels"] == [12, 28, 16]
    assert row["as_asked"] == [6, 28, 8], "the lower half of the hole stays class 1"
    assert row["anyway"] == [0, 28, 0]
    assert (row["known"], row["true_told"], row["true_free"], row["true_photo"]) == (28, 14, 0, 28)
    assert len(pictures) == 3 + 3 + 1

    facts = prompts.shares([row] * 2, ["x", "y", "z"], resamples=0, seed=0)
    assert facts["asked"]["x"]["as_asked"] == {"value": 0.5, "interval": None}
    assert facts["asked"]["all"]["as_asked"]["value"] == pytest.approx(42 / 56)
    assert facts["truth"]["true_told"]["value"] == 0.5


def test_a_pasted_window_is_read_beside_the_prompt(monkeypatch):
    monkeypatch.setattr(prompts, "fill", obedient_in_the_upper_half)
    window = np.full((10, 10, 3), 20, np.uint8)
    one = sample("a/1")
    pasted = prompts.paste(one, window)
    assert (pasted[one.mask] == 20).all() and np.array_equal(pasted[~one.mask], one.photo[~one.mask])
    row, _ = prompts.ask(None, one, shade, None, [0, 2], {2: window})
    assert row["pasted"] == [None, 16]
    asked = prompts.shares([row], ["x", "z"], resamples=0, seed=0)["asked"]
    assert asked["z"]["pasted"]["value"] == 1
    assert asked["x"]["pasted"]["value"] is None and asked["all"]["pasted"]["value"] is None
    with pytest.raises(ValueError, match="does not cover a hole of 4 x 8"):
        prompts.paste(one, window[:6, :6])


def test_intervals_are_over_groups(monkeypatch):
    monkeypatch.setattr(prompts, "fill", obedient_in_the_upper_half)
    rows = [prompts.ask(None, sample(f"a/{index}"), shade, None, [0])[0] for index in range(6)]
    low, high = prompts.shares(rows, ["x"], resamples=50, seed=0)["asked"]["x"]["as_asked"]["interval"]
    assert low == high == 0.5, "all photos agree"
    rows[0]["as_asked"] = [12]
    low, high = prompts.shares(rows, ["x"], resamples=50, seed=0)["asked"]["x"]["as_asked"]["interval"]
    assert low == 0.5 < high
    assert prompts.shares(rows[:2], ["x"], resamples=50, seed=0)["asked"]["x"]["as_asked"]["interval"] is None


def test_the_command_writes_numbers_tables_and_pictures(tmp_path):
    names = dict(enumerate(DATASETS["toy"].classes))
    torch.manual_seed(0)
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names)).save_pretrained(tmp_path / "tiny")
    base = SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names, semantic_guidance=False, confidence_evaluation=False)
    SGENetModel(base).save_pretrained(tmp_path / "base")
    judge = MobileNetV2Config(depth_multiplier=0.1, finegrained_output=False, id2label=names)
    MobileNetV2ForSemanticSegmentation(judge).save_pretrained(tmp_path / "judge")
    MobileNetV2ImageProcessor().save_pretrained(tmp_path / "judge")
    options = ["--data", "toy:8", "--split", "train", "--masks", "centre-24", "--size", "64", "--cell", "32"]
    options += ["--segmenter", f"judge={tmp_path / 'judge'}", "--out", str(tmp_path / "out"), "--shown", "2"]
    asked = ["--classes", names[0], names[1], "--windows-of", "dev"]
    assert prompts.main([str(tmp_path / "tiny"), *options, *asked]) == 0
    record = json.loads((tmp_path / "out" / "prompts.json").read_text())
    assert record["set"]["n"] == len(record["rows"]) == record["prompts"]["toy"]["n"]
    assert set(record["prompts"]["toy"]["asked"]) == {names[0], names[1], "all"}
    assert record["settings"]["guidance_scale"] == 1
    assert prompts.main([f"{tmp_path / 'tiny'}{{guidance_scale: 2}}", *options, *asked]) == 0
    assert json.loads((tmp_path / "out" / "prompts.json").read_text())["settings"]["guidance_scale"] == 2
    assert Image.open(tmp_path / "out" / "prompts.png").width >= 6 * 32
    assert f"| {names[1]} |" in (tmp_path / "out" / "prompts.md").read_text()
    assert record["windows"] and set(record["windows"]) <= {names[0], names[1]}
    for name in record["windows"]:
        assert 0 <= record["prompts"]["toy"]["asked"][name]["pasted"]["value"] <= 1
    with pytest.raises(SystemExit, match="another split"):
        prompts.main([str(tmp_path / "tiny"), *options, *asked[:-1], "train"])
    with pytest.raises(SystemExit, match=r"^eval\.prompts: .*unicorn not among"):
        prompts.main([str(tmp_path / "tiny"), *options, "--classes", "unicorn"])
    with pytest.raises(SystemExit, match="no semantic guidance"):
        prompts.main([str(tmp_path / "base"), *options, *asked])
