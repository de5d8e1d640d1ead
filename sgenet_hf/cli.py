"""The `sgenet` command.

    sgenet inpaint PHOTO MASK -o OUT          fill a photo, or every photo of a folder
    sgenet inpaint PHOTO --remove car -o OUT  find the mask by name
    sgenet prepare DATASET SOURCE OUT         a published data set as parquet shards
    sgenet masks NAME OUT                     an evaluation mask set as PNG files
    sgenet info CHECKPOINT                    what a checkpoint is
    sgenet average CHECKPOINT... --out DIR    the mean of related checkpoints
    sgenet serve                              the page in the browser
    sgenet deploy-space OWNER/NAME            the page as a Space on the Hub

Exit status: 0 all went well, 1 some files failed, 2 wrong usage or nothing done.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.utils import enable_progress_bars
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from .averaging import mean_of_networks
from .catalog import DATASETS
from .configuration_sgenet import as_drawn
from .hub import file_beside, network_name, whole_folder, write_bundled_folder
from .layouts import PREPARABLE
from .masks import MASK_SETS, IrregularMaskFiles, evaluation_mask, mask_set_sha256
from .modeling_sgenet import SGENetModel
from .photos import PHOTO_SUFFIXES, PhotoError, load_photo, save_photo, whole_file
from .pipeline import STRATEGIES, CheckpointError, Inpainter, InpaintingResult, class_names, load_model
from .space import deploy_space
from .thoughts import hole_at
from .visualization import class_palette, draw_reliability


ALL_WELL, SOME_FAILED, NOTHING_DONE = 0, 1, 2
FILE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)  # of one photo; anything else is a mistake of ours


@dataclass(frozen=True)
class Task:
    """One photo of a run; `trouble` says why it cannot even start."""

    photo: Path
    mask: Path | None
    prompt: Path | str | None
    out: Path
    key: str
    trouble: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        The exit status. Wrong arguments end in `SystemExit(2)`, as argparse does it.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command == "inpaint" and arguments.mask is None and not arguments.remove:
        parser.error("inpaint needs a MASK, or --remove with the names of classes")
    if arguments.command == "inpaint" and arguments.segmenter and not arguments.remove:
        parser.error("--segmenter finds what to --remove: name classes with --remove")
    if arguments.command == "inpaint" and arguments.guidance_scale is not None and not arguments.semantic_prompt:
        parser.error("--guidance-scale says how far a prompt pulls: name one with --semantic-prompt")
    transformers_logging.disable_progress_bar()  # "Loading weights" takes a moment
    enable_progress_bars()  # the Hub's, which the line above turns off too: a download may take long
    try:
        status = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads it, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ALL_WELL
    except (CheckpointError, ValueError, OSError, ImportError) as error:
        _say(f"sgenet {arguments.command}: {error}")
        return NOTHING_DONE


def inpaint_command(arguments: argparse.Namespace) -> int:
    """`sgenet inpaint`: one photo or a folder; a failed file is reported and the rest goes on."""
    tasks = _tasks(arguments)
    inpainter = Inpainter(
        arguments.model,
        segmenter=arguments.segmenter,
        device=arguments.device,
        dtype=arguments.dtype,
    )
    # What would fail for every photo is said once.
    inpainter.check_factors(arguments.noise_strength, arguments.guidance_scale, arguments.redrawn_share)
    if arguments.remove:
        inpainter.class_ids(arguments.remove)
    if arguments.semantic_prompt and not Path(arguments.semantic_prompt).exists():
        inpainter.prompted_class(arguments.semantic_prompt)
    if (arguments.all_scales or arguments.min_confidence) and not inpainter.classes:
        raise ValueError(
            f"{arguments.model} names no classes, so it has no confidence and no scales to show: leave out "
            "--all-scales and --min-confidence."
        )
    if not 0 <= arguments.min_confidence <= 1:
        raise ValueError(f"--min-confidence is a share: 0 to 1, not {arguments.min_confidence:g}.")
    if arguments.max_expected_error is not None and arguments.max_expected_error < 0:
        raise ValueError("--max-expected-error is a difference of colours: 0 or more, of 255.")
    if arguments.max_expected_error is not None and not getattr(inpainter.model.config, "error_estimation", False):
        raise ValueError(f"{arguments.model} expects no errors: leave out --max-expected-error.")
    filled = untouched = 0
    doubtful: list[tuple[float, Path]] = []
    far: list[tuple[float, Path]] = []
    with tqdm(total=len(tasks), unit="photo", disable=None if len(tasks) > 1 else True) as bar:
        for task in tasks:
            try:
                result = _fill(inpainter, task, arguments)
            except FILE_ERRORS as error:
                _say(f"{task.photo.name}: failed: {error}")
            else:
                filled += 1
                untouched += not result.mask.any()
                for message in result.warnings:
                    _say(f"{task.photo.name}: warning: {message}")
                verdict = "filled" if result.mask.any() else "nothing to fill"
                verdict = verdict if result.score is None else f"confidence {result.score:.3f}"
                if result.expected_error is not None:
                    verdict += f"  expected error {result.expected_error:.1f} of 255"
                found = ", ".join(f"{name} {share:.2%}" for name, share in result.removed.items())
                hole = f"hole {result.mask.mean():.2%}" + (f" (found, before it grew: {found})" if found else "")
                tqdm.write(f"{task.out}  {result.strategy}  {hole}  {verdict}")
                if result.score is not None and result.score < arguments.min_confidence:
                    doubtful.append((result.score, task.out))
                expected, most = result.expected_error, arguments.max_expected_error
                if expected is not None and most is not None and expected > most:
                    far.append((expected, task.out))
            bar.update()
    if doubtful:
        print(f"Below confidence {arguments.min_confidence:g}, to be looked at:")
        for score, out in sorted(doubtful):
            print(f"  {score:.3f}  {out}")
    if far:
        print(f"Expected error above {arguments.max_expected_error:g} of 255, to be looked at:")
        for expected, out in sorted(far, reverse=True):
            print(f"  {expected:.1f}  {out}")
    if len(tasks) > 1:
        nothing = f", {untouched} with nothing to fill" if untouched else ""
        _say(f"{filled - untouched} of {len(tasks)} photos filled{nothing}.")
    if filled == len(tasks):
        return ALL_WELL
    return SOME_FAILED if filled else NOTHING_DONE


def prepare_command(arguments: argparse.Namespace) -> int:
    """`sgenet prepare`: see `prepare.prepare`."""
    from .data import DATASET_FILE
    from .prepare import prepare  # needs `datasets`, which filling does not

    counts = prepare(
        arguments.dataset,
        arguments.source,
        arguments.out,
        splits_folder=arguments.splits_folder,
        shard_rows=arguments.shard_rows,
        resize_shorter=arguments.resize_shorter,
    )
    labelled = json.loads((arguments.out / DATASET_FILE).read_text(encoding="utf-8"))["labelled"]
    for split, count in counts.items():
        print(f"{split}: {count} photos" + ("" if labelled[split] == count else f", {labelled[split]} with labels"))
    return ALL_WELL


def masks_command(arguments: argparse.Namespace) -> int:
    """`sgenet masks`: PNG files, white = hole, and the fingerprint of the set."""
    files = IrregularMaskFiles(arguments.irregular_files) if arguments.irregular_files else None
    height, width = arguments.size
    digits = max(4, len(str(arguments.count - 1)))

    def masks() -> Iterable[np.ndarray]:
        for index in range(arguments.count):
            yield evaluation_mask(arguments.name, arguments.seed, index, height, width, irregular_files=files)

    names, written = [], []
    if foreign := sorted(path.name for path in arguments.out.glob("*.png")):
        raise FileExistsError(f"{arguments.out} holds pictures already ({foreign[0]} ...): name a new folder.")
    for index, mask in enumerate(tqdm(masks(), total=arguments.count, unit="mask", disable=None)):
        names.append(f"{index:0{digits}d}.png")
        _save(Image.fromarray(mask), arguments.out / names[-1])
        written.append(mask)
    lines = [f"{mask_set_sha256([mask])}  {name}" for name, mask in zip(names, written, strict=True)]
    digest = mask_set_sha256(written)
    description = f"# {arguments.name}, seed {arguments.seed}, {width}x{height}: {digest}"
    with whole_file(arguments.out / "masks.sha256") as temporary:
        temporary.write_text("\n".join([description, *lines, ""]), encoding="utf-8")
    print(f"{arguments.count} masks, {np.mean(written):.1%} hole on average, sha256 of the set {digest}")
    return ALL_WELL


def info_command(arguments: argparse.Namespace) -> int:
    """`sgenet info`: what a checkpoint is, and what it costs to run; or its classes alone."""
    model = load_model(arguments.checkpoint, device="cpu")
    config: Any = model.config
    if arguments.classes:
        if not config.id2label:
            raise ValueError(f"{arguments.checkpoint} names no classes.")
        names = [name for _, name in sorted(config.id2label.items())]
        colors = class_palette(len(names), config.label_colors)
        print("\n".join(f"{name} {':'.join(map(str, color))}" for name, color in zip(names, colors, strict=True)))
        return ALL_WELL
    of_the_paper = isinstance(model, SGENetModel)
    facts = {
        "network": network_name(config) if of_the_paper else type(model).__name__.removesuffix("Model"),
        "parameters": f"{model.num_parameters():,}",
        "type": str(model.dtype).removeprefix("torch."),
        "GFLOP at 256x256": f"{count_flop(model) / 1e9:.1f} (2 x MAC)",
        "channels": " ".join(map(str, config.widths)) if of_the_paper else str(config.width),
        "trained at": f"{config.image_size}x{config.image_size}",
        "classes": ", ".join(f"{index} {name}" for index, name in sorted(config.id2label.items())) or "none",
    }
    if of_the_paper and config.confidence_evaluation:
        facts["reliability"] = (
            f"tau reading {config.tau_reading}, proportions {' '.join(map(str, config.tau_proportions))} "
            f"(scale 4 to 0), first {config.first_reliability}, from {config.reliability_source}"
        )
    if of_the_paper:
        noise = f"noise in the hole: {config.noise_channels} planes, strength {config.noise_strength:g}"
        prompts = f"prompts at guidance scale {config.guidance_scale:g}"
        extras = {
            f"contextual attention, share {config.pasted_share:g}": config.contextual_attention,
            f"redrawn with the photo's patches, share {config.redrawn_share:g}": config.redrawn_share,
            prompts: config.semantic_guidance and config.guidance_scale != 1,
            "expected error": config.error_estimation,
            noise: config.noise_channels,
        }
        facts["beyond the paper"] = "; ".join(name for name, has in extras.items() if has) or "nothing"
    facts["terms"] = terms(arguments.checkpoint)
    for name, value in facts.items():
        print(f"{name + ':':<18} {value}")
    return ALL_WELL


def average_command(arguments: argparse.Namespace) -> int:
    """`sgenet average`: see `averaging.mean_of_networks`."""
    names = [name for name, _ in arguments.checkpoints]
    with whole_folder(arguments.out, "the mean") as folder:
        write_bundled_folder(mean_of_networks(arguments.checkpoints), folder)
        if processor := file_beside(names[0], "preprocessor_config.json"):
            shutil.copyfile(processor, folder / processor.name)
        # Terms hold for what was made of the weights.
        licences = filter(None, (file_beside(name, "LICENSE") for name in names))
        if texts := dict.fromkeys(file.read_text(encoding="utf-8") for file in licences):
            (folder / "LICENSE").write_text("\n\n".join(texts), encoding="utf-8")
    print(f"mean of {len(names)} networks: {arguments.out}")
    return ALL_WELL


def count_flop(model: PreTrainedModel, side: int = 256) -> int:
    """Floating-point operations (2 x MAC) of the network, all scales, for one photo of `side` x `side`. Redrawing its
    fill is not among them."""
    device, dtype = model.device, model.dtype
    photo = torch.zeros(1, 3, side, side, device=device, dtype=dtype)
    hole = torch.zeros(1, 1, side, side, device=device, dtype=dtype)
    hole[..., side // 4 : -side // 4, side // 4 : -side // 4] = 1
    # Not inference_mode: under the counter it hides what spectral norm parametrizes.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(photo, hole, **as_drawn(model.config))
    return counter.get_total_flops()


def terms(checkpoint: str) -> str:
    """The first paragraph of the LICENSE beside the weights, and where the rest is."""
    licence = file_beside(checkpoint, "LICENSE")
    if licence is None:
        return "no LICENSE beside the weights; ask who trained them"
    paragraphs = licence.read_text(encoding="utf-8").strip().split("\n\n")
    text = [paragraph for paragraph in paragraphs if not re.search(r"^[=-]{3,}$", paragraph, re.MULTILINE)]
    return f"{' '.join((text or paragraphs)[0].split())} (all of it: {licence})"


def serve_command(arguments: argparse.Namespace) -> int:
    """`sgenet serve`: runs app.py, which lies beside the package in the project's folder."""
    app = Path(__file__).resolve().parent.parent / "app.py"
    if not app.is_file():
        raise FileNotFoundError(
            "The page's app.py is part of the project's folder, not of an installed package: clone the project and "
            "run `make demo` or `sgenet serve` there."
        )
    os.environ["SGENET_MODEL"] = arguments.model
    if arguments.port:
        os.environ["PORT"] = str(arguments.port)
    sys.path.insert(0, str(app.parent))
    try:
        runpy.run_path(str(app), run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):  # a setting of the page that cannot be used
            raise ValueError(stop.code) from stop
        raise
    return ALL_WELL


