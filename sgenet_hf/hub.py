"""Publishing a checkpoint: a folder that anybody can load with `trust_remote_code=True`, and its way to the Hub.

`PreTrainedModel.push_to_hub` writes a generic card and leaves out the processor and the licence of the weights. Here
one commit holds everything: weights, configuration, processor, the code they need, the licence file and our card.
"""

import inspect
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from safetensors.torch import save
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import cached_file

from .configuration_sgenet import SGENetConfig
from .image_processing_sgenet import SGENetImageProcessor
from .modeling_sgenet import SGENetModel
from .pipeline import BUNDLED, load_model


CARD_TEMPLATE = Path(__file__).with_name("model_card.md")
CHECKPOINT_FILES = (
    "config.json",
    "preprocessor_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "LICENSE",
    "TRAINING.md",
    "evaluation.json",
    "confidence*.json",
    "prompts.json",
)
SCORES = {  # names in a result file of eval/run.py -> type and name on the card
    "hole_psnr": ("psnr", "PSNR in the hole, dB"),
    "hole_ssim": ("ssim", "SSIM in the hole"),
    "hole_sharpness_ratio": ("sharpness_ratio", "sharpness in the hole, fill over truth"),
    "FD-mobilenet_v2": ("feature_distance", "Frechet distance of MobileNetV2 features (not FID)"),
    "hole_mean_iou": ("mean_iou", "mean IoU in the hole"),
}
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
    findings: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
) -> ModelCard:
    """Fills `model_card.md`.

    Args:
        model: What the card describes; classes, sizes and the reading of tau come from its configuration.
        repo_id: Where the weights will be, as `owner/name`.
        license_text: Terms of the weights, quoted in full.
        license_name: Short name of those terms for the metadata (`license: other`).
        training_data: A sentence or more on what the weights were trained on.
        results: Scores for the table and the metadata's `model-index`.
        findings: See [`findings_in`].
        tags: More tags for the metadata.
    """
    model_name = repo_id.split("/")[-1]
    card_data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-to-image",
        license="other",
        license_name=license_name,
        license_link="LICENSE",
        tags=["image-inpainting", "semantic-segmentation", "sgenet", "custom_code", *tags],
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
        findings=findings or {},
    )


