"""Publishing and loading over HTTP, remote code in processes that never import the package, damaged checkpoints."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hub_server import HubServer
from huggingface_hub import EvalResult, ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from sgenet_hf import (
    BUNDLED,
    GatedConvConfig,
    GatedConvModel,
    SGENetConfig,
    SGENetImageProcessor,
    SGENetModel,
    hub,
    load_model,
)
from sgenet_hf.hub import first_paragraph, results_of, write_hub_folder


REPO_ID = "street-lab/sge-net-tiny"
SECOND_REPO_ID = "street-lab/pushed-by-method"
LICENSE_TEXT = "Weights for research only: trained on photos of Testville."
RESULT = EvalResult(
    task_type="image-to-image",
    dataset_type="street",
    dataset_name="CamVid",
    dataset_split="report",
    metric_type="psnr",
    metric_name="hole PSNR (dB)",
    metric_value=14.5,
)

# In a process that starts with this, whoever imports the package gets an ImportError.
WITHOUT_PACKAGE = "import sys\nsys.modules['sgenet_hf'] = None\n"


def run_python(code: str, environment: dict[str, str], folder: Path) -> str:
    """Runs `code` in a new process in `folder` and returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def license_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("terms") / "TERMS.txt"
    file.write_text(LICENSE_TEXT)
    return file


@pytest.fixture(scope="module")
def server():
    with HubServer() as running:
        yield running


@pytest.fixture(scope="module")
def hub_environment(server, tmp_path_factory) -> dict[str, str]:
    return server.environment(tmp_path_factory.mktemp("hub-home"))


@pytest.fixture(scope="module")
def pushed(server, hub_environment, tiny_checkpoint, license_file, tmp_path_factory) -> HubServer:
    """The server after the tiny checkpoint was pushed, loaded back by its Hub id, and pushed as the model's method."""
    code = f"""
import torch
from sgenet_hf import SGENetImageProcessor, SGENetModel, load_model
from sgenet_hf.hub import push_to_hub

try:
    load_model({REPO_ID!r})
except OSError as error:
    assert {REPO_ID!r} in str(error), error
else:
    raise AssertionError("loaded before anything was pushed")

url = push_to_hub({str(tiny_checkpoint)!r}, {REPO_ID!r}, license_file={str(license_file)!r})
assert "/commit/" in url, url
local = SGENetModel.from_pretrained({str(tiny_checkpoint)!r}).state_dict()
fetched = SGENetModel.from_pretrained({REPO_ID!r}).state_dict()
assert local.keys() == fetched.keys()
assert all(torch.equal(local[name], fetched[name]) for name in local)
processor = SGENetImageProcessor.from_pretrained({REPO_ID!r})
assert processor.to_dict() == SGENetImageProcessor.from_pretrained({str(tiny_checkpoint)!r}).to_dict() | {{
    "auto_map": {{"AutoImageProcessor": "image_processing_sgenet.SGENetImageProcessor"}}
}}, processor.to_dict()

SGENetModel.from_pretrained({REPO_ID!r}).push_to_hub({SECOND_REPO_ID!r}, license_file={str(license_file)!r})
"""
    run_python(code, hub_environment, tmp_path_factory.mktemp("push"))
    return server


def test_a_push_sends_weights_code_processor_licence_and_card_in_one_commit(pushed, tiny_checkpoint):
    files = pushed.files(REPO_ID)
    expected = {"config.json", "model.safetensors", "preprocessor_config.json", "LICENSE", "README.md"}
    expected |= {"configuration_sgenet.py", "modeling_sgenet.py", "image_processing_sgenet.py"}
    assert expected <= files.keys()
    assert files["model.safetensors"] == (tiny_checkpoint / "model.safetensors").read_bytes()
    assert files["LICENSE"].decode() == LICENSE_TEXT
    assert len(pushed.repositories[REPO_ID].commits) == 2, "the empty one of the new repository, and ours"


@pytest.mark.parametrize("repo_id", [REPO_ID, SECOND_REPO_ID])
def test_the_pushed_card_is_ours(pushed, repo_id):
    card = ModelCard(pushed.files(repo_id)["README.md"].decode())
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "image-to-image"
    assert (card.data.license, card.data.license_link) == ("other", "LICENSE")
    assert "Where the paper is silent" in card.text
    assert f'from_pretrained("{repo_id}"' in card.text
    assert LICENSE_TEXT in card.text
    assert "automatically generated" not in card.text
    assert "{{" not in card.text and "{%" not in card.text


