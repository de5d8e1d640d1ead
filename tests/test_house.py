"""What the files around the code say is true: versions, pins, commands, links, licences; no traces of a machine."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from PIL import Image

import sgenet_hf
from sgenet_hf import cli
from sgenet_hf.training_arguments import parse_arguments


if sys.version_info >= (3, 11):
    import tomllib
else:  # Python 3.10 has no TOML reader of its own; pytest and mypy bring this one along there.
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
MANUALS = ("README.md", "docs/training.md", "docs/evaluation.md", "CONTRIBUTING.md")  # whose commands must exist
DOCUMENTS = (*MANUALS, "CHANGELOG.md", "eval/results/README.md", "eval/checkpoints/README.md")
NOT_OURS = (".git", ".venv", ".gradio", "_cache", "__pycache__", ".egg-info", "runs", "data", "outputs")
TEXT = {".py", ".md", ".txt", ".toml", ".yaml", ".yml", ".json", ".cff", ""}


def pins(file: str) -> dict[str, str]:
    """Package name -> version of the exact requirements in a file."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    return {canonical(item.name): str(item.specifier).removeprefix("==") for item in requirements}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def blocks(markdown: str, language: str) -> list[str]:
    """Fenced code blocks of one language."""
    return [block.split("```")[0] for block in markdown.split(f"```{language}\n")[1:]]


