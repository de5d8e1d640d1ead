"""The runner with everything that can look at a fill, in one process and in two; intervals; published mask sets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from feature_network import save_tiny_feature_network
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

from eval import mask_sets, run
from eval.complexity import share_of_wins, win_rates
from eval.intervals import FEWEST_GROUPS, draw, half_samples, interval
from eval.metrics.feature_distance.feature_distance import frechet_distance
from eval.rows import count_classes
from eval.scores import scores_of
from eval.segmenter import SegmenterJudge
from eval.systems import load_system
from sgenet_hf import SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


TOY = DATASETS["toy"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    torch.manual_seed(0)
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=TOY.num_labels)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return save_tiny_feature_network(tmp_path_factory.mktemp("features") / "tiny-features")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    """A tiny network whose classes are the toy's, the other way round and in capitals, and one that the toy lacks."""
    torch.manual_seed(0)
    names = dict(enumerate([*(name.upper() for name in reversed(TOY.classes)), "unicorn"]))
    config = MobileNetV2Config(depth_multiplier=0.1, id2label=names, label2id={n: i for i, n in names.items()})
    folder = tmp_path_factory.mktemp("segmenter") / "tiny-segmenter"
    MobileNetV2ForSemanticSegmentation(config).save_pretrained(folder)
    MobileNetV2ImageProcessor().save_pretrained(folder)
    return folder


def command(checkpoint: Path, features: Path, segmenter: Path, out: Path) -> list[str]:
    systems = ["nearest_label", f"ours={checkpoint}", f"known=known:{checkpoint}", "truth"]
    data = ["--data", "toy:12", "--splits", "train", "--masks", "centre-24", "--size", "64", "--resamples", "60"]
    return [*systems, *data, "--features", f"tiny={features}", "--segmenter", str(segmenter), "--out", str(out)]


@pytest.fixture(scope="module")
def one_process(checkpoint, features, segmenter, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one")
    assert run.main(command(checkpoint, features, segmenter, out)) == 0
    return out


@pytest.fixture(scope="module")
def results(one_process) -> dict:
    return {row["system"]: row for row in json.loads((one_process / "result.json").read_text())["results"]}


def test_two_processes_equal_one(checkpoint, features, segmenter, one_process, tmp_path):
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "eval.run"]
    line = [sys.executable, *start, *command(checkpoint, features, segmenter, tmp_path)]
    done = subprocess.run(line, env=os.environ, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((folder / "result.json").read_text()) for folder in (one_process, tmp_path))
    assert (one["provenance"]["hardware"]["processes"], two["provenance"]["hardware"]["processes"]) == (1, 2)
    for part in ("sets", "results", "complexity"):
        assert one[part] == two[part]
    for name in ("centre-24_ours-000000", "centre-24_ours-000008"):  # a file of each process
        first, second = (
            pq.read_table(folder / "images" / f"toy_12_train_{name}.parquet") for folder in (one_process, tmp_path)
        )
        assert first.to_pylist() == second.to_pylist()


def test_everything_that_looks_leaves_its_numbers(results):
    ours, truth = results["ours"], results["truth"]
    assert {"FD-tiny", "KD-tiny", "seam_error", "hole_accuracy", "mean_iou", "segmenter_mean_iou"} <= ours.keys()
    assert truth["FD-tiny"] == pytest.approx(0, abs=1e-9) and truth["seam_error"] == 0
    assert ours["FD-tiny"] > 0 and "mean_iou" not in truth
    assert results["nearest_label"]["mean_iou"] > results["nearest_label"]["hole_mean_iou"], "it knows the rest"
    assert "segmenter_mean_iou" not in results["nearest_label"], "it paints nothing that could be segmented"
    assert len(ours["hole_class_iou"]) == TOY.num_labels


def test_intervals_hold_their_values_and_differences_are_paired(results):
    ours, known = results["ours"], results["known"]
    for name in ("hole_psnr", "seam_error", "FD-tiny"):
        low, high = ours["intervals"][name]
        assert low <= ours[name] <= high and low < high
    assert "difference" not in ours
    difference = known["difference"]["scores"]["hole_psnr"]
    assert known["difference"]["reference"] == "ours"
    assert difference["value"] == pytest.approx(known["hole_psnr"] - ours["hole_psnr"])
    width = difference["interval"][1] - difference["interval"][0]
    assert width < ours["intervals"]["hole_psnr"][1] - ours["intervals"]["hole_psnr"][0], "pairing must help"


