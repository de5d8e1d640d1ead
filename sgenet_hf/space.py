"""Putting the page on the Hub as a Space: exactly the files that it needs, in one commit, and its settings.

A Space is a git repository whose README begins with its settings. The networks that it may load are bundled weights,
folders (both travel along) or Hub ids (the Space fetches them when it starts).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, SpaceCard

from .baseline_edgeconnect import EdgeConnectModel
from .hub import whole_folder
from .modeling_sgenet import SGENetModel
from .pipeline import BUNDLED, CheckpointError, load_model


PACKAGE = Path(__file__).resolve().parent
PACKAGE_FILES = ("*.py", "py.typed", "page.css", "page.js", "model_card.md")
CHECKPOINT_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "LICENSE")
INTRODUCTION = """
# SGE-Net inpainting

Paint over what should go from a photo; the network fills the hole from coarse to fine, names what it believes is
there, and shows where it doubts itself. An implementation of *Guidance and Evaluation: Semantic-Aware Image Inpainting
for Mixed Scenes* (Liao et al., ECCV 2020, [arXiv 2003.06877](https://arxiv.org/abs/2003.06877)).

The code is under the Apache License 2.0; the weights follow the terms of the photos that they were trained on.
"""


def write_space_folder(
    out: str | os.PathLike, model: str = "street", compare: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Writes everything that the Space's repository holds.

    Args:
        out: Folder to write to; made if missing, and must be empty.
        model: The page's network: a bundled name, a folder or a Hub id.
        compare: Name -> network, of those that visitors may compare it with.

    Returns:
        The Space's settings, as environment variables.

    Raises:
        FileExistsError: If `out` holds anything already.
        FileNotFoundError: If `app.py` is not beside the package.
        CheckpointError: If a folder is no complete checkpoint, or the page's is not of SGE-Net's family.
        ValueError: If a folder says nothing about the terms of its weights, a name cannot be one, or a network needs
            what the Space does not install.
    """
    project = PACKAGE.parent
    sources = [project / name for name in ("app.py", "requirements.txt", "LICENSE", "README.md")]
    if missing := [file.name for file in sources if not file.is_file()]:
        raise FileNotFoundError(
            f"{', '.join(missing)}: not beside the package. These are part of the project's folder, not of an "
            "installed package: clone the project and run `sgenet deploy-space` there."
        )
    with whole_folder(out, "the Space") as folder:
        for file in sources[:-1]:
            shutil.copyfile(file, folder / file.name)
        _copy(PACKAGE, folder / PACKAGE.name, PACKAGE_FILES)

        own_name = Path(model).resolve().name
        settings = {"SGENET_MODEL": _bring(model, folder, own_name, SGENetModel)}
        others = []
        for name, source in (compare or {}).items():
            if not re.fullmatch(r"[\w.-]+", name) or name == own_name:
                raise ValueError(f"{name!r} cannot name a second network: use letters, digits, dots and dashes.")
            others.append(f"{name}={_bring(source, folder, name)}")
        settings["SGENET_COMPARE"] = ",".join(others)

        card = SpaceCard.load(project / "README.md")
        terms = folder / settings["SGENET_MODEL"] / "LICENSE"
        if model in BUNDLED:
            terms = folder / PACKAGE.name / "checkpoints" / model / "LICENSE"
        card.data.license_link = (
            terms.relative_to(folder).as_posix() if terms.is_file() else f"https://huggingface.co/{model}"
        )
        card.text = INTRODUCTION
        card.save(folder / "README.md")
    return settings


def deploy_space(
    repo_id: str,
    *,
    model: str = "street",
    compare: Mapping[str, str] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
) -> str:
    """Makes or updates a Space.

    Args:
        repo_id: `owner/name` on the Hub; made if missing.
        model: See [`write_space_folder`].
        compare: See [`write_space_folder`].
        private: Whether a Space that is made here is private.
        token: A Hub token; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        The address of the Space.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        settings = write_space_folder(folder, model, compare)
        created = api.create_repo(repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
        for name, value in settings.items():
            api.add_space_variable(created.repo_id, name, value)
        api.upload_folder(
            repo_id=created.repo_id,
            repo_type="space",
            folder_path=folder,
            commit_message="Deploy the page",
            delete_patterns="*",  # what an older version needed and this one does not
        )
    return str(created)


def _bring(source: str, out: Path, name: str, network: Any = None) -> str:
    """Copies a network's files into the Space; returns how the page names it there. See `load_model` on `network`."""
    folder = BUNDLED.get(source, Path(source))
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
            raise CheckpointError(f"{source} is no bundled name ({', '.join(BUNDLED)}), no folder and no Hub id.")
        return source
    loaded = load_model(folder, device="cpu", network=network)  # what cannot be loaded is not deployed
    if isinstance(loaded, EdgeConnectModel):
        raise ValueError(f"{folder} is an EdgeConnect: it needs scikit-image, which the Space does not install.")
    if not (folder / "LICENSE").is_file():
        raise ValueError(f"{folder} holds no LICENSE: put the terms of the weights beside them.")
    if source in BUNDLED:
        _copy(folder, out / PACKAGE.name / "checkpoints" / source, CHECKPOINT_FILES)
        return source
    _copy(folder, out / "checkpoints" / name, CHECKPOINT_FILES)
    return f"checkpoints/{name}"


def _copy(source: Path, target: Path, patterns: tuple[str, ...]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for file in source.glob(pattern):
            shutil.copyfile(file, target / file.name)


__all__ = ["deploy_space", "write_space_folder"]