def shell_commands() -> list[list[str]]:
    """Each command of the shell blocks in the manuals, split into words, without leading VAR=value."""
    commands = []
    for name in MANUALS:
        for block in blocks((ROOT / name).read_text(encoding="utf-8"), "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                    words.pop(0)
                if words:
                    commands.append(words)
    return commands


def test_one_version_everywhere():
    version = PROJECT["version"]
    assert sgenet_hf.__version__ == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest and newest[1] == version


def test_every_direct_dependency_is_pinned_and_allowed():
    pinned = pins("constraints.txt")
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(text) for group in groups for text in group):
        if canonical(requirement.name) != "sgenet-hf":
            version = pinned[canonical(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement} does not allow the pinned {version}"


def test_the_space_installs_what_the_tests_run_with():
    pinned = pins("constraints.txt")
    for name, version in pins("requirements.txt").items():
        assert version.removesuffix("+cpu") == pinned[name], name
    needed = {canonical(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert needed <= pins("requirements.txt").keys()
    assert front_matter()["sdk_version"] == pinned["gradio"]


def test_one_ruff_everywhere():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    revision = next(repo["rev"] for repo in hooks if "ruff" in repo["repo"])
    assert revision == f"v{pins('constraints.txt')['ruff']}"
    assert f"ruff=={pins('constraints.txt')['ruff']}" in PROJECT["optional-dependencies"]["dev"]


def front_matter() -> dict:
    assert README.startswith("---\n")
    return yaml.safe_load(README.split("---\n")[1])


def test_the_readme_makes_a_space():
    values = front_matter()
    assert values["sdk"] == "gradio"
    assert (ROOT / values["app_file"]).is_file()
    assert values["license"] == "other", "code and weights have different terms; `license_name` says which"
    assert (ROOT / values["license_link"]).is_file()
    assert len(values["short_description"]) <= 60


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_pictures_lead_somewhere(document):
    file = ROOT / document
    text = file.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    for target in targets:
        if not target.startswith(("https://", "http://", "mailto:")):
            path, _, heading = target.partition("#")
            there = file.parent / path if path else file
            assert there.exists(), target
            assert not heading or heading in headings(there), target


def headings(document: Path) -> set[str]:
    """The anchors of a document, as GitHub and the Hub make them."""
    titles = re.findall(r"^#+ (.*)", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_the_commands_of_the_documents_exist(capsys, monkeypatch):
    """Make targets, subcommands and options of `sgenet`, recipes and scripts; what runs long is not run here."""
    monkeypatch.chdir(ROOT)
    for variable in ("SGENET_DATA", "SGENET_WEIGHTS", "SGENET_SEGMENTER"):  # recipes want to know where things are
        monkeypatch.setenv(variable, "somewhere")
    seen = set()
    for words in shell_commands():
        seen.add(words[0])
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= MAKE_TARGETS, words
        elif words[0] == "sgenet":
            check_sgenet(words[1:], capsys)
        if "train_accelerate.py" in words:
            parse_arguments(words[words.index("train_accelerate.py") + 1 :])  # fails for an unknown name
        for word in words:
            if word.endswith((".py", ".yaml")) and not word.startswith("-"):
                assert (ROOT / word).is_file(), " ".join(words)
    assert {"make", "sgenet", "python"} <= seen


def check_sgenet(arguments: list[str], capsys):
    """The subcommand and its options are in the real help text."""
    with pytest.raises(SystemExit) as stop:
        cli.main([arguments[0], "--help"])
    assert stop.value.code == 0, arguments
    help_text = capsys.readouterr().out
    for option in (word for word in arguments if word.startswith("-")):
        found = re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", help_text)
        assert found, f"sgenet {arguments[0]} has no {option}"


def test_the_python_examples_of_the_readme_run(tmp_path):
    examples = blocks(README, "python")
    assert len(examples) >= 4, "inpaint, model and processor, pipeline, publishing or training"
    elsewhere = ("push_to_hub", "gradio_client")  # those run in test_hub.py and test_app.py
    script = "\n".join(example for example in examples if not any(name in example for name in elsewhere))
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    photo, mask, filled = (np.asarray(Image.open(tmp_path / name)) for name in ("photo.jpg", "mask.png", "filled.png"))
    changed = (filled != photo).any(axis=-1)
    assert changed[mask > 0].mean() > 0.9 and not changed[mask == 0].any()


@pytest.mark.parametrize(
    ("module", "absent", "extra"), [("train_accelerate", "psutil", "[train]"), ("eval.run", "evaluate", "[eval]")]
)
def test_missing_extras_are_named(module, absent, extra):
    block = f"import sys; sys.modules[{absent!r}] = None; sys.path.insert(0, {str(ROOT)!r}); import {module}"
    result = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=120)
    assert result.returncode == 1 and f"pip install -c constraints.txt -e .{extra}" in result.stderr


def project_files() -> list[Path]:
    """Files of the project, without what .gitignore leaves out."""
    files: list[Path] = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if not name.endswith(NOT_OURS)]
        files += [Path(folder) / name for name in names if name not in (".git", ".DS_Store")]
    return files


def test_no_path_of_a_machine_is_in_the_project():
    folders = "|".join(["home", "Users", "root", "work", "opt", "mnt", "media", "scratch"])
    private = re.compile(rf"(?<![\w.\-:/])/(?:{folders})/\w")
    files = [file for file in project_files() if file.suffix in TEXT]
    assert {"pyproject.toml", "run", "modeling_sgenet.py", "LICENSE"} <= {file.name for file in files}
    for file in files:
        match = private.search(file.read_text(encoding="utf-8"))
        assert match is None, f"{file.relative_to(ROOT)} names {match and match[0]}..."


def test_the_code_is_apache_and_every_checkpoint_has_its_own_terms():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"].startswith("Apache-2.0 AND LicenseRef-")
    for name, folder in sgenet_hf.BUNDLED.items():
        terms = (folder / "LICENSE").read_text(encoding="utf-8")
        assert "research" in terms and "non-commercial" in terms
        assert (folder / "LICENSE").relative_to(ROOT).as_posix() in README, f"README does not name the terms of {name}"
        assert not list(folder.glob("*.py")), "code is added when a checkpoint is published, not before"


def test_large_files_are_weights_or_results():
    places = {("sgenet_hf", "checkpoints"), ("eval", "checkpoints"), ("eval", "results")}
    for file in project_files():
        inside = file.relative_to(ROOT).parts
        if file.stat().st_size > 1_000_000:
            assert inside[:2] in places, f"{file.relative_to(ROOT)} is larger than 1 MB"


def test_the_make_targets_of_the_house():
    assert {"demo", "test", "check", "fix", "smoke", "bench"} <= MAKE_TARGETS


def test_the_command_line_is_installed_as_the_project_says():
    module, function = PROJECT["scripts"]["sgenet"].split(":")
    assert module == cli.__name__ and callable(getattr(cli, function))
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
