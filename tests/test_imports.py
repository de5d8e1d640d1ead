"""Reads the imports of every file and holds the arrows between them; nothing is imported by accident."""

import ast
import os
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports


ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "sgenet_hf"

# Who may import whom inside the package: arrows point one way.
ARROWS: dict[str, set[str]] = {
    # Stand alone.
    "configuration_sgenet": set(),
    "losses": set(),
    "masks": set(),
    "visualization": set(),
    "toy": set(),
    "perceptual": set(),
    "photos": set(),
    "discriminator": set(),
    "segmenters": set(),
    "patch_synthesis": set(),
    # The network and what surrounds it.
    "modeling_sgenet": {"configuration_sgenet", "patch_synthesis"},
    "image_processing_sgenet": {"configuration_sgenet", "photos"},
    "baseline_discriminators": {"discriminator"},
    "baseline_gatedconv": {"modeling_sgenet"},
    "baseline_edgeconnect": {"modeling_sgenet"},
    "baseline_spgnet": {"modeling_sgenet"},
    "regions": {"masks"},
    "pipeline": {
        "baseline_edgeconnect",
        "baseline_gatedconv",
        "baseline_spgnet",
        "configuration_sgenet",
        "image_processing_sgenet",
        "masks",
        "modeling_sgenet",
        "photos",
        "regions",
        "segmenters",
    },
    # The page; `app.py` lays it out.
    "canvas": {"image_processing_sgenet", "photos"},
    "thoughts": {"canvas", "masks", "pipeline", "visualization"},
    "batches": {"photos", "pipeline", "thoughts"},
    "page": {
        "batches",
        "canvas",
        "image_processing_sgenet",
        "modeling_sgenet",
        "photos",
        "pipeline",
        "thoughts",
        "visualization",
    },
    "space": {"baseline_edgeconnect", "hub", "modeling_sgenet", "pipeline"},
    "hub": {"configuration_sgenet", "image_processing_sgenet", "modeling_sgenet", "pipeline"},
    # Data.
    "catalog": {"toy"},
    "layouts": {"catalog"},
    "data": {"catalog", "image_processing_sgenet", "layouts", "masks", "toy"},
    "prepare": {"catalog", "data", "layouts"},
    # Training.
    "training_arguments": {"data", "perceptual"},
    "validation": {"configuration_sgenet", "data", "visualization"},
    "trainer": {
        "configuration_sgenet",
        "data",
        "discriminator",
        "image_processing_sgenet",
        "losses",
        "modeling_sgenet",
        "perceptual",
        "pipeline",
        "segmenters",
        "training_arguments",
    },
    "baseline_trainers": {
        "baseline_discriminators",
        "baseline_edgeconnect",
        "baseline_gatedconv",
        "baseline_spgnet",
        "data",
        "losses",
        "trainer",
        "training_arguments",
    },
    # The command line.
    "averaging": {"pipeline"},
    "cli": {
        "averaging",
        "catalog",
        "configuration_sgenet",
        "data",
        "hub",
        "layouts",
        "masks",
        "modeling_sgenet",
        "photos",
        "pipeline",
        "prepare",
        "space",
        "thoughts",
        "visualization",
    },
}
TRAVEL_WITH_CHECKPOINTS = (
    "configuration_sgenet",
    "patch_synthesis",
    "modeling_sgenet",
    "image_processing_sgenet",
    "baseline_gatedconv",
    "baseline_edgeconnect",
    "baseline_spgnet",
)
REQUIRED = {"torch", "transformers", "huggingface_hub", "safetensors", "PIL", "numpy", "tqdm"}
OPTIONAL = (
    "accelerate",
    "cv2",
    "datasets",
    "evaluate",
    "gradio",
    "matplotlib",
    "pandas",
    "playwright",
    "scipy",
    "skimage",
    "tensorboard",
    "torchmetrics",
    "torchvision",
)


def imports(file: Path, everywhere: bool = True) -> list[tuple[int, str]]:
    """(level, dotted name) of each import; with `everywhere=False` only those that run when the file is imported."""
    found: list[tuple[int, str]] = []

    def visit(node: ast.AST):
        if isinstance(node, ast.Import):
            found.extend((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.level, node.module))
        elif isinstance(node, ast.ImportFrom):
            found.extend((node.level, alias.name) for alias in node.names)
        if not everywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(file.read_text(encoding="utf-8")))
    return found


