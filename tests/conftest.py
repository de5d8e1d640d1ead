"""Shared fixtures: a tiny network of the real classes, its checkpoint, seeds, and an environment without a network."""

import atexit
import os
import random
import shutil
import tempfile
from pathlib import Path


ROOT = Path(__file__).resolve().parent.parent

# Libraries read these when they are imported, so they are set before anything else is.
_HF_HOME = tempfile.mkdtemp(prefix="sgenet-tests-")
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)
os.environ |= {
    "HF_HOME": _HF_HOME,
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    # Processes that tests start, in whatever folder, run the code that is tested here and not an installed copy.
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
}

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def _seeds():
    """Every test starts from the same random state, whatever ran before it.

    Not from 0, which fixtures of modules and sessions use: a test's own network must differ from theirs.
    """
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def test_data_folder() -> Path:
    """Folder with data sets, photos and weights that are not part of the project; tests that need it skip without."""
    folder = os.environ.get("SGENET_TEST_DATA")
    if not folder:
        pytest.skip("SGENET_TEST_DATA does not name a folder with the street data and photos")
    if not Path(folder).is_dir():
        pytest.skip(f"SGENET_TEST_DATA names {folder}, which is not a folder")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator for masks and pictures."""
    return np.random.default_rng(0)


@pytest.fixture
def tiny_config():
    """The smallest configuration that has every part of the network."""
    from sgenet_hf import SGENetConfig

    return SGENetConfig(
        widths=(4, 8, 8, 16, 16), num_labels=4, noise_channels=2, error_estimation=True, contextual_attention=True
    )


@pytest.fixture
def tiny_model(tiny_config):
    """A network of the real classes with random weights, in eval mode."""
    from sgenet_hf import SGENetModel

    return SGENetModel(tiny_config).eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory) -> Path:
    """Folder with `config.json`, `model.safetensors` and `preprocessor_config.json`; treat it as read-only."""
    from sgenet_hf import SGENetConfig, SGENetImageProcessor, SGENetModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    config = SGENetConfig(
        widths=(4, 8, 8, 16, 16), num_labels=4, noise_channels=2, error_estimation=True, contextual_attention=True
    )
    SGENetModel(config).save_pretrained(folder)
    SGENetImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture
def photo(rng) -> Image.Image:
    """An RGB photo of 96x80 pixels with smooth colours and some noise."""
    rows, columns = np.mgrid[0:80, 0:96]
    colours = np.stack([rows * 3, columns * 2, 255 - rows * 2], axis=-1) % 256
    noise = rng.integers(-8, 9, colours.shape)
    return Image.fromarray((colours + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture
def mask() -> Image.Image:
    """A mask for `photo`: white = hole, a box of 30x24 pixels."""
    hole = np.zeros((80, 96), np.uint8)
    hole[28:52, 33:63] = 255
    return Image.fromarray(hole)
