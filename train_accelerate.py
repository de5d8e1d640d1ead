"""Trains SGE-Net, or a system that the paper compares with, with Accelerate: one CPU, one GPU or many.

    accelerate launch train_accelerate.py recipes/toy.yaml                                  # one process
    accelerate launch --multi_gpu --num_processes 4 --mixed_precision bf16 train_accelerate.py recipes/street.yaml
    torchrun --standalone --nproc_per_node 2 train_accelerate.py recipes/toy.yaml --cpu true   # two CPU processes
    accelerate launch train_accelerate.py recipes/toy.yaml --resume latest                  # go on after a stop
    accelerate launch train_accelerate.py recipes/street_gatedconv.yaml                     # GatedConv, same samples

A recipe is a YAML file of the arguments (`--help` lists them); the command line overrules it. A run folder holds
`arguments.json`, `log.jsonl`, `samples/*.png`, `checkpoints/samples-*` (everything a resumed run needs) and `final`
(the averaged weights in Hub layout, ready for `from_pretrained`). Schedules count samples: one image through one
generator update. `--max_minutes` only ends the run, so that a resumed run equals an unbroken one.
"""

import itertools
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.utils import logging as transformers_logging


try:
    import psutil
    from accelerate import Accelerator
    from accelerate.utils import set_seed
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}. Training needs more packages: pip install -c constraints.txt -e .[train]") from error

from sgenet_hf import SGENetImageProcessor, push_to_hub
from sgenet_hf.baseline_trainers import TRAINERS
from sgenet_hf.data import (
    InpaintingDataset,
    IterableInpaintingDataset,
    collate,
    dataset_spec,
    load_inpainting_dataset,
)
from sgenet_hf.hub import file_beside
from sgenet_hf.masks import IrregularMaskFiles
from sgenet_hf.photos import whole_file
from sgenet_hf.trainer import Progress, Trainer, weights_folder
from sgenet_hf.training_arguments import MEASURED, Arguments, RunArguments, argument_defaults, parse_arguments
from sgenet_hf.validation import validate


logger = logging.getLogger("train")

# What may change when a run is resumed: when and what it says, how fast it runs. All else makes the run the one it is.
MAY_CHANGE = set(
    "output_dir max_minutes log_every_samples validate_every_samples validation_split validation_samples "
    "validation_mask save_every_samples keep_checkpoints resume num_workers tracker push_to_hub license_file "
    "channels_last activation_checkpointing cpu initialize_from perceptual_weights perceptual_scales".split()
)


def main(arguments: list[str] | None = None) -> None:
    """Trains as the arguments say; `arguments` stand in for the command line."""
    train(start(arguments))


@dataclass(frozen=True)
class Run:
    """A run that may begin, or go on."""

    arguments: Arguments
    accelerator: Accelerator
    trainer: Trainer
    loader: DataLoader
    validation_set: Dataset | None
    read_watch: Callable[[], dict[str, float]]


def start(arguments: list[str] | None = None) -> Run:
    """All that comes before the first update: the run folder, the data, the networks, the checkpoint to go on from.

    Raises:
        ValueError, OSError: If options, data or checkpoints do not do; the message says what would.
    """
    arguments = parse_arguments(arguments)
    run = arguments.run
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    accelerator = Accelerator(
        cpu=run.cpu,
        gradient_accumulation_steps=run.gradient_accumulation_steps,
        log_with=run.tracker,
        project_dir=run.output_dir,
        step_scheduler_with_optimizer=False,
    )
    compare_processes(accelerator)
    set_seed(run.seed)  # the same on all ranks: what differs by rank is drawn from seeds of its own
    resume = find_checkpoint(arguments) if run.resume else None
    open_run_folder(arguments, accelerator, resume)
    if accelerator.is_main_process:
        bring_licence(arguments, resume)

    train_set, validation_set = load_data(arguments)
    trainer = TRAINERS[arguments.model.system](arguments, accelerator)
    if arguments.loss.perceptual_scales == MEASURED:
        trainer.scale_features(train_set)
    if arguments.loss.class_balance:
        trainer.balance_classes(train_set)
    if arguments.loss.prompt_style_weight:
        trainer.collect_textures(train_set)
    loader = make_loader(arguments, train_set, accelerator)
    read_watch = trainer.watch()
    if run.tracker:
        accelerator.init_trackers("run", config={name: str(value) for name, value in arguments.flat().items()})
    if resume is not None:
        accelerator.load_state(str(resume))
        if accelerator.is_main_process:
            forget_what_came_later(Path(run.output_dir), trainer.progress.samples)
        accelerator.wait_for_everyone()
        logger.info("Resumed %s at %d samples.", resume, trainer.progress.samples)
    return Run(arguments, accelerator, trainer, loader, validation_set, read_watch)


