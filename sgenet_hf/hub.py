"""Publishing a checkpoint: a folder that anybody can load with `trust_remote_code=True`, and its way to the Hub.

`PreTrainedModel.push_to_hub` writes a generic card and leaves out the processor and the licence of the weights. Here
one commit holds everything: weights, configuration, processor, the code they need, the licence file and our card.
"""

import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from safetensors.torch import save_file
from transformers.dynamic_module_utils import get_relative_import_files

from .configuration_sgenet import SGENetConfig
from .image_processing_sgenet import SGENetImageProcessor
from .modeling_sgenet import SGENetModel
from .pipeline import BUNDLED, load_model


CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
CHECKPOINT_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json", "LICENSE")
MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_sgenet.SGENetConfig",
    "AutoModel": "modeling_sgenet.SGENetModel",
    "AutoModelForImageToImage": "modeling_sgenet.SGENetModel",
}
PROCESSOR_AUTO_MAP = {"AutoImageProcessor": "image_processing_sgenet.SGENetImageProcessor"}


def network_name(config: SGENetConfig) -> str:
    """The paper's name for the network that a configuration describes."""
    if not config.semantic_guidance:
        return "Base-Net"
    return "SGE-Net" if config.confidence_evaluation else "SG-Net"


def render_model_card(
    model: SGENetModel,
    repo_id: str,
    *,
    license_text: str,
    license_name: str = "research-only-weights",
    training_data: str | None = None,
    results: Sequence[EvalResult] = (),
) -> ModelCard:
    """Fills `model_card.md`.

    Args:
        model: What the card describes; classes, sizes and the reading of tau come from its configuration.
        repo_id: Where the weights will be, as `owner/name`.
        license_text: Terms of the weights, quoted in full.
        license_name: Short name of those terms for the metadata (`license: other`).
        training_data: A sentence or more on what the weights were trained on.
        results: Scores for the table and the metadata's `model-index`.
    """
    model_name = repo_id.split("/")[-1]
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-to-image",
        license="other",
        license_name=license_name,
        license_link="LICENSE",
        tags=["image-inpainting", "semantic-segmentation", "sgenet", "custom_code"],
        model_name=model_name,
        eval_results=list(results) or None,
    )
    return ModelCard.from_template(
        card_data,
        template_str=CARD_TEMPLATE.read_text(encoding="utf-8"),
        model_name=model_name,
        repo_id=repo_id,
        network=network_name(model.config),
        parameters=model.num_parameters(),
        config=model.config,
        classes=[model.config.id2label[index] for index in range(model.config.num_labels)],
        training_data=training_data
        or "What these weights were trained on, and what follows from it, is in their terms.",
        license_text=license_text.strip(),
        results=results,
    )


