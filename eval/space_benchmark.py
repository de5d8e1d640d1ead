"""What the page does under load: requests per minute, waiting times, and what of a request is not the network.

    python -m eval.space_benchmark                             # 8 clients for two minutes
    python -m eval.space_benchmark --clients 2 --seconds 20 --side 512

Starts `sgenet serve` on this machine. One client alone comes first: the share that is not the network is 1 minus the
seconds in `Inpainter.fill` over the seconds from sending the photo to having the result. Then all clients at once,
each with a photo of its own; every answer is checked against the photo that was sent. The only error that is allowed
is "queue is full". Memory is the server's resident size, where /proc tells it.
"""

import argparse
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sgenet_hf.toy import draw_scene


@dataclass
class Tally:
    """What the clients saw; `list.append` is safe among threads."""

    seconds: list[float] = field(default_factory=list)
    network: list[float] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@contextlib.contextmanager
def serving(model: str) -> Iterator[tuple[str, int]]:
    """Runs the page; yields its address and the server's process id."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "sgenet_hf.cli", "serve", "--model", model, "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/config", timeout=5):
                break
            if process.poll() is not None:
                raise SystemExit("The page did not start; its message is above.")
            time.sleep(0.5)
        yield address, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


def memory_mb(process: int) -> float:
    """The resident size of a process in megabytes; not a number where /proc is missing."""
    status = Path(f"/proc/{process}/status")
    if not status.is_file():
        return float("nan")
    lines = (line.split() for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return next((int(line[1]) / 1024 for line in lines), float("nan"))  # a process that has ended has none


def draw_photo(seed: int, side: int, folder: Path) -> tuple[Path, Path]:
    """Writes a scene and a mask with a square hole of a quarter of its side."""
    photo, mask = folder / f"photo-{seed}.png", folder / f"mask-{seed}.png"
    Image.fromarray(draw_scene(seed, side, side)[0]).save(photo)
    hole = np.zeros((side, side), np.uint8)
    hole[side // 2 : side * 3 // 4, side // 3 : side // 3 + side // 4] = 255
    Image.fromarray(hole).save(mask)
    return photo, mask


def ask(client: Any, photo: Path, mask: Path, tally: Tally, until: float, least: int) -> None:
    """Fills one photo again and again, until the time is over and at least `least` times."""
    from gradio_client import handle_file

    known = np.asarray(Image.open(mask)) == 0
    before = np.asarray(Image.open(photo))[known]
    done = 0
    while done < least or time.monotonic() < until:
        done += 1
        start = time.perf_counter()
        try:
            filled, facts = client.predict(handle_file(str(photo)), handle_file(str(mask)), api_name="/inpaint")
            own = np.array_equal(np.asarray(Image.open(filled))[known], before)
        except Exception as error:  # whatever went wrong is what this program counts
            (tally.full if "queue is full" in str(error).lower() else tally.errors).append(str(error))
            continue
        tally.seconds.append(time.perf_counter() - start)
        tally.network.append(facts["seconds"]["network"])
        if not own:
            tally.errors.append("the answer is not of the photo that was sent")


def measure(address: str, process: int, photos: list[tuple[Path, Path]], seconds: float) -> list[str]:
    """Runs one client, then all; returns the lines to print."""
    from gradio_client import Client

    clients = [Client(address, verbose=False) for _ in photos]
    ask(clients[0], *photos[0], Tally(), 0, least=2)  # warm-up
    alone, together = Tally(), Tally()
    ask(clients[0], *photos[0], alone, 0, least=5)
    start = time.monotonic()
    threads = [
        threading.Thread(target=ask, args=(client, *files, together, start + seconds, 1))
        for client, files in zip(clients, photos, strict=True)
    ]
    for thread in threads:
        thread.start()
    memory = []
    for quarter in range(1, 5):
        time.sleep(max(0, start + seconds * quarter / 4 - time.monotonic()))
        memory.append(memory_mb(process))
    for thread in threads:
        thread.join()
    took = time.monotonic() - start
    for tally in (alone, together):
        if not tally.seconds:
            raise SystemExit(f"No request was answered: {(tally.errors + tally.full)[:3]}")
    share = 1 - sum(alone.network) / sum(alone.seconds)
    lines = [
        f"one client: {statistics.median(alone.seconds):.2f} s a request, {share:.0%} of it not the network",
        f"{len(photos)} clients: {60 * len(together.seconds) / took:.1f} requests a minute, "
        f"p50 {np.percentile(together.seconds, 50):.2f} s, p95 {np.percentile(together.seconds, 95):.2f} s",
        f"queue full: {len(together.full)}, errors: {len(alone.errors) + len(together.errors)}",
        f"memory after each quarter of the time: {', '.join(f'{size:.0f}' for size in memory)} MB",
    ]
    return lines + [f"error: {error}" for error in sorted(set(alone.errors + together.errors))]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="street", help="bundled name, folder or Hub id (default street)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--side", type=int, default=512, help="of the photos, in pixels")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(arguments.model) as (address, process):
        photos = [draw_photo(seed, arguments.side, Path(folder)) for seed in range(arguments.clients)]
        lines = measure(address, process, photos, arguments.seconds)
        print("\n".join(lines))
    if any(line.startswith("error: ") for line in lines):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