def deploy_space_command(arguments: argparse.Namespace) -> int:
    """`sgenet deploy-space`: see `space.deploy_space`."""
    compare = dict(arguments.compare or [])
    print(deploy_space(arguments.repo_id, model=arguments.model, compare=compare, private=arguments.private))
    return ALL_WELL


def write_scales(result: InpaintingResult, palette: np.ndarray, folder: Path) -> None:
    """Writes what the network drew and thought at each scale.

    `scale-4-image.png` to `scale-0-image.png`; `-segmentation.png` with the class id as palette index;
    `-confidence.png`, 255 = sure; `-reliability.png` as the paper draws it, white = unreliable; at scale 2
    `-expected-error.png` in 8-bit values, 0 outside the hole, if the network estimates errors; at scale 3
    `-pasted.png`, the hole filled from the known part alone, if the network does that; and `scales.json` with the part
    of the photo that they show and how the fill was made and judged.

    Args:
        result: a filled photo.
        palette: colours of shape (num_labels, 3).
        folder: where to; made if missing.
    """
    for view in result.scales:
        start = folder / f"scale-{view.level}"
        segmentation = Image.fromarray(view.labels.astype(np.uint8))
        segmentation.putpalette(palette[:256].tobytes())
        pictures = {
            "image": view.image,
            "segmentation": segmentation,
            "confidence": Image.fromarray(np.rint(view.confidence * 255).astype(np.uint8)),
        }
        if view.reliability is not None:
            pictures["reliability"] = Image.fromarray(draw_reliability(view.reliability))
        if view.expected_error is not None:
            height, width = view.expected_error.shape
            error = np.where(hole_at(result, (width, height)), np.rint(view.expected_error), 0)
            pictures["expected-error"] = Image.fromarray(error.clip(0, 255).astype(np.uint8))
        if view.pasted is not None:
            pictures["pasted"] = view.pasted
        for name, picture in pictures.items():
            _save(picture, Path(f"{start}-{name}.png"))
    facts = {
        "region": list(result.region),
        "score": result.score,
        "expected_error": result.expected_error,
        "noise_strength": result.noise_strength,
        "guidance_scale": result.guidance_scale,
        "redrawn_share": result.redrawn_share,
        "classes": result.classes,
    }
    with whole_file(folder / "scales.json") as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _fill(inpainter: Inpainter, task: Task, arguments: argparse.Namespace) -> InpaintingResult:
    """Fills one photo and writes what was asked for."""
    if task.trouble:
        raise PhotoError(task.trouble)
    photo = load_photo(task.photo)
    result = inpainter(
        photo,
        task.mask,
        remove=arguments.remove,
        strategy=arguments.strategy,
        semantic_prompt=task.prompt,
        invert_mask=arguments.invert_mask,
        resize_mask=arguments.resize_mask,
        grow=arguments.grow,
        feather=arguments.feather,
        noise_strength=arguments.noise_strength,
        guidance_scale=arguments.guidance_scale,
        redrawn_share=arguments.redrawn_share,
    )
    save_photo(photo, result.image, task.out)
    if arguments.all_scales:
        config = inpainter.model.config
        write_scales(result, class_palette(config.num_labels, config.label_colors), arguments.all_scales / task.key)
    return result


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    """Which photos, with which mask and prompt, go where.

    Raises:
        FileNotFoundError: an input is not there, or a folder holds no photos.
        ValueError: OUT is a file, or named like one, for a folder of photos, or of a format that cannot be written.
    """
    for path in (arguments.photo, arguments.mask):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"No such file or folder: {path}")
    if not arguments.photo.is_dir():
        photos = [arguments.photo]
    elif not (photos := _photos_in(arguments.photo)):
        raise FileNotFoundError(f"No photos ({', '.join(PHOTO_SUFFIXES)}) in {arguments.photo}.")
    to_folder = arguments.photo.is_dir() or arguments.out.is_dir() or not arguments.out.suffix
    looks_like_photo = arguments.out.suffix.lower() in PHOTO_SUFFIXES and not arguments.out.is_dir()
    if arguments.photo.is_dir() and (arguments.out.is_file() or looks_like_photo):
        raise ValueError(f"{arguments.photo} is a folder and {arguments.out} a file: name a folder with -o.")
    if file := next((parent for parent in arguments.out.parents if parent.is_file()), None):
        raise ValueError(f"{file} is a file, so {arguments.out} cannot be in it: name another place with -o.")
    if not to_folder and arguments.out.suffix.lower() not in PHOTO_SUFFIXES:
        raise ValueError(f"Cannot write {arguments.out.name}: choose one of {', '.join(PHOTO_SUFFIXES)}.")
    stems = Counter(photo.stem for photo in photos)
    return [_task(photo, arguments, to_folder, stems[photo.stem] > 1) for photo in photos]


