"""The evaluation from end to end on drawn scenes, with a tiny checkpoint and a tiny feature network."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from feature_network import save_tiny_feature_network
from PIL import Image

from eval import benchmark, figures, run
from eval.evaluation_set import EvaluationSet, Sample
from eval.judges import Judges
from eval.metrics.mean_iou.mean_iou import mean_iou
from eval.metrics.sharpness_ratio.sharpness_ratio import gradient_sum
from eval.plots import COLOURS
from eval.provenance import provenance, weights_sha256
from eval.rows import score
from eval.systems import Filled, System, load_system
from sgenet_hf import SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


TOY_CLASSES = 7
COUNT = 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("eval") / "tiny"
    torch.manual_seed(0)  # fixtures of modules run before each test's own seed
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=TOY_CLASSES)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    return save_tiny_feature_network(tmp_path_factory.mktemp("features") / "tiny-features")


@pytest.fixture
def sample() -> Sample:
    """Left half class 0 and dark, right half class 1 and light, with a hole across the border; some void."""
    photo = np.random.default_rng(0).integers(0, 40, (64, 64, 3)).astype(np.uint8)
    photo[:, 32:] += 180
    labels = np.zeros((64, 64), np.int64)
    labels[:, 32:] = 1
    labels[:4] = 255
    mask = np.zeros((64, 64), bool)
    mask[20:44, 20:44] = True
    return Sample("street/one", "street/first", photo, labels, mask)


def evaluate(out: Path, features: Path, systems: list[str], masks: list[str]) -> dict:
    options = ["--data", f"toy:{COUNT}", "--splits", "train", "--masks", *masks, "--size", "64"]
    assert run.main([*systems, *options, "--features", str(features), "--out", str(out)]) == 0
    return json.loads((out / "result.json").read_text())


def test_one_command_gives_numbers_with_their_origin(checkpoint, features, tmp_path, capsys):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    systems = ["telea", "nearest_label", f"ours={checkpoint}", f"oracle=oracle:{checkpoint}"]
    record = evaluate(tmp_path, features, systems, ["centre-24", "boxes"])

    assert [(facts["masks"], facts["n"]) for facts in record["sets"]] == [("centre-24", COUNT), ("boxes", COUNT)]
    first, second = record["sets"]
    assert first["crops_sha256"] == second["crops_sha256"]
    assert first["mask_set_sha256"] != second["mask_set_sha256"]
    origin = record["provenance"]
    assert origin["command"][:3] == ["python", "-m", "eval.run"]
    assert origin["libraries"]["torch"] == torch.__version__
    assert set(origin["commit"]) == {"sha", "dirty"}

    results = {(result["masks"], result["system"]): result for result in record["results"]}
    assert len(results) == 8
    ours, telea = results["centre-24", "ours"], results["centre-24", "telea"]
    assert telea["hole_psnr"] > ours["hole_psnr"], "a network that never learnt anything cannot beat Telea"
    assert telea["psnr"] > telea["hole_psnr"]
    assert ours["FD-mobilenet_v2"] > 0
    assert 0 <= ours["hole_mean_iou"] < results["centre-24", "nearest_label"]["hole_mean_iou"] <= 1
    assert "hole_psnr" not in results["centre-24", "nearest_label"]
    assert "hole_mean_iou" not in telea

    table = capsys.readouterr().out
    assert f"{telea['hole_psnr']:.2f}" in table
    assert (tmp_path / "result.md").read_text() in table


def test_a_stopped_run_goes_on_and_a_second_run_repeats_the_first(checkpoint, features, tmp_path):
    systems = [f"ours={checkpoint}"]
    first = evaluate(tmp_path, features, systems, ["centre-24"])
    (kept,), (lost,) = ((tmp_path / "images").glob(pattern) for pattern in ("*truth*", "*centre-24_ours*"))
    assert pq.read_table(lost).num_rows == COUNT
    lost.unlink()
    written = kept.stat().st_mtime_ns

    second = evaluate(tmp_path, features, systems, ["centre-24"])
    assert lost.exists()
    assert kept.stat().st_mtime_ns == written, "finished rows must not be computed again"
    assert first.pop("finished") and second.pop("finished")
    assert first == second

    torch.manual_seed(2)
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=TOY_CLASSES)).save_pretrained(checkpoint)
    third = evaluate(tmp_path, features, systems, ["centre-24"])
    assert third["results"] != second["results"], "rows of other weights must not be reused"


def test_a_perfect_fill_gets_perfect_numbers(sample):
    perfect = System("perfect", "", lambda photo, labels, mask: Filled(sample.photo, labels))
    row = score(perfect, sample, 2, Judges())
    assert row["hole_psnr"] == pytest.approx(120)
    assert row["hole_gradient"] == row["true_hole_gradient"]
    assert row["hole_ssim"] == pytest.approx(1)
    assert mean_iou(row["hole_confusion"].reshape(2, 3)) == 1


def test_systems_do_not_see_the_answer(sample):
    seen = []

    def spy(photo, labels, mask):
        seen.append(photo)
        return Filled(photo)

    score(System("spy", "", spy), sample, 2, Judges())
    assert not seen[0][sample.mask].any()
    assert np.array_equal(seen[0][~sample.mask], sample.photo[~sample.mask])


def test_a_fill_that_changes_known_pixels_is_refused(sample):
    careless = System("careless", "", lambda photo, labels, mask: Filled(photo + np.uint8(1)))
    with pytest.raises(ValueError, match="changed known pixels"):
        score(careless, sample, 2, Judges())


@pytest.mark.parametrize("name", ["telea", "navier_stokes", "biharmonic"])
def test_classical_fills_beat_an_empty_hole(name, sample):
    needed = "skimage" if name == "biharmonic" else "cv2"
    pytest.importorskip(needed, reason=f"{needed} is not installed")
    empty = System("empty", "", lambda photo, labels, mask: Filled(photo))
    assert (
        score(load_system(name), sample, 2, Judges())["hole_psnr"]
        > 10 + (score(empty, sample, 2, Judges())["hole_psnr"])
    )


def test_nearest_label_takes_the_nearest_known_label(sample):
    pytest.importorskip("scipy", reason="scipy is not installed")
    system = load_system("nearest_label")
    labels = sample.labels.copy()
    labels[sample.mask] = 255  # what lies in the hole must not matter
    filled = system.fill(sample.photo, labels, sample.mask).labels
    assert np.array_equal(filled[sample.mask], sample.labels[sample.mask])
    void = np.full_like(labels, 255)
    assert (system.fill(sample.photo, void, sample.mask).labels == -1).all()


@pytest.mark.parametrize("painter", ["navier_stokes", "network"])
def test_whatever_paints_can_be_redrawn_with_patches_of_the_photo(painter, checkpoint, sample):
    if painter == "navier_stokes":
        pytest.importorskip("cv2", reason="cv2 is not installed")
    source = str(checkpoint) if painter == "network" else painter
    photo = sample.emptied(0)
    drawn, redrawn = (load_system(f"{way}{source}") for way in ("", "redrawn:"))
    before, after = (system.fill(photo, sample.labels, sample.mask) for system in (drawn, redrawn))
    assert drawn.identity != redrawn.identity and redrawn.num_labels == drawn.num_labels
    assert np.array_equal(after.image[~sample.mask], photo[~sample.mask])
    assert not np.array_equal(after.image, before.image)
    assert after.labels is None if painter == "navier_stokes" else np.array_equal(after.labels, before.labels)
    if painter == "navier_stokes":  # has none of the photo's grain
        assert gradient_sum(after.image, sample.mask) > gradient_sum(before.image, sample.mask)


def test_what_paints_nothing_is_not_redrawn(checkpoint):
    pytest.importorskip("scipy", reason="scipy is not installed")
    for source in ("nearest_label", f"nearest_predicted:{checkpoint}"):
        with pytest.raises(ValueError, match="paints nothing"):
            load_system(f"redrawn:{source}")


def test_a_name_does_not_claim_another_look(checkpoint):
    pytest.importorskip("cv2", reason="cv2 is not installed")
    for way, source in (("redrawn", "telea"), ("oracle", checkpoint)):
        with pytest.raises(ValueError, match=f"write {way}: behind the ="):
            load_system(f"{way}:mine={source}")
    assert load_system("redrawn:mine=redrawn:telea").name == "redrawn:mine"
    with pytest.raises(ValueError, match="telea has no settings: leave out {redrawn_share}"):
        load_system("redrawn:telea{redrawn_share: 0}")


def test_oracle_goes_as_far_as_the_true_labels_and_not_beyond(checkpoint, sample):
    def fill(specification):
        return load_system(specification).fill(sample.emptied(0), sample.labels, sample.mask).image

    far = f"oracle:{checkpoint}{{guidance_scale: 3}}"
    assert not np.array_equal(fill(f"oracle:{checkpoint}"), fill(far))
    model = SGENetModel.from_pretrained(checkpoint, guidance_scale=3)
    model.save_pretrained(checkpoint.parent / "far")
    assert np.array_equal(fill(f"oracle:{checkpoint}"), fill(f"oracle:{checkpoint.parent / 'far'}"))


def test_oracle_is_guided_by_the_true_labels(checkpoint, sample):
    plain, oracle = load_system(str(checkpoint)), load_system(f"oracle:{checkpoint}")
    assert plain.identity != oracle.identity
    other = np.where(sample.labels == 1, 3, sample.labels)
    photo = np.where(sample.mask[..., None], np.uint8(0), sample.photo)
    fills = [
        system.fill(photo, labels, sample.mask).image
        for system in (plain, oracle)
        for labels in (sample.labels, other)
    ]
    assert np.array_equal(fills[0], fills[1]), "without the oracle labels must not matter"
    assert np.array_equal(fills[2][~sample.mask], fills[3][~sample.mask])


def test_evaluation_set_is_in_the_order_of_its_ids_whatever_the_limit():
    whole = EvaluationSet("toy:5", "train", "boxes", size=64, seed=3)
    few = EvaluationSet("toy:5", "train", "boxes", size=64, seed=3, limit=2)
    assert [s.id for s in whole] == sorted(s.id for s in whole)
    assert [s.id for s in few] == [whole[0].id, whole[4].id]
    assert np.array_equal(few[1].mask, whole[4].mask), "a photo keeps its mask"
    assert whole[0].photo.shape == (64, 64, 3)
    assert whole[0].photo.dtype == np.uint8
    assert whole.fingerprint() == EvaluationSet("toy:5", "train", "boxes", size=64, seed=3).fingerprint()
    other_seed = EvaluationSet("toy:5", "train", "boxes", size=64, seed=4).fingerprint()
    assert other_seed["mask_set_sha256"] != whole.fingerprint()["mask_set_sha256"]


def test_two_systems_of_one_name_are_refused(checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="name them"):
        run.main(["nearest_label", "nearest_label", "--data", "toy:2", "--out", str(tmp_path)])


def test_figure_shows_every_photo_and_system(checkpoint, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    out = tmp_path / "fills.png"
    options = ["--data", "toy:4", "--split", "train", "--masks", "centre-24", "--size", "64", "--cell", "64"]
    arguments = ["telea", f"ours={checkpoint}", *options, "--limit", "4", "--out", str(out)]
    assert figures.main([*arguments, "--blocks", "1"]) == 0
    plain = Image.open(out).size
    assert figures.main([*arguments, "--blocks", "1", "--segmentation"]) == 0
    with_labels = Image.open(out).size
    assert plain[0] >= 4 * 64 and plain[1] >= 4 * 64
    assert with_labels[0] >= plain[0] + 2 * 64
    assert figures.main([*arguments, "--blocks", "2"]) == 0
    assert Image.open(out).size[1] < plain[1]


def test_a_figure_of_other_classes_has_no_labels_of_the_network(tmp_path, capsys):
    names = dict(enumerate([*reversed(DATASETS["toy"].classes), "pole"]))
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names)).save_pretrained(tmp_path / "foreign")
    options = ["--data", "toy:2", "--split", "train", "--masks", "centre-24", "--size", "64", "--segmentation"]
    assert figures.main([f"ours={tmp_path / 'foreign'}", *options, "--out", str(tmp_path / "fills.png")]) == 0
    assert "columns truth, input, ours, true labels:" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"eval\.figures: oracle:.*cannot be compared"):
        figures.main([f"oracle:{tmp_path / 'foreign'}", *options, "--out", str(tmp_path / "oracle.png")])


def test_benchmark_measures_flop_time_and_memory(tmp_path):
    out = tmp_path / "benchmark.json"
    line = ["small", "--sizes", "64", "--layouts", "channels_last", "--seconds", "0.1"]
    assert benchmark.main([*line, "--matrix-side", "256", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert 0.5 < row["gflop"] < 4, "a sixteenth of the small preset's budget at 256"
    assert row["gflop_per_second"] == pytest.approx(row["gflop"] / row["milliseconds"] * 1e3)
    assert row["fraction_of_matrix_rate"] == pytest.approx(row["gflop_per_second"] / row["matrix_gflop_per_second"])
    assert row["peak_memory_mib"] >= row["loaded_memory_mib"] > 50


def test_benchmark_knows_modes_batches_and_draws_a_dot_for_each_line(tmp_path):
    out, plot = tmp_path / "benchmark.json", tmp_path / "benchmark.png"
    line = ["small", "--sizes", "64", "--layouts", "contiguous", "--seconds", "0.1", "--matrix-side", "256"]
    line += ["--modes", "eager", "bfloat16", "--batch", "2", "--out", str(out), "--plot", str(plot)]
    assert benchmark.main(line) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["eager", "bfloat16"]
    assert all(row["batch"] == 2 and row["photos_per_second"] > 0 for row in rows)
    colours = {colour for _, colour in Image.open(plot).getcolors(maxcolors=1 << 16)}
    assert set(COLOURS[:2]) <= colours


def test_benchmark_refuses_a_wrong_name_before_it_measures(monkeypatch):
    monkeypatch.setattr(benchmark, "in_fresh_process", lambda *line: pytest.fail("measured"))
    with pytest.raises(SystemExit, match=r"eval\.benchmark: No folder and no bundled weights of the name 'nope'"):
        benchmark.main(["small", "nope"])


def test_benchmark_counts_two_operations_for_each_multiplication():
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert benchmark.flops(convolution, {"input": torch.zeros(1, 3, 10, 10)}) == 2 * 3 * 8 * 9 * 100


def test_weights_hash_follows_the_weights():
    first, second = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    assert weights_sha256(first) != weights_sha256(second)
    second.load_state_dict(first.state_dict())
    assert weights_sha256(first) == weights_sha256(second)


def test_provenance_names_machine_and_code_but_not_the_host():
    record = provenance(["command"])
    assert len(record["code_sha256"]) == 64
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["memory_gib"] > 0
    assert json.loads(json.dumps(record)) == record