def train(prepared: Run) -> None:
    """From where the trainer's progress stands to the end of the run, or of its time."""
    arguments, accelerator, trainer = prepared.arguments, prepared.accelerator, prepared.trainer
    run, progress, started = arguments.run, trainer.progress, time.monotonic()
    global_batch = run.batch_size * accelerator.num_processes
    update = global_batch * run.gradient_accumulation_steps  # samples per optimiser step
    first_samples, terms_since_log = progress.samples, []
    batches = Waiting(endless(prepared.loader, progress))
    for batch in batches:
        # Between two optimiser steps there is nothing that a checkpoint could hold: stop and save at steps only.
        if accelerator.sync_gradients and (
            progress.samples >= run.total_samples or out_of_time(started, run.max_minutes, accelerator)
        ):
            break
        terms_since_log.append(trainer.train_step(move(batch, accelerator.device)))
        progress.samples += global_batch
        progress.step += 1
        progress.batch += 1
        if not accelerator.sync_gradients:
            continue
        trainer.average_weights(update)
        if is_due(progress.samples, update, run.log_every_samples):
            elapsed = time.monotonic() - started  # both are means since the start: later ones say more
            speed = {"images_per_s": (progress.samples - first_samples) / elapsed, "waiting": batches.waited / elapsed}
            log(accelerator, progress, run, mean_terms(terms_since_log) | prepared.read_watch() | speed)
            terms_since_log.clear()
        if prepared.validation_set is not None and is_due(progress.samples, update, run.validate_every_samples):
            if accelerator.is_main_process:
                picture = Path(run.output_dir) / "samples" / f"{progress.samples:09d}.png"
                scores = validate(trainer.averaged, prepared.validation_set, accelerator.device, picture)
                log(accelerator, progress, run, scores)
                track_picture(accelerator, picture, progress.samples)
            accelerator.wait_for_everyone()
        if is_due(progress.samples, update, run.save_every_samples):
            save_checkpoint(accelerator, arguments, progress)
    finish(accelerator, arguments, trainer)


def load_data(arguments: Arguments) -> tuple[Dataset, Dataset | None]:
    """Training samples, and validation samples if a split is named."""
    data, run, spec = arguments.data, arguments.run, dataset_spec(arguments.data.dataset)
    needed = round(data.resize_shorter * data.largest_scale)
    if data.largest_scale > 1 and spec.resize_shorter < needed and not data.dataset.startswith("folders:"):
        raise ValueError(
            f"{data.dataset} stores photos with their shorter side at {spec.resize_shorter}, and largest_scale "
            f"{data.largest_scale:g} shows them at {needed}: run `sgenet prepare` with --resize-shorter {needed} into "
            "another folder, or lower largest_scale."
        )
    irregular = None if data.irregular_masks is None else IrregularMaskFiles(data.irregular_masks)
    common = {
        "size": data.crop_size,
        "num_labels": spec.num_labels,
        "ignore_index": spec.ignore_index,
        "seed": run.seed,
        "irregular_files": irregular,
    }
    mix = {kind: float(weight) for kind, weight in (entry.split("=") for entry in data.mask_mix)}
    kind = IterableInpaintingDataset if data.streaming else InpaintingDataset
    train_set = kind(
        load_inpainting_dataset(data.dataset, data.train_split, streaming=data.streaming),
        resize_shorter=data.resize_shorter,
        scale_range=(data.smallest_scale, data.largest_scale),
        stretch=data.stretch,
        mask_mix=mix,
        prompt_share=data.prompt_share,
        counterfactual_share=data.counterfactual_share,
        counterfactual_classes=spec.ids_of(data.counterfactual_classes),
        photometric=data.photometric,
        recoloring=data.recoloring,
        **common,
    )
    if data.validation_split is None:
        return train_set, None
    rows = load_inpainting_dataset(data.dataset, data.validation_split)
    count = min(run.validation_samples, len(rows))
    rows = rows.select(np.linspace(0, len(rows) - 1, count).round().astype(int).tolist())
    # Validation is at the size of the training crops, whole photos shrunk to it.
    validation_set = InpaintingDataset(
        rows, resize_shorter=data.crop_size, train=False, evaluation_mask=run.validation_mask, **common
    )
    return train_set, validation_set


