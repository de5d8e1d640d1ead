"""The one command: every table and figure from a folder of checkpoints, twice the same, and after a stop."""

import json
from pathlib import Path

import pytest
import torch
from feature_network import save_tiny_feature_network
from PIL import Image

from eval import paper
from eval.systems import load_system
from sgenet_hf import GatedConvConfig, GatedConvModel, SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


SWITCHES = {
    "basenet": {"semantic_guidance": False, "confidence_evaluation": False},
    "sgnet": {"confidence_evaluation": False},
    "sgenet": {},
    "sgenet_auto": {},
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for name, switches in SWITCHES.items():
        labels = DATASETS["toy"].num_labels
        model = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=labels, **switches))
        with torch.no_grad():
            for parameter in model.parameters():  # what starts at zero must not stay there: nothing would show
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder / name)
    GatedConvModel(GatedConvConfig(width=8)).save_pretrained(folder / "gatedconv")
    return folder


def command(checkpoints: Path, features: Path, out: Path) -> list[str]:
    options = ["--data", "toy:6", "--split", "train", "--masks", "centre-24", "--size", "64", "--resamples", "20"]
    options += ["--device", "cpu", "--features", f"tiny={features}"]
    return ["--checkpoints", str(checkpoints), *options, "--out", str(out)]


def without_time(value):
    """The same without what depends on the moment."""
    if isinstance(value, dict):
        return {key: without_time(part) for key, part in value.items() if key != "finished"}
    return [without_time(part) for part in value] if isinstance(value, list) else value


def read_all(out: Path) -> dict:
    return {str(path.relative_to(out)): without_time(json.loads(path.read_text())) for path in out.rglob("*.json")}


def test_tables_and_figures_come_from_one_command_and_twice_the_same(checkpoints, tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    pytest.importorskip("scipy.stats", reason="scipy is not installed")
    features, out = save_tiny_feature_network(tmp_path / "features"), tmp_path / "out"
    assert paper.main(command(checkpoints, features, out)) == 0
    first, pages = read_all(out), {path.name: path.read_text() for path in (out / "tables").iterdir()}
    assert {"result.json", "figures/toy-6/figures.json", "panels/toy-6/panels.json"} == set(first)
    assert {"table_1.md", "table_3.md", "table_4.md", "table_5.md", "ablations.md"} <= set(pages)
    assert "`gatedconv`" in pages["table_1.md"] and "{tau_reading" not in pages["table_1.md"]
    assert "| SGE-Net (`sgenet`) |" in pages["table_3.md"] and "GatedConv" not in pages["table_3.md"]
    assert "| Auto-segs (`sgenet_auto`) |" in pages["table_5.md"] and "sgenet_auto" not in pages["table_1.md"]
    contests = json.loads((out / "result.json").read_text())["complexity"]
    fighters = {win["system"] for entry in contests for win in entry["wins"]}
    assert "sgenet" in fighters and "sgenet_auto" not in fighters and not any("{" in name for name in fighters)
    assert "sgenet{tau_reading: max}" in pages["ablations.md"] and "basenet" not in pages["ablations.md"]
    pictures = {path.name for path in out.rglob("*.png")}
    assert {"figure_1.png", "figure_5.png", "figure_6_7.png", "figure_9.png", "figure_11.png"} <= pictures
    front = Image.open(out / "figures" / "front_toy_6_train_centre-24_toy.png")
    assert len(front.convert("RGB").getcolors(maxcolors=10**6)) > 6, "a dot in a colour of its own for each system"

    lost = sorted((out / "images").glob("*sgnet*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in (out / "images").glob("*.parquet") if path not in lost}
    for path in lost:  # as if killed before it came to these
        path.unlink()
    assert lost and kept
    assert paper.main(command(checkpoints, features, out)) == 0
    assert read_all(out) == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished pieces are not computed again"


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="holds no model folder"):
        paper.main(["--checkpoints", str(tmp_path), "--data", "toy:2", "--out", str(tmp_path / "out")])


def test_data_of_other_classes_leave_out_what_needs_its_labels(tmp_path):
    names = dict(enumerate(reversed(DATASETS["toy"].classes)))
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names)).save_pretrained(tmp_path / "sgenet")
    ways = {system.partition(":")[0] for system in paper.systems_of(tmp_path, True, ["toy:2"])}
    assert {"ones", "known"} <= ways and not {"oracle", "nearest_predicted"} & ways
    names = dict(enumerate(DATASETS["toy"].classes))
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), id2label=names)).save_pretrained(tmp_path / "sgenet")
    assert {"oracle", "nearest_predicted"} <= {
        system.partition(":")[0] for system in paper.systems_of(tmp_path, True, ["toy:2"])
    }


def test_settings_change_what_a_checkpoint_does_and_not_its_weights(checkpoints):
    source = str(checkpoints / "sgenet")
    plain, other = load_system(source), load_system(f"all={source}{{tau_proportions: [0, 0, 0, 0, 0]}}")
    again = load_system(f"ones:{source}")
    assert len({plain.identity, other.identity, again.identity}) == 3
    assert (other.name, again.name) == ("all", f"ones:{source}")
    assert load_system(f"{source}{{tau_reading: max}}").name == f"{source}{{tau_reading: max}}"
    with pytest.raises(ValueError, match="widths cannot be set"):
        load_system(f"{source}{{widths: [1, 2, 3, 4, 5]}}")
    with pytest.raises(ValueError, match="tau_reading cannot be set"):
        load_system(f"{checkpoints / 'gatedconv'}{{tau_reading: max}}")
    # What the network has no part for would be the same system twice.
    with pytest.raises(ValueError, match="noise_strength cannot be set"):
        load_system(f"{source}{{noise_strength: 0}}")
    with pytest.raises(ValueError, match="tau_reading cannot be set on this checkpoint: choose among guidance_prob"):
        load_system(f"{checkpoints / 'sgnet'}{{tau_reading: max}}")