def test_the_models_own_method_pushes_the_same(pushed):
    first, second = pushed.files(REPO_ID), pushed.files(SECOND_REPO_ID)
    assert first.keys() == second.keys()
    assert first["model.safetensors"] == second["model.safetensors"]
    assert json.loads(first["config.json"])["auto_map"] == json.loads(second["config.json"])["auto_map"]


def test_the_cards_first_example_runs_without_the_package(pushed, hub_environment, tmp_path, photo, mask):
    """The example uses AutoImageProcessor and AutoModelForImageToImage by Hub id, with remote code."""
    example = python_blocks(pushed.files(REPO_ID)["README.md"].decode())[0]
    assert "trust_remote_code=True" in example
    photo.save(tmp_path / "photo.png")
    mask.save(tmp_path / "mask.png")
    check = "import numpy\nassert filled.size == photo.size\nknown = numpy.array(mask) == 0\n"
    check += "assert (numpy.array(filled)[known] == numpy.array(photo)[known]).all()\n"
    check += "assert (numpy.array(filled)[~known] != numpy.array(photo)[~known]).any()\n"
    run_python(WITHOUT_PACKAGE + example + check, hub_environment, tmp_path)
    assert (tmp_path / "filled.png").is_file()


def test_remote_code_from_a_folder(tiny_checkpoint, license_file, tmp_path):
    published = hub.write_hub_folder(tiny_checkpoint, tmp_path / "published", REPO_ID, license_file=license_file)
    code = f"""
import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageToImage
options = dict(pretrained_model_name_or_path={str(published)!r}, trust_remote_code=True)
config = AutoConfig.from_pretrained(**options)
assert config.model_type == "sgenet" and list(config.widths) == [4, 8, 8, 16, 16]
first, second = AutoModel.from_pretrained(**options), AutoModelForImageToImage.from_pretrained(**options)
assert type(first).__name__ == type(second).__name__ == "SGENetModel"
assert type(AutoImageProcessor.from_pretrained(**options)).__name__ == "SGENetImageProcessor"
photo, mask = torch.zeros(1, 3, 65, 97), torch.ones(1, 1, 65, 97)
with torch.inference_mode():
    output = first(photo, mask)
assert output.composite.shape == photo.shape and len(output.images) == len(output.logits) == 5
"""
    run_python(WITHOUT_PACKAGE + code, {"HF_HOME": str(tmp_path / "home")}, tmp_path)


def test_without_terms_nothing_is_published(tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="license_file"):
        hub.write_hub_folder(tiny_checkpoint, tmp_path / "out", REPO_ID)
    assert not list(tmp_path.iterdir())  # so that the next try finds nothing in its way


def test_a_folder_that_holds_something_is_not_written_over(tiny_checkpoint, license_file, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        hub.write_hub_folder(tiny_checkpoint, tmp_path, REPO_ID, license_file=license_file)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(FileExistsError, match=r"mine\.txt is a file"):
        hub.write_hub_folder(tiny_checkpoint, tmp_path / "mine.txt", REPO_ID, license_file=license_file)


def test_an_empty_folder_is_written_to_in_its_place(tiny_checkpoint, license_file, tmp_path, monkeypatch):
    """It may be the one that somebody is in, or a link."""
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path / "real")
    with pytest.raises(ValueError, match="license_file"):
        hub.write_hub_folder(tiny_checkpoint, ".", REPO_ID)
    assert not list((tmp_path / "real").iterdir())
    hub.write_hub_folder(tiny_checkpoint, tmp_path / "link", REPO_ID, license_file=license_file)
    assert Path("model.safetensors").is_file() and (tmp_path / "real").stat().st_mode & 0o777 == 0o700


def test_the_bundled_checkpoint_brings_its_terms_training_and_scores(tmp_path):
    write_hub_folder("street", tmp_path / "out", "owner/street")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    record = json.loads((BUNDLED["street"] / "evaluation.json").read_text())
    ours = [row for row in record["results"] if row["system"] == "street"]
    scores = {
        (
            result.dataset_split,
            result.dataset_name.split("(")[1].split(",")[0],
            result.metric_type,
            result.metric_value,
        )
        for result in card.data.eval_results
    }
    for row in ours:
        assert (row["split"], row["domain"], "psnr", round(row["hole_psnr"], 4)) in scores
    assert "None were given" not in card.content
    assert first_paragraph(BUNDLED["street"] / "TRAINING.md") in card.content
    for name in ("LICENSE", "TRAINING.md", "evaluation.json"):
        assert (tmp_path / "out" / name).read_bytes() == (BUNDLED["street"] / name).read_bytes()