@contextmanager
def whole_folder(path: str | os.PathLike, what: str) -> Iterator[Path]:
    """Give a folder to write to; when the block ends well it is `path`, else nothing is left of it.

    A new one is written under another name beside `path`. An empty one that is there may be a mount, a link or the
    folder that somebody is in: it is written to in its place, and emptied again if the block fails.

    Args:
        path: Must be new, or an empty folder.
        what: Is to be in it, for the message.

    Raises:
        FileExistsError: If something is there.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.iterdir()):
            raise FileExistsError(f"{path} is not empty; name a new folder for {what}.")
        try:
            yield path
        except BaseException:
            for written in path.iterdir():
                shutil.rmtree(written) if written.is_dir() else written.unlink()
            raise
        return
    if path.exists():
        raise FileExistsError(f"{path} is a file; name a new folder for {what}.")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_hub_folder(
    source: SGENetModel | str | os.PathLike,
    out: str | os.PathLike,
    repo_id: str,
    *,
    license_file: str | os.PathLike | None = None,
    license_name: str = "research-only-weights",
    training_data: str | None = None,
    results: Sequence[EvalResult] = (),
    tags: Sequence[str] = (),
    max_shard_size: int | str = "50GB",
) -> Path:
    """Writes everything that a published checkpoint holds. The weights of a folder are copied, not converted.

    Args:
        source: A network, the name of a bundled checkpoint, or a folder that `save_pretrained` wrote.
        out: Folder to write to; made if missing, and must be empty.
        repo_id: The name that the card tells its readers to load.
        license_file: Terms of the weights. May be left out where `source` is a folder that holds a LICENSE, or a
            network that was loaded from one.
        license_name: Short name of those terms.
        training_data: See [`render_model_card`]; by default the first paragraph of a TRAINING.md in the folder.
        results: See [`render_model_card`]; by default those of an `evaluation.json` in the folder (`eval/run.py`).
        tags: See [`render_model_card`].
        max_shard_size: Of a network's weight files; a folder's are copied as they are.

    Returns:
        `out`.

    Raises:
        FileExistsError: If `out` holds anything already.
        ValueError: If nothing says under which terms the weights may be used, or `source` is another class' network.
        OSError: If `source` is no complete checkpoint, or no folder.
    """
    with whole_folder(out, "the published checkpoint") as folder:
        if isinstance(source, PreTrainedModel) and not isinstance(source, SGENetModel):
            raise ValueError(
                f"Only SGE-Net's own classes are published, not {type(source).__module__}.{type(source).__name__}: "
                "load the weights with this package, or publish the folder."
            )
        if isinstance(source, SGENetModel):
            model = source
            model.save_pretrained(folder, max_shard_size=max_shard_size)
            # Whatever was done to the weights since they were loaded, the terms of their data hold.
            for name in ("LICENSE", "preprocessor_config.json"):
                if file := file_beside(model.name_or_path, name):
                    shutil.copyfile(file, folder / name)
        else:
            given = Path(BUNDLED.get(os.fspath(source), source))
            if not given.is_dir():
                raise FileNotFoundError(
                    f"{given} is no folder: give a network, a bundled name or a folder with weights."
                )
            model = load_model(given, device="cpu", network=SGENetModel)  # what cannot be loaded is not published
            for pattern in CHECKPOINT_FILES:
                for file in given.glob(pattern):
                    shutil.copyfile(file, folder / file.name)
            training_data = training_data or first_paragraph(folder / "TRAINING.md")
            results = results or results_of(folder / "evaluation.json")
        if not (folder / "preprocessor_config.json").exists():
            SGENetImageProcessor().save_pretrained(folder)
        if license_file is not None:
            shutil.copyfile(license_file, folder / "LICENSE")
        if not (folder / "LICENSE").exists():
            raise ValueError(
                "Nothing says under which terms these weights may be used: put a LICENSE beside them or give "
                "`license_file`. Weights follow the terms of the data that they were trained on."
            )

        for class_ in (SGENetModel, SGENetImageProcessor):
            module_file = inspect.getfile(class_)
            for file in (module_file, *get_relative_import_files(module_file)):
                shutil.copyfile(file, folder / Path(file).name)
        _add_auto_map(folder / "config.json", MODEL_AUTO_MAP)
        _add_auto_map(folder / "preprocessor_config.json", PROCESSOR_AUTO_MAP)

        card = render_model_card(
            model,
            repo_id,
            license_text=(folder / "LICENSE").read_text(encoding="utf-8"),
            license_name=license_name,
            training_data=training_data,
            results=results,
            findings=findings_in(folder),
            tags=tags,
        )
        card.save(folder / "README.md")
    return Path(out)


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
    commit_description: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
    tags: Sequence[str] = (),
    max_shard_size: int | str = "50GB",
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
        commit_description: Text of the commit.
        create_pr: Opens a pull request in place of a commit to the branch.
        token: A Hub token; by default the one of `hf auth login` or `HF_TOKEN`.
        tags: See [`render_model_card`].
        max_shard_size: See [`write_hub_folder`].

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
            tags=tags or (),
            max_shard_size=max_shard_size,
        )
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # completes a name without owner
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=commit_message,
            commit_description=commit_description,
            create_pr=create_pr,
        )
    return str(commit.commit_url)


def file_beside(checkpoint: str | os.PathLike, name: str) -> Path | None:
    """A file beside the weights of a bundled name, folder or Hub id; None if there is no such file or checkpoint."""
    if not checkpoint:
        return None
    folder = Path(BUNDLED.get(os.fspath(checkpoint), checkpoint))
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        found = cached_file(os.fspath(checkpoint), name, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such repository, or no name of one
        return None
    return None if found is None else Path(found)


def first_paragraph(file: Path) -> str | None:
    """The first paragraph of a Markdown file below its title, or None without one."""
    if not file.is_file():
        return None
    paragraphs = file.read_text(encoding="utf-8").strip().split("\n\n")
    return next((paragraph for paragraph in paragraphs if not paragraph.startswith("#")), None)


def results_of(file: Path) -> list[EvalResult]:
    """The scores of the one checkpoint in a result file of `eval/run.py`, per data set, split and source of photos.

    Scores of classical fills, beside which ours stand in the file, are left out; so is everything if the file holds
    several checkpoints. Without a file there are none.
    """
    if not file.is_file():
        return []
    record = json.loads(file.read_text(encoding="utf-8"))
    rows = [row for row in record["results"] if "hole_psnr" in row and "hole_mean_iou" in row]
    if len({row["system"] for row in rows}) != 1:
        return []
    return [
        EvalResult(
            task_type="image-to-image",
            dataset_type=row["data"],
            dataset_name=f"{row['data']} ({row['domain']}, N = {row['n']}, hole {row['masks']})",
            # What tells entries of one data set and split apart; without it the Hub takes them for one.
            dataset_config=f"{row['domain']}, {row['masks']}",
            dataset_split=row["split"],
            metric_type=kind,
            metric_name=name,
            metric_value=round(row[score], 4),
        )
        for row in rows
        for score, (kind, name) in SCORES.items()
        if score in row
    ]


def findings_in(folder: Path) -> dict[str, Any]:
    """What result files beside the weights say on the network's confidence and on prompts; {} without them.

    Args:
        folder: May hold `confidence.json` and others that begin so (each a `figures.json` of `eval/paper_figures.py`,
            for holes of other kinds), and `prompts.json` (`eval/prompts.py`).

    Returns:
        `confidence`: `rows`, one for each list, kind of hole and source of photos: the correlations, the L1 of the
            surest half and the calibration; `expected_error` in it the same for the error that the network expects, if
            it does.
        `prompts`: set, segmenter, and by source of photos the shares read as asked.
    """
    found: dict[str, Any] = {}
    files = sorted(folder.glob("confidence*.json"))
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    if len({record.get("weights_sha256") for record in records}) > 1:
        all_of_them = ", ".join(file.name for file in files)
        raise ValueError(
            f"{all_of_them} in {folder} are not of the same weights: make them anew, or remove those of others."
        )
    if records:
        found["confidence"] = {"rows": []}
    for record in records:
        for domain, figure in record["figure_8"].items():
            half = (figure["n"] - 1) // 2  # the surest half of the photos, rounded up
            risks = {name: figure["risk_coverage"][name][half] for name in ("risk", "best_risk", "blind_risk")}
            row = figure | risks | {"calibration": record["calibration"][domain]}
            if expected := figure.get("expected_error"):
                row["expected_error"] = expected | {"risk": expected["risk_coverage"]["risk"][half]}
            names = {"domain": domain, "split": record["set"]["split"], "masks": record["set"]["masks"]}
            found["confidence"]["rows"].append(names | row)
    if (file := folder / "prompts.json").is_file():
        record = json.loads(file.read_text(encoding="utf-8"))
        found["prompts"] = {"set": record["set"], "segmenter": record["segmenter"], "rows": record["prompts"]}
    return found


def _add_auto_map(config_file: Path, auto_map: dict[str, str]) -> None:
    """Tells the Auto classes where in the folder's own code their class is."""
    values = json.loads(config_file.read_text(encoding="utf-8"))
    values["auto_map"] = auto_map
    config_file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_bundled_folder(source: PreTrainedModel | str | os.PathLike, out: str | os.PathLike) -> Path:
    """Writes weights of any system in the form in which the project carries them: float16 on disk, loaded as float32,
    no code.

    Whatever else `out` holds (its LICENSE, its evaluation) stays.

    Args:
        source: A network, or a folder such as a training run's `final`.
        out: Folder to write `config.json`, `preprocessor_config.json` and `model.safetensors` to.

    Raises:
        OSError: If `source` is no complete checkpoint.
        ValueError: If a weight is no finite number of float16.
    """
    model = source if isinstance(source, PreTrainedModel) else load_model(source, device="cpu")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    if unfit := [name for name, value in weights.items() if not value.isfinite().all()]:
        raise ValueError(f"{', '.join(unfit[:3])} holds numbers that float16 cannot: weights above 65,504, or none.")
    # Not `save_file`, whose files only their owner may read.
    (out / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    for part, file in ((model.config, "config.json"), (SGENetImageProcessor(), "preprocessor_config.json")):
        values = json.loads(part.to_json_string())
        values.pop("auto_map", None)
        if file == "config.json":
            values |= {"architectures": [type(model).__name__], "dtype": "float32"}
        (out / file).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out