class EpochBatches(Sampler):
    """Batches of one rank as lists of (epoch, index), epoch after epoch from a given place on: what prepares them need
    not wait for an epoch to end.

    The permutation depends on (seed, epoch) alone and every global batch is cut by rank, so that any number of
    processes with the same global batch sees the same samples in the same order, and a resumed run starts at the very
    next batch.
    """

    def __init__(self, length: int, batch_size: int, rank: int, num_processes: int, seed: int):
        if length < batch_size * num_processes:
            raise ValueError(
                f"{length} samples do not fill one batch of {batch_size} on {num_processes} processes: "
                "lower --batch_size."
            )
        self.length, self.batch_size, self.rank, self.num_processes = length, batch_size, rank, num_processes
        self.seed, self.epoch, self.first_batch = seed, 0, 0
        self.batches_per_epoch = length // (batch_size * num_processes)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        first_batch = self.first_batch
        for epoch in itertools.count(self.epoch):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.length)
            for batch in range(first_batch, self.batches_per_epoch):
                start = (batch * self.num_processes + self.rank) * self.batch_size
                yield [(epoch, index) for index in order[start : start + self.batch_size].tolist()]
            first_batch = 0


class SamplesOfEpochs(Dataset):
    """The samples of an `InpaintingDataset` by (epoch, index)."""

    def __init__(self, samples: InpaintingDataset):
        self.samples = samples

    def __getitem__(self, place: tuple[int, int]) -> dict[str, torch.Tensor]:
        epoch, index = place
        return self.samples.sample(index, epoch)


def make_loader(arguments: Arguments, train_set: Dataset, accelerator: Accelerator) -> DataLoader:
    """Batches of this rank. Its own generator keeps the global random state out of the order of things."""
    data, run = arguments.data, arguments.run
    common = {"num_workers": data.num_workers, "collate_fn": collate, "persistent_workers": data.num_workers > 0}
    common |= {"generator": torch.Generator().manual_seed(run.seed), "pin_memory": accelerator.device.type == "cuda"}
    if data.streaming:
        return DataLoader(train_set, batch_size=run.batch_size, drop_last=True, **common)
    ranks = accelerator.process_index, accelerator.num_processes
    batches = EpochBatches(len(train_set), run.batch_size, *ranks, run.seed)
    return DataLoader(SamplesOfEpochs(train_set), batch_sampler=batches, **common)


def endless(loader: DataLoader, progress: Progress) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of epoch after epoch, from where `progress` stands.

    Raises:
        ValueError: If an epoch of a stream holds no batch.
    """
    batches = loader.batch_sampler
    if isinstance(batches, EpochBatches):
        batches.epoch, batches.first_batch = progress.epoch, progress.batch
        for batch in loader:
            if progress.batch >= batches.batches_per_epoch:  # more if the data have become fewer
                progress.epoch, progress.batch = progress.epoch + 1, 0
            yield batch
        return
    while True:  # a stream ends with its epoch
        first_batch = progress.batch
        loader.dataset.set_epoch(progress.epoch)
        yield from loader
        if progress.batch == first_batch == 0:
            raise ValueError("The data give not one whole batch: lower --batch_size or the number of processes.")
        progress.epoch, progress.batch = progress.epoch + 1, 0


class Waiting:
    """The batches of an iterator, and in `waited` how many seconds it took to bring them: where that is much of a run,
    `num_workers` is too small."""

    def __init__(self, batches: Iterator[dict[str, torch.Tensor]]):
        self.batches, self.waited = batches, 0.0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return self

    def __next__(self) -> dict[str, torch.Tensor]:
        asked = time.monotonic()
        batch = next(self.batches)
        self.waited += time.monotonic() - asked
        return batch


def move(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """The batch on the device."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def is_due(samples: int, global_batch: int, every: int) -> bool:
    """Whether this batch crossed a multiple of `every`."""
    return samples // every > (samples - global_batch) // every


def out_of_time(started: float, max_minutes: float | None, accelerator: Accelerator) -> bool:
    """Whether the main process says that time is up; all ranks stop at the same batch."""
    if max_minutes is None:
        return False
    late = torch.tensor(float(time.monotonic() - started > 60 * max_minutes), device=accelerator.device)
    return bool(accelerator.reduce(late, reduction="sum") > 0)


