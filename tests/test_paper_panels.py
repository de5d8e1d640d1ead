"""The paper's panels from tiny networks on drawn scenes: the right photos, the right systems, the same twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import MobileNetV2Config, MobileNetV2ForSemanticSegmentation, MobileNetV2ImageProcessor

from eval import paper_panels
from eval.evaluation_set import EvaluationSet, spread
from eval.metrics.l1.l1 import l1
from eval.systems import Filled, System, answer, load_system
from sgenet_hf import SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


TOY = DATASETS["toy"]
COUNT, SIDE = 5, 64
SWITCHES = {  # name on the command line -> what makes the network the paper's
    "base-net": {"semantic_guidance": False, "confidence_evaluation": False},
    "SGNet": {"confidence_evaluation": False},
    "SGE-Net": {},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    """Folders of the three networks, each with weights of its own."""
    folder = tmp_path_factory.mktemp("panels")
    torch.manual_seed(0)
    for name, switches in SWITCHES.items():
        config = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=TOY.num_labels, **switches)
        SGENetModel(config).save_pretrained(folder / name)
    return {name: folder / name for name in SWITCHES}


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    names = dict(enumerate(TOY.classes))
    config = MobileNetV2Config(depth_multiplier=0.1, id2label=names, label2id={n: i for i, n in names.items()})
    folder = tmp_path_factory.mktemp("segmenter") / "tiny-segmenter"
    MobileNetV2ForSemanticSegmentation(config).save_pretrained(folder)
    MobileNetV2ImageProcessor().save_pretrained(folder)
    return folder


def draw(out: Path, systems: list[str], *options: str) -> dict:
    place = ["--data", f"toy:{COUNT}", "--split", "train", "--masks", "centre-24", "--size", str(SIDE)]
    shown = ["--shown", "3", "--worst", "2", "--cell", str(SIDE)]
    assert paper_panels.main([*systems, *place, *shown, *options, "--out", str(out)]) == 0
    assert not list(out.glob("*.partial"))
    return json.loads((out / "panels.json").read_text())


@pytest.fixture(scope="module")
def everything(checkpoints, segmenter, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "panels"
    draw(out, [f"{name}={folder}" for name, folder in checkpoints.items()], "--segmenter", f"judge={segmenter}")
    return out


@pytest.fixture(scope="module")
def samples() -> EvaluationSet:
    return EvaluationSet(f"toy:{COUNT}", "train", "centre-24", size=SIDE)


def cells_of(picture: Path, rows: int) -> list[list[np.ndarray]]:
    """The pictures of a panel, each found by its frame: the side of a cell is that of the photos."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    step = SIDE + 6  # with the margin of `visualization.panel`
    columns = pixels.shape[1] // step
    left, top = pixels.shape[1] - columns * step, 6 + 2 * 11  # its letters are 11 pixels high here
    return [
        [
            pixels[top + row * step : top + row * step + SIDE, left + column * step : left + column * step + SIDE]
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def test_every_figure_is_drawn_and_says_where_it_comes_from(everything, checkpoints, samples):
    record = json.loads((everything / "panels.json").read_text())
    assert set(record["figures"]) == {"figure_1", "figure_4_10", "figure_5", "figure_9", "figure_11"}
    assert record["left_out"] == {}
    assert {path.stem for path in everything.glob("*.png")} == set(record["figures"])
    assert record["set"] == samples.fingerprint()
    assert [system["roles"] for system in record["systems"]] == [["Base-Net"], ["SG-Net"], ["SGE-Net"]]
    assert record["systems"][2]["identity"] == load_system(str(checkpoints["SGE-Net"])).identity
    assert record["oracle"]["identity"] == load_system(f"oracle:{checkpoints['SGE-Net']}").identity
    assert list(record["judges_sha256"]) == ["segmenter:judge"]
    assert record["provenance"]["command"][:3] == ["python", "-m", "eval.paper_panels"]
    ids = [sample.id for sample in samples]
    assert record["figures"]["figure_5"] == [ids[place] for place in (0, 2, 4)], "evenly spread, both ends"
    assert record["figures"]["figure_1"] == [ids[0], ids[4]]


def test_failures_are_the_worst_of_all_photos(everything, checkpoints, samples):
    record = json.loads((everything / "panels.json").read_text())
    system = load_system(str(checkpoints["SGE-Net"]))
    errors = {sample.id: l1(answer(system, sample).image, sample.photo, sample.mask) for sample in samples}
    worst_first = sorted(errors, key=errors.get, reverse=True)
    assert record["reference"] == "SGE-Net"
    assert record["figures"]["figure_11"] == worst_first[:2]
    assert {row["id"]: row["hole_l1"] for row in record["rows"]} == pytest.approx(errors)
    assert all(0 < row["confidence"] < 1 for row in record["rows"])
    by_id = {sample.id: sample for sample in samples}
    for row, name in zip(cells_of(everything / "figure_11.png", 2), worst_first, strict=False):
        assert np.array_equal(row[-1], by_id[name].photo), "the photo that is drawn is the one that is named"


def test_worst_takes_the_largest_error_and_then_the_first_id():
    rows = [{"id": name, "hole_l1": error} for name, error in (("d", 0.1), ("c", 0.3), ("b", 0.2), ("a", 0.3))]
    assert paper_panels.worst(rows, 3) == [3, 1, 2]
    assert paper_panels.worst(rows, 9) == [3, 1, 2, 0]


def test_columns_stand_in_the_papers_order(everything, checkpoints, samples):
    """The order of Fig. 5 is the paper's, whatever that of the command line; Fig. 1 holds the oracle's fill."""
    sample = samples[0]
    fills = {name: answer(load_system(str(folder)), sample).image for name, folder in checkpoints.items()}
    row = cells_of(everything / "figure_5.png", 1)[0]
    expected = [sample.emptied(255), *(fills[name] for name in SWITCHES), sample.photo]
    assert len(row) == len(expected) and all(map(np.array_equal, row, expected))
    told = answer(load_system(f"oracle:{checkpoints['SGE-Net']}"), sample).image
    assert not np.array_equal(told, fills["SGE-Net"]), "this network must follow labels for the test to say anything"
    row = cells_of(everything / "figure_1.png", 1)[0]
    assert np.array_equal(row[-2], told) and np.array_equal(row[-4], fills["SGE-Net"])
    row = cells_of(everything / "figure_9.png", 1)[0]
    assert len(row) == 2 + 2 * len(SWITCHES), "input, true labels, each system's own, the segmenter's of each fill"


def test_a_second_run_writes_the_same(checkpoints, tmp_path):
    systems = [f"SGE-Net={checkpoints['SGE-Net']}"]
    first = draw(tmp_path, systems)
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    second = draw(tmp_path, systems)
    assert first.pop("finished") and second.pop("finished")
    assert first == second
    assert pictures == {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}


def test_what_cannot_be_drawn_is_left_out_and_named(checkpoints, tmp_path, capsys):
    record = draw(tmp_path / "one", [f"ours={checkpoints['SGE-Net']}"])
    assert set(record["figures"]) == {"figure_4_10", "figure_9", "figure_11"}
    assert "figure_5 is left out: no system is named Base-Net or SG-Net or SGE-Net" in capsys.readouterr().out
    assert {path.stem for path in (tmp_path / "one").glob("*.png")} == set(record["figures"])
    record = draw(tmp_path / "labels", ["nearest_label"])
    assert set(record["figures"]) == {"figure_9"}
    assert record["left_out"]["figure_11"] == "the reference paints nothing"


def test_labels_of_other_classes_guide_nothing_and_are_not_drawn(tmp_path):
    names = dict(enumerate([*reversed(TOY.classes), "pole"]))
    colours = [[place, place, place] for place in range(len(names))]
    config = SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names, label_colors=colours)
    SGENetModel(config).save_pretrained(tmp_path / "foreign")
    record = draw(tmp_path / "out", [f"SGE-Net={tmp_path / 'foreign'}"])
    assert set(record["figures"]) == {"figure_4_10", "figure_11"}
    assert record["left_out"]["figure_1"] == "the classes of SGE-Net are not those of the photos' true labels"
    with pytest.raises(SystemExit, match="labels cannot be compared"):
        draw(tmp_path / "labels", ["telea", f"nearest_predicted:{tmp_path / 'foreign'}"])


def test_the_split_is_not_kept_in_memory(samples):
    """Answers are kept for the photos that figures show, and the reference fills no photo twice on the way."""
    calls = []

    def fill(photo, labels, mask):
        calls.append(photo)
        return Filled(image=photo)

    black, other = System("black", "", fill), System("other", "", lambda photo, labels, mask: Filled(image=photo))
    rows, looks, failed = paper_panels.look_at_all(samples, [black, other], "black", spread(COUNT, 2), 1)
    assert len(rows) == COUNT and set(looks) == {0, COUNT - 1, *failed}
    assert len(calls) == COUNT + len(set(failed) - {0, COUNT - 1})
    assert all(list(look.answers) == ["black", "other"] for look in looks.values())


def test_two_systems_cannot_have_one_role():
    with pytest.raises(ValueError, match="both be the paper's SG-Net"):
        paper_panels.roles_of(["SG-Net", "sgnet"])