def siblings(file: Path) -> set[str]:
    """Modules of the package that `file`, itself in the package, imports."""
    names = {name for level, name in imports(file) if level}
    return names | {name.split(".")[1] for _, name in imports(file) if name.startswith("sgenet_hf.")}


def modules() -> list[Path]:
    return sorted(file for file in PACKAGE.glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("file", modules(), ids=lambda file: file.stem)
def test_the_arrows_inside_the_package(file):
    assert file.stem in ARROWS, f"{file.name} is new: say in ARROWS what it may import"
    assert siblings(file) <= ARROWS[file.stem]


def test_the_package_is_flat():
    assert not [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE]


@pytest.mark.parametrize("name", TRAVEL_WITH_CHECKPOINTS)
def test_files_that_travel_with_checkpoints_reach_only_what_travels_too(name):
    todo, seen = [name], set()
    while todo:
        stem = todo.pop()
        seen.add(stem)
        file = PACKAGE / f"{stem}.py"
        # What `transformers` asks for before it runs remote code: everything but what stands in a `try` block.
        assert set(get_imports(file)) <= REQUIRED | sys.stdlib_module_names, file
        for level, imported in imports(file):
            if level:
                assert level == 1 and "." not in imported, f"{stem} imports {imported} from outside its folder"
                todo += [imported] if imported not in seen else []
        # `transformers` finds only this form when it gathers the files.
        assert "from . import" not in file.read_text(encoding="utf-8")


def test_the_configuration_keeps_its_annotations():
    """With postponed annotations the fields become strings and nothing is validated."""
    for name in ("configuration_sgenet", "baseline_gatedconv", "baseline_edgeconnect", "baseline_spgnet"):
        assert "from __future__" not in (PACKAGE / f"{name}.py").read_text(encoding="utf-8")


def test_importing_the_package_reads_no_optional_library():
    todo, seen = ["__init__"], set()
    while todo:
        stem = todo.pop()
        seen.add(stem)
        for level, name in imports(PACKAGE / f"{stem}.py", everywhere=False):
            assert level or name.split(".")[0] not in OPTIONAL, (
                f"{stem}.py imports {name} when the package is imported"
            )
            if level and (PACKAGE / f"{name}.py").exists() and name not in seen:
                todo.append(name)
    assert {"modeling_sgenet", "pipeline"} <= seen


def test_the_package_imports_where_no_optional_library_is_installed():
    hidden = "\n".join(f"sys.modules[{name!r}] = None" for name in OPTIONAL)
    code = f"import sys\n{hidden}\nimport sgenet_hf\nsgenet_hf.SGENetModel(sgenet_hf.SGENetConfig())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]


def test_nobody_imports_the_space_or_the_training_script():
    for file in [*PACKAGE.glob("*.py"), *(ROOT / "eval").rglob("*.py"), ROOT / "app.py", ROOT / "train_accelerate.py"]:
        outside = {name.split(".")[0] for level, name in imports(file) if not level}
        assert not outside & {"app", "train_accelerate", "tests"}, file
        assert "eval" not in outside or "eval" in file.relative_to(ROOT).parts, file


def test_the_space_uses_public_names_and_holds_no_model_code():
    tree = ast.parse((ROOT / "app.py").read_text(encoding="utf-8"))
    reached: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sgenet_hf":
            assert not [alias.name for alias in node.names if alias.name.startswith("_")], ast.unparse(node)
            reached |= {alias.name for alias in node.names} if node.module == "sgenet_hf" else set()
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = {node.module} if isinstance(node, ast.ImportFrom) else {alias.name for alias in node.names}
            assert not {str(name).split(".")[0] for name in modules} & {"torch", "transformers"}, ast.unparse(node)

    import sgenet_hf

    assert reached and reached <= set(sgenet_hf.__all__)


def test_the_arrows_have_no_circle():
    assert len(list(TopologicalSorter(ARROWS).static_order())) == len(ARROWS)


def test_every_public_name_exists():
    import sgenet_hf

    assert [name for name in sgenet_hf.__all__ if not hasattr(sgenet_hf, name)] == []
    assert len(set(sgenet_hf.__all__)) == len(sgenet_hf.__all__)