def write_hub_folder(
    source: SGENetModel | str | os.PathLike,
    out: str | os.PathLike,
    repo_id: str,
    *,
    license_file: str | os.PathLike | None = None,
    license_name: str = "research-only-weights",
    training_data: str | None = None,
    results: Sequence[EvalResult] = (),
) -> Path:
    """Writes everything that a published checkpoint holds. The weights of a folder are copied, not converted.

    Args:
        source: A network, the name of a bundled checkpoint, or a folder that `save_pretrained` wrote.
        out: Folder to write to; made if missing, and must be empty.
        repo_id: The name that the card tells its readers to load.
        license_file: Terms of the weights. May be left out where `source` is a folder that holds a LICENSE.
        license_name: Short name of those terms.
        training_data: See [`render_model_card`].
        results: See [`render_model_card`].

    Returns:
        `out`.

    Raises:
        FileExistsError: If `out` holds anything already.
        ValueError: If nothing says under which terms the weights may be used.
        OSError: If `source` is no complete checkpoint, or no folder.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name a new folder for the published checkpoint.")

    if isinstance(source, SGENetModel):
        model = source
        model.save_pretrained(out)
    else:
        folder = Path(BUNDLED.get(os.fspath(source), source))
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder: give a network, a bundled name or a folder with weights.")
        model = load_model(folder, device="cpu")  # what cannot be loaded is not published
        for pattern in CHECKPOINT_FILES:
            for file in folder.glob(pattern):
                shutil.copyfile(file, out / file.name)
    if not (out / "preprocessor_config.json").exists():
        SGENetImageProcessor().save_pretrained(out)
    if license_file is not None:
        shutil.copyfile(license_file, out / "LICENSE")
    if not (out / "LICENSE").exists():
        raise ValueError(
            "Nothing says under which terms these weights may be used: put a LICENSE beside them or give "
            "`license_file`. Weights follow the terms of the data that they were trained on."
        )

    for class_ in (SGENetModel, SGENetImageProcessor):
        module_file = inspect.getfile(class_)
        for file in (module_file, *get_relative_import_files(module_file)):
            shutil.copyfile(file, out / Path(file).name)
    _add_auto_map(out / "config.json", MODEL_AUTO_MAP)
    _add_auto_map(out / "preprocessor_config.json", PROCESSOR_AUTO_MAP)

    card = render_model_card(
        model,
        repo_id,
        license_text=(out / "LICENSE").read_text(encoding="utf-8"),
        license_name=license_name,
        training_data=training_data,
        results=results,
    )
    card.save(out / "README.md")
    return out


def push_to_hub(
    source: SGENetModel | str | os.PathLike,
    repo_id: str,
    *,
    license_file: str | os.PathLike | None = None,
    license_name: str = "research-only-weights",
    training_data: str | None = None,
    results: Sequence[EvalResult] = (),
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload SGE-Net",
    create_pr: bool = False,
    token: str | bool | None = None,
) -> str:
    """Publishes a checkpoint in one commit, with our card in place of a generated one.

    Args:
        source: A network, the name of a bundled checkpoint, or a folder that `save_pretrained` wrote.
        repo_id: `owner/name` on the Hub; made if missing.
        license_file: See [`write_hub_folder`].
        license_name: See [`write_hub_folder`].
        training_data: See [`render_model_card`].
        results: See [`render_model_card`].
        private: Whether a repository that is made here is private.
        revision: Branch to commit to.
        commit_message: Title of the commit.
        create_pr: Opens a pull request in place of a commit to the branch.
        token: A Hub token; by default the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        The address of the commit.

    Raises:
        ValueError: If nothing says under which terms the weights may be used.
        OSError: If `source` is no complete checkpoint.
    """
    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        write_hub_folder(
            source,
            folder,
            repo_id,
            license_file=license_file,
            license_name=license_name,
            training_data=training_data,
            results=results,
        )
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # completes a name without owner
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            create_pr=create_pr,
        )
    return str(commit.commit_url)


def _add_auto_map(config_file: Path, auto_map: dict[str, str]) -> None:
    """Tells the Auto classes where in the folder's own code their class is."""
    values = json.loads(config_file.read_text(encoding="utf-8"))
    values["auto_map"] = auto_map
    config_file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_bundled_folder(source: SGENetModel | str | os.PathLike, out: str | os.PathLike) -> Path:
    """Writes weights in the form in which the package carries them: float16 on disk, loaded as float32, no code.

    Whatever else `out` holds (its LICENSE, its evaluation) stays.

    Args:
        source: A network, or a folder such as a training run's `final`.
        out: Folder to write `config.json`, `preprocessor_config.json` and `model.safetensors` to.

    Raises:
        OSError: If `source` is no complete checkpoint.
    """
    model = source if isinstance(source, SGENetModel) else load_model(source, device="cpu")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    for part, file in ((model.config, "config.json"), (SGENetImageProcessor(), "preprocessor_config.json")):
        values = json.loads(part.to_json_string())
        values.pop("auto_map", None)
        if file == "config.json":
            values |= {"architectures": [type(model).__name__], "dtype": "float32"}
        (out / file).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out
