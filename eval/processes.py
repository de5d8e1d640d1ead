"""One or several processes on one machine, through Accelerate, with the same numbers either way.

    torchrun --standalone --nproc_per_node 2 -m eval.run ...

(`accelerate launch --cpu --num_processes 2` starts one process without saying so.) Photos are dealt out in files of
rows, each photo is computed alone (batch 1) on a fixed number of threads, and the first process reads all files, in
the order of the ids, before it adds anything up.
"""

from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list


T = TypeVar("T")


class Processes:
    """The processes of this run.

    Args:
        device: `cpu`, or `cuda`: each process then takes a GPU of its own.
        threads: Threads of each process. Sums over more threads end in another last digit.
    """

    def __init__(self, device: str = "cpu", threads: int = 1):
        # A process may wait for another's share for as long as that takes.
        self._state = PartialState(cpu=device == "cpu", timeout=timedelta(days=1))
        self.index, self.count = self._state.process_index, self._state.num_processes
        self.device = f"cuda:{self._state.local_process_index}" if device == "cuda" else device
        self.threads = threads
        torch.set_num_threads(threads)
        try:
            import cv2
        except ImportError:  # only the classical fills need it
            return
        cv2.setNumThreads(threads)

    @property
    def is_first(self) -> bool:
        """Whether this process adds up, writes and prints."""
        return self.index == 0

    def wait(self) -> None:
        """Goes on when all are here."""
        self._state.wait_for_everyone()

    def from_first(self, value: T | None) -> T:
        """What the first process has, in every process."""
        box = [value]
        if self.count > 1:
            broadcast_object_list(box, from_process=0)
        return box[0]  # type: ignore[return-value]  # the first process has one
