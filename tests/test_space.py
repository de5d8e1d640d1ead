"""The Space's repository: what `sgenet deploy-space` sends to a Hub, and that it is all that the page needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from huggingface_hub import SpaceCard

from sgenet_hf import EdgeConnectConfig, EdgeConnectModel, GatedConvConfig, GatedConvModel
from sgenet_hf.cli import main
from sgenet_hf.space import write_space_folder


REPO_ID = "street-lab/sge-net-page"
# Run in the folder of a deployed Space: its own files start the page, and wrong settings end in a message.
CHECK = """
import importlib.util
import app, sgenet_hf

print(sgenet_hf.__file__)
assert app.demo and (app.LOOK / "page.css").is_file() and (app.LOOK / "page.js").is_file()

def stops(work, message):
    try:
        work()
    except SystemExit as stop:
        assert message in str(stop), stop
    else:
        raise AssertionError(f"nobody said {message}")

assert app.allowed_networks("a/tiny", "b=c/d, e=f") == {"tiny": "a/tiny", "b": "c/d", "e": "f"}
stops(lambda: app.allowed_networks("tiny", "runs/final"), "is not NAME=CHECKPOINT")
stops(lambda: app.allowed_networks("tiny", "tiny=other"), "a name of its own")
app.os.environ["SGENET_QUEUE_SIZE"] = "many"
stops(lambda: app.setting("SGENET_QUEUE_SIZE", 16), "give a whole number")
if importlib.util.find_spec("mcp") is None:
    stops(app.main, "gradio[mcp]")
"""


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path) -> Path:
    """A folder with weights and their terms."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "final"))
    (folder / "LICENSE").write_text("for tests only")
    return folder


@pytest.fixture
def deployed(checkpoint, tmp_path):
    """The local Hub after `sgenet deploy-space` ran twice; the second run leaves a network out."""
    with HubServer() as hub:
        for options in (["--compare", f"other={checkpoint}"], []):
            result = subprocess.run(
                [sys.executable, "-m", "sgenet_hf.cli", "deploy-space", REPO_ID, "--model", str(checkpoint), *options],
                env=os.environ | hub.environment(tmp_path / "home"),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert result.returncode == 0, result.stderr[-3000:]
            assert f"spaces/{REPO_ID}" in result.stdout
        yield hub


def test_a_deployed_space_holds_what_the_page_needs_and_nothing_else(deployed, checkpoint, project_root, tmp_path):
    repository = deployed.repositories[REPO_ID]
    assert repository.kind == "space"
    (_, before), (_, files) = repository.commits[-2:]
    assert before.keys() - files.keys() == {
        f"checkpoints/other/{name}"
        for name in ("config.json", "model.safetensors", "preprocessor_config.json", "LICENSE")
    }
    assert repository.variables == {"SGENET_MODEL": "checkpoints/final", "SGENET_COMPARE": ""}
    outside = {name for name in files if not name.startswith(("sgenet_hf/", "checkpoints/final/"))}
    assert outside - {".gitattributes"} == {"README.md", "app.py", "requirements.txt", "LICENSE"}
    assert not [name for name in files if name.startswith("sgenet_hf/checkpoints")], "the bundled weights are not used"

    folder = tmp_path / "space"
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    settings = SpaceCard.load(folder / "README.md").data
    assert (settings.sdk, settings.app_file) == ("gradio", "app.py")
    assert (folder / settings.license_link).read_text() == "for tests only"

    pytest.importorskip("gradio")
    environment = os.environ | repository.variables | {"PYTHONPATH": "", "SGENET_MCP": "1"}
    result = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.startswith(str(folder)), "the Space's own copy of the package was tested"


def test_bundled_weights_travel_and_hub_ids_are_fetched_there(tmp_path):
    settings = write_space_folder(tmp_path / "space", "street", {"theirs": "some-lab/base-net"})
    assert settings == {"SGENET_MODEL": "street", "SGENET_COMPARE": "theirs=some-lab/base-net"}
    weights = tmp_path / "space" / "sgenet_hf" / "checkpoints" / "street"
    assert {file.name for file in weights.iterdir()} == {
        "LICENSE",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert SpaceCard.load(tmp_path / "space" / "README.md").data.license_link == "sgenet_hf/checkpoints/street/LICENSE"


def test_what_cannot_be_deployed_is_said(checkpoint, tmp_path, capsys):
    assert main(["deploy-space", REPO_ID, "--model", "no-such-network"]) == 2
    assert "no folder and no Hub id" in capsys.readouterr().err
    assert main(["deploy-space", REPO_ID, "--model", str(checkpoint), "--compare", f"final={checkpoint}"]) == 2
    assert "'final' cannot name a second network" in capsys.readouterr().err
    for name, network in {
        "gated": GatedConvModel(GatedConvConfig(width=8)),
        "edges": EdgeConnectModel(EdgeConnectConfig(width=4, num_blocks=1)),
    }.items():
        network.save_pretrained(tmp_path / name)
        shutil.copy(checkpoint / "LICENSE", tmp_path / name)
    assert main(["deploy-space", REPO_ID, "--model", str(tmp_path / "gated")]) == 2
    assert "model type 'sgenet'" in capsys.readouterr().err
    assert main(["deploy-space", REPO_ID, "--model", str(checkpoint), "--compare", f"e={tmp_path / 'edges'}"]) == 2
    assert "needs scikit-image" in capsys.readouterr().err
    (checkpoint / "LICENSE").unlink()
    (checkpoint.parent / "LICENSE").write_text("of something else")
    assert main(["deploy-space", REPO_ID, "--model", str(checkpoint)]) == 2
    assert "holds no LICENSE" in capsys.readouterr().err
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        write_space_folder(tmp_path)