def _task(photo: Path, arguments: argparse.Namespace, to_folder: bool, shares_stem: bool) -> Task:
    out = arguments.out
    if to_folder:
        out /= photo.name if photo.suffix.lower() in PHOTO_SUFFIXES else f"{photo.stem}.png"
    key = photo.name if shares_stem else photo.stem
    try:
        mask = _beside(arguments.mask, photo, "mask")
        prompt = arguments.semantic_prompt
        if prompt is not None and Path(prompt).exists():
            prompt = _beside(Path(prompt), photo, "semantic prompt")
        for source in (photo, mask, prompt):
            if isinstance(source, Path) and source.resolve() == out.resolve():
                raise PhotoError(f"{out} would replace {source}: name another file or folder with -o.")
    except PhotoError as error:
        return Task(photo, None, None, out, key, trouble=str(error))
    return Task(photo, mask, prompt, out, key)


def _beside(source: Path | None, photo: Path, what: str) -> Path | None:
    """The mask or prompt of a photo: the one for all, or the one of the same stem."""
    if source is None or source.is_file():
        return source
    found = [path for path in _photos_in(source) if path.stem == photo.stem]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise PhotoError(f"needs one {what} named {photo.stem}.* in {source}, found {names}.")
    return found[0]


def _photos_in(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.suffix.lower() in PHOTO_SUFFIXES)