def forget_what_came_later(folder: Path, samples: int) -> None:
    """Drops log lines and sets aside checkpoints later than the one that is resumed: those samples come again."""
    log_file = folder / "log.jsonl"
    if log_file.exists():
        kept = []
        for line in log_file.read_text().splitlines():
            try:
                if json.loads(line)["samples"] <= samples:
                    kept.append(f"{line}\n")
            except json.JSONDecodeError:  # the line at which the run was killed
                continue
        with whole_file(log_file) as temporary:
            temporary.write_text("".join(kept))
    for later in (folder / "checkpoints").glob("samples-*[0-9]"):
        if int(later.name.split("-")[1]) > samples:
            aside = later.with_name(f"{later.name}.superseded")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(later, aside)
            logger.warning("%s is later than the checkpoint resumed; set aside as %s.", later.name, aside.name)


def mean_terms(steps: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each term over the steps that had it."""
    names = dict.fromkeys(name for step in steps for name in step)
    return {name: float(np.mean([step[name] for step in steps if name in step])) for name in names}


def log(accelerator: Accelerator, progress: Progress, run: RunArguments, values: dict[str, float]) -> None:
    """One line to the screen, to log.jsonl and to the tracker."""
    if not accelerator.is_main_process:
        return
    logger.info("%d  %s", progress.samples, "  ".join(f"{name} {value:.4g}" for name, value in values.items()))
    with open(Path(run.output_dir) / "log.jsonl", "a") as file:
        file.write(json.dumps({"samples": progress.samples, "epoch": progress.epoch, **values}) + "\n")
    accelerator.log(values, step=progress.samples)


def track_picture(accelerator: Accelerator, picture: Path, samples: int) -> None:
    """Hands the validation picture to the tracker, if there is one."""
    pixels = np.asarray(Image.open(picture).convert("RGB"))[None]
    for tracker in accelerator.trackers:
        layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({"validation": pixels}, step=samples, **layout)


def compare_processes(accelerator: Accelerator) -> None:
    """Compares the number of processes asked for with the number started.

    `accelerate launch --cpu --num_processes 2` starts one process and says nothing.

    Raises:
        ValueError: If another number was started.
    """
    launcher = psutil.Process().parent()
    words = launcher.cmdline() if launcher is not None else []
    asked = [int(count) for count in re.findall(r"--num[_-]processes[ =](\d+)", " ".join(words))]
    precision = {"no": "float32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    logger.info("%d process(es), %s, %s", accelerator.num_processes, accelerator.device, precision)
    if asked and asked[0] != accelerator.num_processes:
        raise ValueError(
            f"{asked[0]} processes were asked for, {accelerator.num_processes} started. On CPUs use "
            f"`torchrun --standalone --nproc_per_node {asked[0]} train_accelerate.py ... --cpu true`."
        )


# Run folders --------------------------------------------------------------------------------------------------------


def open_run_folder(arguments: Arguments, accelerator: Accelerator, resume: Path | None) -> None:
    """Makes the run folder and writes `arguments.json`; a folder that holds a run is only entered to resume it.

    Raises:
        FileExistsError: If it holds a run and `--resume` was not given.
        ValueError: If the resumed run was another one.
    """
    folder = Path(arguments.run.output_dir)
    record = arguments.flat() | {
        "global_batch": arguments.run.batch_size * accelerator.num_processes,
        "mixed_precision": accelerator.mixed_precision,
    }
    if any(folder.glob("checkpoints/samples-*[0-9]")):
        if resume is None:
            raise FileExistsError(f"{folder} holds a run: add `--resume latest`, or give another --output_dir.")
        # What an older run did not name did not exist: it is what it would be if it were not given.
        before = argument_defaults() | read_arguments(folder / "arguments.json")
        fixed = record.keys() - MAY_CHANGE
        if arguments.loss.read_back_weight and arguments.loss.reader is None:
            fixed |= {"initialize_from"}  # it is the reader
        # Another path may lead to the same file, but no file and measured means are other losses.
        scales = [settings.get("perceptual_scales") for settings in (before, record)]
        if scales[0] != scales[1] and {None, MEASURED} & set(scales):
            fixed |= {"perceptual_scales"}
        changed = [name for name in record if name in fixed and before.get(name) != record[name]]
        if changed:
            raise ValueError(
                f"A resumed run must stay the same, but {', '.join(changed)} changed. Undo that, or start a new run "
                "with --initialize_from and another --output_dir."
            )
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "arguments.json") as temporary:
            temporary.write_text(json.dumps(record, indent=2) + "\n")
    accelerator.wait_for_everyone()


def read_arguments(path: Path) -> dict:
    """What a run was started with.

    Raises:
        FileNotFoundError, ValueError: If nobody can say any more.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is damaged ({error}), so nobody can say whether this is the same run: put it right from another "
            "copy, or start a new run with --initialize_from and another --output_dir."
        ) from error