def test_findings_beside_the_weights_come_on_the_card(tiny_checkpoint, license_file, tmp_path):
    folder = tmp_path / "source"
    shutil.copytree(tiny_checkpoint, folder)
    curve = {"risk": [0.1, 0.125, 0.3, 0.4], "best_risk": [0.1, 0.11, 0.2, 0.4], "blind_risk": [0.4] * 4}
    figure = {"n": 4, "pearson": -0.5, "spearman": -0.61, "partial_given_texture": -0.32, "risk_coverage": curve}
    expected = {"spearman": 0.55, "partial_given_texture": 0.21, "bias": -0.0124}
    expected["risk_coverage"] = curve | {"risk": [0.1, 0.115, 0.3, 0.4]}
    calibration = {"accuracy": 0.805, "mean_confidence": 0.9, "expected_calibration_error": 0.0954}
    record = {"set": {"split": "report", "masks": "centre-96"}}
    confidence = record | {
        "figure_8": {"town": figure | {"expected_error": expected}, "wood": figure | {"expected_error": expected}},
        "calibration": {"town": calibration, "wood": {}},
    }
    (folder / "confidence.json").write_text(json.dumps(confidence))
    confidence["set"] = {"split": "dev", "masks": "irregular-30-40"}
    confidence["figure_8"] = {
        "town": figure | {"spearman": -0.44, "expected_error": expected | {"spearman": 0.83}},
        "wood": figure | {"spearman": -0.33, "expected_error": None},
    }
    (folder / "confidence_irregular.json").write_text(json.dumps(confidence))
    share = {"value": 0.523, "interval": None}
    asked = {"sky": {"pixels": 9, "as_asked": share, "anyway": {"value": None, "interval": None}}}
    truth = dict.fromkeys(("true_told", "true_free", "true_photo"), share)
    prompts = record | {
        "segmenter": {"name": "deeplab"},
        "prompts": {"town": {"n": 4, "asked": asked, "truth": truth}},
    }
    (folder / "prompts.json").write_text(json.dumps(prompts))
    text = (write_hub_folder(folder, tmp_path / "out", REPO_ID, license_file=license_file) / "README.md").read_text()
    assert (
        "| town | report | centre-96 | 4 | -0.61 | -0.32 | 0.125 / 0.110 / 0.400 | 80.5 % | 90.0 % | 0.095 |" in text
    )
    unlabelled = "| wood | report | centre-96 | 4 | -0.61 | -0.32 | 0.125 / 0.110 / 0.400 |  | |  |"
    assert unlabelled in text
    assert "| town | report | centre-96 | 4 | 0.55 | 0.21 | 0.115 / 0.110 / 0.400 | -0.012 |" in text
    assert (
        "| town | dev | irregular-30-40 | 4 | -0.44 |" in text
        and "| town | dev | irregular-30-40 | 4 | 0.83 |" in text
    )
    assert "| town | 52.3 % | 52.3 % | 52.3 % |" in text
    assert "| town | 4 | sky | 52.3 % |  |  |" in text and "(`deeplab`)" in text
    assert "| wood | dev | irregular-30-40 | 4 | -0.33 |" in text and text.count("| wood | dev |") == 1
    assert (tmp_path / "out" / "prompts.json").is_file()
    (folder / "confidence_other.json").write_text(json.dumps(confidence | {"weights_sha256": "of another network"}))
    with pytest.raises(ValueError, match="confidence_other.json in .* are not of the same weights"):
        write_hub_folder(folder, tmp_path / "mixed", REPO_ID, license_file=license_file)
    plain = write_hub_folder(tiny_checkpoint, tmp_path / "plain", REPO_ID, license_file=license_file) / "README.md"
    assert "confidence mean something" not in plain.read_text()


def test_a_loaded_network_keeps_the_terms_of_its_weights(tmp_path):
    model = SGENetModel.from_pretrained(BUNDLED["street"])
    write_hub_folder(model, tmp_path / "out", "owner/street", tags=["tuned"])
    assert (tmp_path / "out" / "LICENSE").read_bytes() == (BUNDLED["street"] / "LICENSE").read_bytes()
    assert not (tmp_path / "out" / "evaluation.json").exists(), "the weights in memory may be others"
    assert "tuned" in ModelCard.load(tmp_path / "out" / "README.md").data.tags