def _save(image: Image.Image, path: Path) -> None:
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG")


def _say(message: str) -> None:
    """To the person at the terminal, beside the progress bar; results go to standard output."""
    tqdm.write(message, file=sys.stderr)


def _size(text: str) -> tuple[int, int]:
    """`256` or `480x360` (width x height) as (height, width)."""
    width, _, height = text.partition("x")
    size = (int(height or width), int(width))
    if min(size) < 1:
        raise ValueError(text)
    return size


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _named(text: str) -> tuple[str, str]:
    name, equals, checkpoint = text.partition("=")
    if not (name and equals and checkpoint):
        raise ValueError(text)
    return name, checkpoint


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    if not equals or Path(text).is_dir():  # a folder may have a = in its name
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no folder and not CHECKPOINT=WEIGHT (street=0.5)") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgenet",
        description="SGE-Net fills holes in photos and says how sure it is.",
        epilog="Exit status: 0 all went well, 1 some files failed, 2 wrong usage or nothing done.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], description: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=description, description=description)
        added.set_defaults(run=run)
        return added

    _add_inpaint_arguments(command("inpaint", inpaint_command, "Fill the hole of a photo, or of a folder's photos."))

    prepare = command("prepare", prepare_command, "Turn a published data set into parquet shards.")
    prepare.formatter_class = argparse.RawDescriptionHelpFormatter
    prepare.epilog = "what SOURCE holds:\n" + "\n".join(
        textwrap.fill(f"{name}: {DATASETS[name].layout}", 78, break_on_hyphens=False, subsequent_indent="    ")
        for name in PREPARABLE
    )
    prepare.add_argument("dataset", help=f"one of {', '.join(PREPARABLE)}")
    prepare.add_argument("source", type=Path, help="folder with the published files")
    prepare.add_argument("out", type=Path, help="folder to write; a stopped run goes on where it stopped")
    prepare.add_argument("--splits-folder", type=Path, help="folder with train.txt, dev.txt and report.txt (street)")
    prepare.add_argument("--shard-rows", type=_positive, default=500, help="photos per shard (default 500)")
    prepare.add_argument(
        "--resize-shorter",
        type=_positive,
        metavar="PIXELS",
        help="shorter side (default: the paper's, 256 where it has none)",
    )

    masks = command("masks", masks_command, "Write an evaluation mask set as PNG files, white = hole.")
    masks.add_argument("name", help=f"{', '.join(MASK_SETS)}, or centre-N")
    masks.add_argument("out", type=Path, help="folder to write")
    masks.add_argument("--count", type=_positive, default=100, help="how many (default 100)")
    masks.add_argument("--size", type=_size, default=(256, 256), help="SIDE or WIDTHxHEIGHT (default 256)")
    masks.add_argument("--seed", type=int, default=0, help="default 0")
    masks.add_argument("--irregular-files", type=Path, help="folder of mask files for the irregular sets")

    info = command("info", info_command, "Say what a checkpoint is and what it costs to run.")
    info.add_argument(
        "checkpoint", nargs="?", default="street", help="bundled name, folder or Hub id (default street)"
    )
    info.add_argument(
        "--classes", action="store_true", help="print its classes and their colours alone, a line each: a classes.txt"
    )

    average = command("average", average_command, "Write the mean of several networks of one kind.")
    average.add_argument(
        "checkpoints",
        nargs="+",
        type=_weighted,
        metavar="CHECKPOINT[=WEIGHT]",
        help="bundled name, folder or Hub id, and how much it counts (default 1)",
    )
    average.add_argument("--out", type=Path, required=True, help="new folder to write, with terms; float16 on disk")

    serve = command("serve", serve_command, "Serve the page in the browser.")
    serve.add_argument("--model", default="street", help="bundled name, folder or Hub id (default street)")
    serve.add_argument("--port", type=_positive, help="port to listen on")

    deploy = command("deploy-space", deploy_space_command, "Put the page on the Hub as a Space, or update it.")
    deploy.add_argument("repo_id", metavar="OWNER/NAME", help="the Space; made if missing")
    deploy.add_argument("--model", default="street", help="bundled name, folder or Hub id (default street)")
    deploy.add_argument(
        "--compare",
        type=_named,
        action="append",
        metavar="NAME=CHECKPOINT",
        help="a network that visitors may compare it with; may be given several times",
    )
    deploy.add_argument("--private", action="store_true", help="only you and your organisation see it")
    return parser