def test_wins_by_complexity(one_process):
    entries = json.loads((one_process / "result.json").read_text())["complexity"]
    overall = next(entry for entry in entries if entry["level"] == "overall")
    parts = [entry for entry in entries if entry["level"] != "overall"]
    assert overall["n"] == sum(entry["n"] for entry in parts) == 12
    wins = {(win["system"], win["against"], win["by"]): win["share"] for win in overall["wins"]}
    assert {by for *_, by in wins} == {"psnr", "cosine-tiny"}
    assert wins["truth", "ours", "psnr"] == 1 and wins["ours", "truth", "cosine-tiny"] == 0
    assert not {name for name, *_ in wins} & {"nearest_label"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["stret", "--data", "toy:2"], "eval.run: No folder and no bundled weights of the name 'stret'"),
        (
            ["telea", "--data", "toy:2", "--splits", "test"],
            "eval.run: toy has the splits train, dev, report, not 'test'",
        ),
        (["street{noise_strength: 5}", "--data", "toy:2"], "eval.run: `noise_strength` must be a number from 0 to 2"),
        (
            ["telea", "--data", "toy:5", "--splits", "dev", "--masks", "centre-999"],
            "eval.run: A hole of 999x999 does not",
        ),
        (["telea", "--data", "toy:2", "--masks", "center-96"], "eval.run: Unknown mask set 'center-96': use centre-N"),
    ],
)
def test_wrong_names_end_in_a_sentence(wrong, message, tmp_path):
    with pytest.raises(SystemExit, match=message):
        run.main([*wrong, "--out", str(tmp_path)])


def test_two_folders_of_one_name_are_refused(tmp_path):
    for parent in ("one", "two"):
        (tmp_path / parent / "street").mkdir(parents=True)
    data = [str(tmp_path / parent / "street") for parent in ("one", "two")]
    with pytest.raises(SystemExit, match="Two data sets would have one name in street, street"):
        run.main(["telea", "--data", *data, "--out", str(tmp_path / "out")])


def test_an_unknown_reference_is_refused(checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="no system of this run has that name"):
        run.main([str(checkpoint), "--data", "toy:2", "--reference", "other", "--out", str(tmp_path)])


def test_intervals_cover_the_mean_as_often_as_they_say():
    """Groups of photos that share a shift: resampling photos would be far too sure of itself."""
    rng = np.random.default_rng(0)
    hits, trials = 0, 200
    groups = [str(number) for number in range(30) for _ in range(5)]
    for _ in range(trials):
        values = rng.normal(size=30).repeat(5) + 0.1 * rng.normal(size=150)
        draws = draw(groups, rng, count=200, halves=1)
        low, high = interval(draws.weights @ values / draws.weights.sum(axis=1))
        hits += low <= 0 <= high
    assert 0.88 <= hits / trials <= 0.99


def test_half_samples_scatter_as_whole_samples_do():
    rng = np.random.default_rng(0)
    groups = [str(number) for number in range(100)]
    reference = rng.normal(size=(100, 3))
    whole = [frechet_distance(rng.normal(0.5, 1, size=(100, 3)), reference) for _ in range(200)]
    features = rng.normal(0.5, 1, size=(100, 3))
    draws = draw(groups, rng, count=1, halves=100)
    assert (draws.halves.sum(axis=1) == 50).all()
    value = frechet_distance(features, reference)
    halves = half_samples(lambda chosen: frechet_distance(features[chosen], reference), draws, value)
    assert halves.mean() == pytest.approx(value)
    assert 0.6 < halves.std() / np.std(whole) < 1.6


def test_draws_take_whole_groups_and_few_groups_give_none():
    groups = ["a"] * 3 + ["b"] * 2 + ["c", "d", "e", "e"]
    draws = draw(groups, np.random.default_rng(0), count=50, halves=50)
    weights = draws.weights
    assert (weights[:, :3] == weights[:, :1]).all() and (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 3, 5, 6, 7]].sum(axis=1) == 5).all()
    again = draw(groups, np.random.default_rng(0), count=50, halves=50)
    assert np.array_equal(draws.weights, again.weights) and np.array_equal(draws.halves, again.halves)
    assert draw(["a"] * 60 + ["b"] * (FEWEST_GROUPS - 2), np.random.default_rng(0)) is None


def test_an_interval_needs_a_value_in_every_draw():
    assert interval(np.array([0.0, np.nan, 1.0])) is None
    assert interval(np.linspace(0, 1, 1001)) == pytest.approx([0.025, 0.975])


def test_a_tie_counts_half_and_photos_outside_the_level_not_at_all():
    first, second = np.array([1.0, 2, 3, 0]), np.array([2.0, 2, 1, 9])
    chosen = np.array([True, True, True, False])
    assert share_of_wins(first, second, chosen, None) == {"share": 0.5, "interval": None}


def test_systems_without_pictures_are_in_no_contest():
    row = {"hole_psnr": None, "num_classes": 2}
    assert win_rates({"labels": [row], "other": [row]}, None, None) == []


