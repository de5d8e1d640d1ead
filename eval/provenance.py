"""Where a number comes from: command, commit, versions, hardware, and hashes of code and weights.

Every result file carries this record. What differs between two runs of one command (times) lies under its own key.
"""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch


PROJECT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "numpy",
    "pillow",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "torch-fidelity",
)


def provenance(command: list[str] | None = None, processes: int = 1) -> dict:
    """The record of this run; `command` defaults to what was typed, threads are those of each of its processes."""
    return {
        "command": command or [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": commit(),
        "code_sha256": code_sha256(),
        "libraries": {"python": platform.python_version(), **library_versions()},
        "hardware": hardware() | {"processes": processes},
    }


def commit() -> dict:
    """The commit of the project and whether the working tree differs from it; `None` outside a git checkout."""
    try:
        head = _git("rev-parse", "HEAD").strip()
        return {"sha": head, "dirty": bool(_git("status", "--porcelain").strip())}
    except (OSError, subprocess.CalledProcessError):  # no git, no checkout, or no commit yet
        return {"sha": None, "dirty": None}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=True).stdout


def code_sha256() -> str:
    """Hash of every Python file of the package and of `eval`: results of other code are not taken for this one's."""
    digest = hashlib.sha256()
    for folder in ("sgenet_hf", "eval"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(PROJECT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def weights_sha256(model: torch.nn.Module) -> str:
    """Hash of the parameters and buffers as they are in memory: also what a Hub id stands for today."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0" + str(tensor.dtype).encode() + b"\0")
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can move a number; those not installed are left out."""
    installed = {}
    for name in LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def hardware() -> dict:
    """Processor, cores, threads in use, memory and GPU. No host name."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": gpu,
    }


def processor_name() -> str:
    """The processor's own name where the system tells it (`platform.processor` is often empty on Linux)."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