def _add_inpaint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, help="photo, or folder of photos")
    parser.add_argument(
        "mask", type=Path, nargs="?", help="mask, white = hole: one for all photos, or a folder matched by stem"
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        help="file, or folder; PNG keeps known pixels bit for bit, JPEG encodes all of them again",
    )
    parser.add_argument("--model", default="street", help="bundled name, folder or Hub id (default street)")
    parser.add_argument("--remove", type=class_names, metavar="CLASS,...", help="remove what belongs to these classes")
    parser.add_argument(
        "--segmenter",
        metavar="NAME",
        help="folder or Hub id of the AutoModelForSemanticSegmentation that finds what to --remove "
        "(default: the network itself)",
    )
    parser.add_argument(
        "--semantic-prompt",
        metavar="FILE|CLASS",
        help="what belongs there: the name of a class, for the whole hole; or a palette or grey PNG of class ids, "
        "255 = free; or a folder of these, matched by stem",
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="auto", help="what the network sees (default auto)")
    parser.add_argument("--invert-mask", action="store_true", help="the mask is black where the hole is")
    parser.add_argument("--resize-mask", action="store_true", help="bring mask and prompt to the photo's size")
    parser.add_argument("--grow", type=int, default=0, metavar="PIXELS", help="grow the hole; negative shrinks it")
    parser.add_argument("--feather", type=int, default=0, metavar="PIXELS", help="blend fill and photo over this band")
    parser.add_argument("--all-scales", type=Path, metavar="DIR", help="write every scale's picture and maps there")
    parser.add_argument(
        "--min-confidence", type=float, default=0.0, metavar="SHARE", help="list the photos that score below this"
    )
    parser.add_argument(
        "--noise-strength",
        type=float,
        metavar="FACTOR",
        help="how much texture the fill shows: 0 the smoothest, 1 as in training, at most 2 (default: the "
        "checkpoint's; street: 0.7)",
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        metavar="FACTOR",
        help="how far the semantic prompt pulls: 1 as in training, at most 4 (default: the checkpoint's; street: 1.5)",
    )
    parser.add_argument(
        "--redrawn-share",
        type=float,
        metavar="SHARE",
        help="how much of the fill is redrawn with the photo's own patches: 0 the network's own drawing, much "
        "faster, 1 all, between them a mixture of both (default: the checkpoint's; street: 1)",
    )
    parser.add_argument(
        "--max-expected-error",
        type=float,
        metavar="VALUE",
        help="list the photos whose colours in the hole are expected to miss the truth by more than this, of 255",
    )
    parser.add_argument("--device", help="cpu, cuda, mps ... (default: the best that is present)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the checkpoint's")


__all__ = ["count_flop", "main", "write_scales"]


if __name__ == "__main__":
    sys.exit(main())