def find_checkpoint(arguments: Arguments) -> Path:
    """The checkpoint that `--resume` names.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the run streams its data.
    """
    if arguments.data.streaming:
        raise ValueError("A shuffled stream cannot be resumed exactly: prepare the data, or train without --resume.")
    if arguments.run.resume != "latest":
        path = Path(arguments.run.resume)
        if not (path / "generator" / "config.json").is_file():
            raise FileNotFoundError(f"{path} is not a checkpoint of this script (it lacks generator/config.json).")
        return path
    if (latest := latest_checkpoint(arguments)) is None:
        raise FileNotFoundError(f"No checkpoint in {arguments.run.output_dir} to resume; start without --resume.")
    return latest


def latest_checkpoint(arguments: Arguments) -> Path | None:
    """The newest whole checkpoint of the run folder."""
    return max((Path(arguments.run.output_dir) / "checkpoints").glob("samples-*[0-9]"), default=None)


def save_checkpoint(accelerator: Accelerator, arguments: Arguments, progress: Progress) -> None:
    """Writes a checkpoint under a temporary name and renames it when it is whole, then removes the oldest."""
    folder = Path(arguments.run.output_dir) / "checkpoints"
    whole, partial = folder / f"samples-{progress.samples:09d}", folder / f"samples-{progress.samples:09d}.partial"
    if whole.exists():
        return  # the run ends where it has just saved
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for weights in ("generator", "averaged"):  # either may be what another run starts from
            copy_licence(arguments, partial / weights)
        os.replace(partial, whole)
        for old in sorted(folder.glob("samples-*[0-9]"))[: -arguments.run.keep_checkpoints]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def bring_licence(arguments: Arguments, resume: Path | None) -> None:
    """Puts the terms of the weights that a run begins from, if it does, into its folder, for all it makes."""
    terms = Path(arguments.run.output_dir) / "LICENSE"
    starts = [] if resume is None else [resume / "averaged"]
    if arguments.model.initialize_from:
        starts.append(weights_folder(arguments.model.initialize_from))
    for start in starts:
        if (resume is None or not terms.exists()) and (found := file_beside(start, "LICENSE")):
            shutil.copyfile(found, terms)


def copy_licence(arguments: Arguments, weights: Path) -> None:
    """Puts the terms that stand in the run's folder, if any do, beside weights that were made in it."""
    terms = Path(arguments.run.output_dir) / "LICENSE"
    if terms.exists():
        shutil.copyfile(terms, weights / "LICENSE")


def finish(accelerator: Accelerator, arguments: Arguments, trainer: Trainer) -> None:
    """Last checkpoint, and the averaged weights in `final`; a run that reached its end pushes them if asked to."""
    save_checkpoint(accelerator, arguments, trainer.progress)
    complete = trainer.progress.samples >= arguments.run.total_samples
    if accelerator.is_main_process:
        final = Path(arguments.run.output_dir) / "final"
        partial = final.with_name("final.partial")
        shutil.rmtree(partial, ignore_errors=True)
        trainer.averaged.save_pretrained(partial)
        SGENetImageProcessor().save_pretrained(partial)
        copy_licence(arguments, partial)
        before = final.with_name("final.before")
        shutil.rmtree(before, ignore_errors=True)
        if final.exists():
            os.replace(final, before)
        os.replace(partial, final)
        shutil.rmtree(before, ignore_errors=True)
        state = "The run is complete" if complete else "Stopped by --max_minutes; go on with `--resume latest`"
        logger.info("%s: %d samples, averaged weights in %s.", state, trainer.progress.samples, final)
        if complete and arguments.run.push_to_hub:
            push_to_hub(final, arguments.run.push_to_hub, license_file=arguments.run.license_file)
    accelerator.end_training()


def how_to_go_on(run: Run | None) -> str:
    """What becomes of a run that was interrupted, for people; None if it had not begun."""
    if run is None:
        return "Nothing was trained yet."
    if run.arguments.data.streaming:
        return "A stream cannot be resumed; `checkpoints` of its folder has the networks that were saved."
    latest = latest_checkpoint(run.arguments)
    return "Nothing was saved yet." if latest is None else f"`--resume latest` goes on from {latest.name}."


if __name__ == "__main__":
    prepared = None
    try:
        prepared = start()
        train(prepared)
    except KeyboardInterrupt:
        print(f"train_accelerate.py: stopped. {how_to_go_on(prepared)}", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError) as error:  # before an update nothing is lost
        if prepared is not None or os.environ.get("SGENET_TRACE") == "1":
            raise
        sys.exit(f"train_accelerate.py: {error} (SGENET_TRACE=1 shows where.)")