def test_a_file_of_several_checkpoints_is_no_ones_result(tmp_path):
    rows = [{"system": name, "hole_psnr": 1.0, "hole_mean_iou": 0.5} for name in ("one", "two")]
    (tmp_path / "evaluation.json").write_text(json.dumps({"results": rows}))
    assert results_of(tmp_path / "evaluation.json") == []
    assert results_of(tmp_path / "missing.json") == []


def test_a_network_in_memory_can_be_published(tiny_model, license_file, tmp_path):
    out = hub.write_hub_folder(tiny_model, tmp_path / "out", REPO_ID, license_file=license_file, results=[RESULT])
    loaded = SGENetModel.from_pretrained(out)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert SGENetImageProcessor.from_pretrained(out).model_input_names == ["pixel_values", "mask"]


@pytest.mark.parametrize(
    ("switches", "name"),
    [
        ({}, "SGE-Net"),
        ({"confidence_evaluation": False}, "SG-Net"),
        ({"confidence_evaluation": False, "semantic_guidance": False}, "Base-Net"),
    ],
)
def test_the_card_describes_this_network(switches, name):
    config = SGENetConfig(widths=(4, 8, 8, 16, 16), id2label={0: "sky", 1: "tree"}, tau_reading="quantile", **switches)
    model = SGENetModel(config)
    card = hub.render_model_card(model, REPO_ID, license_text=LICENSE_TEXT, results=[RESULT])
    assert f"| network | {name} |" in card.text
    assert f"| parameters | {model.num_parameters():,} |" in card.text
    assert "| classes | sky, tree |" in card.text
    assert ("`quantile`, proportions" in card.text) == config.confidence_evaluation
    assert "| CamVid | report | hole PSNR (dB) | 14.5 |" in card.text
    assert [result.metric_value for result in card.data.eval_results] == [14.5]


def python_blocks(markdown: str) -> list[str]:
    """The Python examples of a Markdown text, in order."""
    return [block.split("```")[0] for block in markdown.split("```python\n")[1:]]


def truncate_weights(folder: Path):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def fill_weights_with_garbage(folder: Path):
    (folder / "model.safetensors").write_bytes(b"not weights at all" * 100)


def remove_weights(folder: Path):
    (folder / "model.safetensors").unlink()


def remove_config(folder: Path):
    (folder / "config.json").unlink()


def break_config(folder: Path):
    (folder / "config.json").write_text("{ this is not JSON")


def mistype_config(folder: Path):
    change_config(folder, image_size="big")


def change_shapes(folder: Path):
    change_config(folder, widths=[4, 8, 8, 16, 24])


def change_model_type(folder: Path):
    change_config(folder, model_type="segformer")


def remove_key(folder: Path):
    tensors = load_file(folder / "model.safetensors")
    del tensors[sorted(tensors)[0]]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("load", [SGENetModel.from_pretrained, load_model], ids=["from_pretrained", "load_model"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate_weights, "incomplete|truncated|damaged|not fully covered"),
        (fill_weights_with_garbage, "header|damaged"),
        (remove_weights, "model.safetensors"),
        (remove_config, "config.json"),
        (break_config, "JSON"),
        (mistype_config, "image_size"),
        (change_shapes, "mismatch|shape"),
        (remove_key, "missing|lacks"),
        (change_model_type, "model.type"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_damaged_checkpoint_ends_in_a_clear_error(tiny_checkpoint, tmp_path, load, damage, message):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_checkpoint, folder)
    damage(folder)
    with pytest.raises(Exception, match=f"(?i){message}"):
        load(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises((OSError, ValueError), match="no-such-folder"):
        load_model(tmp_path / "no-such-folder")


def test_bundled_weights_are_small_on_disk_and_float32_in_memory(tiny_model, tmp_path):
    (tmp_path / "LICENSE").write_text("terms")
    hub.write_bundled_folder(tiny_model, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "LICENSE",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert "auto_map" not in (tmp_path / "config.json").read_text()
    loaded = load_model(tmp_path, device="cpu")
    for name, value in tiny_model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], value.half().float())


def test_other_systems_are_carried_the_same_way(tmp_path):
    torch.manual_seed(0)
    GatedConvModel(GatedConvConfig(width=8)).save_pretrained(tmp_path / "final")
    hub.write_bundled_folder(tmp_path / "final", tmp_path / "carried")
    before, after = (load_model(tmp_path / name, device="cpu", network=AutoModel) for name in ("final", "carried"))
    assert type(after) is GatedConvModel
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value.half().float())
