"""What the network costs: parameters, GFLOP, time and peak memory, beside what this machine can do at all.

    python -m eval.benchmark                                # both presets, contiguous and channels-last
    python -m eval.benchmark small --sizes 256 512 --out benchmark.json
    python -m eval.benchmark PATH_OR_HUB_ID --device cuda
    python -m eval.benchmark small gatedconv-matched edgeconnect-matched spgnet-matched --sizes 256
    python -m eval.benchmark small --modes eager compiled bfloat16 --batch 4 --plot benchmark.png

GFLOP = 2 x MAC, counted by `torch.utils.flop_counter` (convolutions and matrix products; the rest is not counted).
Time: median forward pass of one photo, all scales returned, after warm-up; float32 eager, `compiled` by
`torch.compile`, or under `bfloat16` autocast. Throughput: photos a second in batches of `--batch`. Rate: what a
float32 matrix product of 2048 x 2048 reaches in the same process just before and after, the better of both. Fraction:
the network's FLOP over its time, over that rate. Peak memory: on a CPU the highest resident size of the process,
libraries and weights included; on a GPU what its allocator held. Each line is measured in a fresh process, so that no
line inherits another's memory.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import AutoModel

from eval.columns import markdown_rows
from eval.commands import said_in_a_sentence
from eval.files import write_picture, write_whole
from eval.plots import scatter
from eval.provenance import now, provenance
from sgenet_hf import EdgeConnectConfig, GatedConvConfig, SGENetConfig, SPGNetConfig
from sgenet_hf.configuration_sgenet import as_drawn
from sgenet_hf.pipeline import load_model


OURS = {"small": SGENetConfig.small, "full": SGENetConfig.full}
PRESETS = OURS | {
    "gatedconv-matched": GatedConvConfig.matched,
    "gatedconv-published": GatedConvConfig.published,
    "edgeconnect-matched": EdgeConnectConfig.matched,
    "edgeconnect-published": EdgeConnectConfig.published,
    "spgnet-matched": SPGNetConfig.matched,
    "spgnet-published": SPGNetConfig.published,
}
UNLABELLED = ("gatedconv", "edgeconnect")
MODES = ("eager", "compiled", "bfloat16")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def build(name: str) -> torch.nn.Module:
    """A preset with random weights and 11 classes, or a checkpoint by bundled name, folder or Hub id."""
    if name in PRESETS:
        classes = {} if name.startswith(UNLABELLED) else {"num_labels": 11}
        return AutoModel.from_config(PRESETS[name](**classes)).eval()
    return load_model(name, device="cpu")


def flops(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    """FLOP (2 x MAC) of one forward pass."""
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    return counter.get_total_flops()


def median_seconds(work: Callable[[], object], device: str, budget: float, least: int) -> float:
    """Median duration of `work` after one warm-up, over at least `least` runs and about `budget` seconds."""

    def timed() -> float:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    timed()
    seconds: list[float] = []
    while len(seconds) < least or sum(seconds) < budget:
        seconds.append(timed())
    return statistics.median(seconds)


def matrix_rate(side: int, device: str, seconds: float) -> float:
    """FLOP a second of a float32 matrix product: this machine's yardstick."""
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: left @ right, device, seconds, least=3)