def test_scores_of_repeated_photos_are_those_of_the_longer_list():
    rng = np.random.default_rng(0)
    rows = [
        {"hole_psnr": rng.normal(), "hole_gradient": rng.random(), "true_hole_gradient": rng.random()}
        | {"hole_confusion": rng.integers(0, 9, 6).tolist()}
        for _ in range(4)
    ]
    empty = dict.fromkeys(["confusion", "segmenter_hole_confusion", "segmenter_confusion", "hole_ssim", "hole_l1"])
    empty |= dict.fromkeys(["hole_lpips", "seam_error", "psnr", "ssim", "l1", "lpips"])
    rows = [empty | row for row in rows]
    repeated = [rows[0], rows[0], rows[2], rows[3], rows[3], rows[3]]
    ours, theirs = scores_of(rows, 2), scores_of(repeated, 2)
    assert set(ours) == {"hole_psnr", "hole_sharpness_ratio", "hole_mean_iou", "hole_accuracy"}
    for name in ours:
        assert ours[name](np.array([[2.0, 0, 1, 3]])) == pytest.approx(theirs[name](np.ones((1, 6)))), name


def test_a_scene_has_the_classes_that_fill_a_hundredth_of_it():
    labels = np.zeros((20, 20), np.int64)
    labels[0, :4] = 1  # exactly 1 %
    labels[1, :3] = 2
    labels[10:] = 255
    assert count_classes(labels) == 3, "of the labelled half each has more than 1 %"
    labels[10:] = 0
    assert count_classes(labels) == 2
    assert count_classes(np.full((4, 4), 255)) == 0


def test_a_segmenter_speaks_the_language_of_the_data(segmenter):
    network = SegmenterJudge(f"stand-in={segmenter}")
    assert network.name == "stand-in"
    ids = network.class_ids(TOY.classes)
    assert ids.tolist() == [*reversed(range(TOY.num_labels)), -1]
    labels = network(np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8), ids)
    assert labels.shape == (40, 56) and 0 <= labels.min() <= labels.max() < TOY.num_labels
    with pytest.raises(ValueError, match="Set id2label"):
        network.class_ids(["ocean", "moon"])


def test_labels_of_other_classes_are_not_scored(tmp_path, capsys):
    """The same ids would mean other things: a facade is no pole."""
    torch.manual_seed(0)
    others = dict(enumerate(reversed(TOY.classes)))
    foreign = SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=others)
    SGENetModel(foreign).save_pretrained(tmp_path / "foreign")
    own = SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=dict(enumerate(TOY.classes)))
    SGENetModel(own).save_pretrained(tmp_path / "own")
    options = ["--data", "toy:4", "--splits", "train", "--masks", "centre-24", "--size", "64", "--resamples", "0"]
    names = [f"{name}={tmp_path / name}" for name in ("foreign", "own")]
    assert run.main([*names, *options, "--out", str(tmp_path / "out")]) == 0
    assert "foreign on toy:4: labels are not scored, the network's classes are not" in capsys.readouterr().err
    rows = {row["system"]: row for row in json.loads((tmp_path / "out/result.json").read_text())["results"]}
    assert rows["foreign"]["psnr"] > 0 and rows["foreign"].get("hole_mean_iou") is None
    assert rows["own"]["hole_mean_iou"] is not None
    for way in ("oracle", "nearest_predicted"):
        with pytest.raises(SystemExit, match="labels cannot be compared. Leave this system out"):
            run.main([f"{way}:{tmp_path / 'foreign'}", *options, "--out", str(tmp_path / way)])


def test_nearest_predicted_label_never_sees_true_ones(checkpoint):
    pytest.importorskip("scipy", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    photo, labels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8), rng.integers(0, 7, (32, 32))
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    carried, plain = load_system(f"nearest_predicted:{checkpoint}"), load_system(str(checkpoint))
    filled = carried.fill(photo, labels, mask)
    assert filled.image is None
    assert np.array_equal(filled.labels, carried.fill(photo, labels * 0, mask).labels)
    assert np.array_equal(filled.labels[~mask], plain.fill(photo, labels, mask).labels[~mask])
    assert (filled.labels[9, 9:23] == filled.labels[7, 9:23]).mean() > 0.5, "the rim's labels come from outside"


def test_controls_of_the_reliability_change_the_fill_and_need_a_reliability(checkpoint, tmp_path):
    assert len({load_system(f"{way}{checkpoint}").identity for way in ("", "ones:", "known:", "oracle:")}) == 4
    assert load_system(f"ones:{checkpoint}").name == f"ones:{checkpoint}"
    config = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, confidence_evaluation=False)
    SGENetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no M to replace"):
        load_system(f"ones:{tmp_path}")


def test_published_masks_are_still_drawn_like_this():
    record = json.loads(mask_sets.FILE.read_text())
    assert list(record["sha256_of_the_first"]) == list(mask_sets.PUBLISHED)
    drawn = mask_sets.hashes(counts=(10,))
    assert (drawn["seed"], drawn["size"]) == (record["seed"], record["size"])
    for name, hashes in drawn["sha256_of_the_first"].items():
        assert hashes["10"] == record["sha256_of_the_first"][name]["10"], name