def resident_mib(peak: bool) -> float:
    """Resident memory of this process in MiB, now or at its peak."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: a child process inherits its parent's maximum there.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM" if peak else "VmRSS"].split()[0]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


@torch.inference_mode()
def measure(
    name: str, size: int, layout: str, mode: str, device: str, batch: int, seconds: float, matrix_side: int
) -> dict:
    """One line of the table. Meant for a process of its own."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    torch.manual_seed(0)
    model = build(name).to(device)
    model = model.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]  # torch's types forget this one
    mask = torch.zeros(1, 1, size, size, device=device)
    quarter = size // 4
    mask[..., quarter:-quarter, quarter:-quarter] = 1
    pixel_values = torch.rand(1, 3, size, size, device=device) * 2 - 1
    inputs = {"pixel_values": pixel_values.to(memory_format=LAYOUTS[layout]), "mask": mask}
    many = {key: value.repeat(batch, 1, 1, 1) for key, value in inputs.items()}
    run = torch.compile(model, dynamic=False) if mode == "compiled" else model

    def forward(photos: dict[str, torch.Tensor]) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=mode == "bfloat16"):
            run(**photos)

    loaded = resident_mib(peak=False)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    forward(inputs)
    # Read before the yardstick and the counter run: their matrices are not the network's.
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else resident_mib(peak=True)

    rate_before = matrix_rate(matrix_side, device, seconds / 4)
    duration = median_seconds(lambda: forward(inputs), device, seconds, least=3)
    rate = max(rate_before, matrix_rate(matrix_side, device, seconds / 4))
    throughput = batch / (median_seconds(lambda: forward(many), device, seconds, least=3) if batch > 1 else duration)
    count = flops(model, {**inputs, **as_drawn(model.config)})
    return {
        "model": name,
        "size": size,
        "layout": layout,
        "mode": mode,
        "device": device,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "gflop": count / 1e9,
        "milliseconds": duration * 1e3,
        "batch": batch,
        "photos_per_second": throughput,
        "gflop_per_second": count / duration / 1e9,
        "matrix_gflop_per_second": rate / 1e9,
        "fraction_of_matrix_rate": count / duration / rate,
        "loaded_memory_mib": loaded,
        "peak_memory_mib": peak,
    }


def in_fresh_process(*arguments) -> dict:
    """Runs `measure` in a new process and waits for it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure, arguments)


def markdown(rows: list[dict]) -> str:
    """The measurements as a table."""
    head = "network, parameters, size, layout, mode, GFLOP, ms, photos/s, GFLOP/s, matrix GFLOP/s, fraction, peak MiB"
    return markdown_rows(
        head.split(", "),
        (
            (
                row["model"],
                f"{row['parameters'] / 1e6:.2f} M",
                str(row["size"]),
                row["layout"],
                row["mode"],
                f"{row['gflop']:.1f}",
                f"{row['milliseconds']:.0f}",
                f"{row['photos_per_second']:.2f}",
                f"{row['gflop_per_second']:.0f}",
                f"{row['matrix_gflop_per_second']:.0f}",
                f"{row['fraction_of_matrix_rate']:.2f}",
                f"{row['peak_memory_mib']:.0f}",
            )
            for row in rows
        ),
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", default=list(OURS), help=f"{', '.join(PRESETS)}, a bundled name, a folder or a Hub id"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024], help="sides in pixels")
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager"])
    parser.add_argument("--batch", type=int, default=1, help="photos at a time, for the throughput")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="time to spend on each line's forward passes")
    parser.add_argument("--matrix-side", type=int, default=2048, help="side of the yardstick's matrices")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--plot", type=Path, help="PNG file to draw: time against GFLOP, a colour for each mode")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table and writes the JSON file."""
    arguments = parse_arguments(argv)
    plan = [
        (name, size, layout, mode, arguments.device, arguments.batch, arguments.seconds, arguments.matrix_side)
        for name in arguments.models
        for size in arguments.sizes
        for layout in arguments.layouts
        for mode in arguments.modes
    ]
    with said_in_a_sentence("eval.benchmark"):
        for name in arguments.models:
            build(name)  # or the wrong one among many ends the measurement in its middle
    rows = [in_fresh_process(*line) for line in tqdm(plan, desc="benchmark", unit="line")]
    print(markdown(rows))
    if arguments.out:
        record = {"provenance": provenance(), "finished": now(), "rows": rows}
        write_whole(arguments.out, json.dumps(record, indent=2) + "\n")
    if arguments.plot:
        times = {
            mode: [(row["gflop"], row["milliseconds"]) for row in rows if row["mode"] == mode]
            for mode in arguments.modes
        }
        write_picture(arguments.plot, scatter(times, "GFLOP (2 x MAC)", f"ms a photo, {arguments.device}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
