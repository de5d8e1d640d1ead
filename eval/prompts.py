"""Does a semantic prompt do what it says? A segmenter that is not told reads the fills.

    python -m eval.prompts street --data PREPARED_FOLDER --segmenter NETWORK --classes sky tree --out runs/prompts

For each photo and each class the whole hole is prompted with that class; what counts are the pixels whose true label
is another one. Beside the share of them that the segmenter reads as asked stands the share that it reads so without a
prompt: what the network would have painted anyway. There are two ceilings. The hole is prompted with its true labels;
and with `--windows-of train` a window of a real photo of that split, which shows the asked class and little else, is
pasted into the hole's box: a segmenter that looks around itself may not read even that as asked. The
segmenter (any `AutoModelForSemanticSegmentation`) must know the data set's classes by name; `eval.train_segmenter`
trains one on photos without holes.

Written: `prompts.json` (shares with 95 % intervals over drives and runs of shots, and provenance), `prompts.md` and
`prompts.png` (a few photos). Pictures of photos that may not be passed on must not enter the project: choose `--out`
outside of it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from eval.columns import markdown_rows
from eval.commands import said_in_a_sentence
from eval.evaluation_set import EvaluationSet, Sample, add_set_options, samples_of, spread
from eval.files import write_picture, write_whole
from eval.intervals import draw, interval
from eval.paper_figures import as_picture, by_domain
from eval.provenance import now, provenance, weights_sha256
from eval.segmenter import SegmenterJudge
from eval.systems import SETTINGS, split_settings, with_settings
from sgenet_hf import SGENetModel
from sgenet_hf.data import InpaintingDataset, class_textures, load_inpainting_dataset
from sgenet_hf.pipeline import load_model
from sgenet_hf.visualization import panel


VOID = 255
FREE = -1  # the network decides
WINDOW_SHARE = 0.8  # of a pasted window that is of its class: few photos show a car any larger


@torch.inference_mode()
def fill(model: SGENetModel, sample: Sample, prompt: np.ndarray | None) -> np.ndarray:
    """The composite, uint8 (H, W, 3), under a prompt of class ids (H, W), -1 = free."""
    device = next(model.parameters()).device
    pixels = torch.from_numpy(sample.emptied(0).transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    output = model(
        pixel_values=pixels.to(device),
        mask=torch.from_numpy(sample.mask)[None, None].float().to(device),
        semantic_prompt=None if prompt is None else torch.from_numpy(prompt)[None].to(device),
    )
    return np.where(sample.mask[..., None], as_picture(output.composite[0]), sample.photo)


def hole_prompt(sample: Sample, labels: np.ndarray | int) -> np.ndarray:
    """Class ids in the hole, -1 outside of it and where the label is void."""
    prompt = np.where(sample.mask, labels, FREE)
    return np.where(prompt == VOID, FREE, prompt)


def paste(sample: Sample, window: np.ndarray) -> np.ndarray:
    """The photo with the middle of a window, uint8 (side, side, 3), in its hole.

    Raises:
        ValueError: If the window is smaller than the hole's box.
    """
    rows, columns = (np.flatnonzero(sample.mask.any(axis=axis)) for axis in (1, 0))
    height, width = (int(places[-1] - places[0]) + 1 for places in (rows, columns))
    top, left = ((side - own) // 2 for side, own in zip(window.shape, (height, width), strict=False))
    if min(top, left) < 0:
        raise ValueError(f"A window of {window.shape[0]} pixels does not cover a hole of {height} x {width}.")
    pasted = sample.photo.copy()
    box = np.s_[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    pasted[box] = np.where(
        sample.mask[box][..., None], window[top : top + height, left : left + width], sample.photo[box]
    )
    return pasted


def ask(
    model: SGENetModel,
    sample: Sample,
    judge: SegmenterJudge,
    class_ids: np.ndarray,
    classes: Sequence[int],
    windows: Mapping[int, np.ndarray] | None = None,
) -> tuple[dict, list[np.ndarray]]:
    """Counts of pixels of one photo, and its pictures: truth, hole, without a prompt, each class, true labels.

    Args:
        model: SGE-Net or SG-Net.
        sample: Photo, labels and hole.
        judge: Reads the fills.
        class_ids: Of the judge, see `SegmenterJudge.class_ids`.
        classes: Class ids to ask for.
        windows: Class id -> a photo's window that shows it, uint8 (side, side, 3).
    """
    known = sample.mask & (sample.labels != VOID)
    free = fill(model, sample, None)
    read_free = judge(free, class_ids)
    row: dict = {"id": sample.id, "group": sample.group, "pixels": [], "as_asked": [], "anyway": [], "pasted": []}
    pictures = [sample.photo, sample.emptied(255), free]
    for wanted in classes:
        counted = known & (sample.labels != wanted)
        prompted = fill(model, sample, hole_prompt(sample, wanted))
        row["pixels"].append(int(counted.sum()))
        row["as_asked"].append(int((judge(prompted, class_ids) == wanted)[counted].sum()))
        row["anyway"].append(int((read_free == wanted)[counted].sum()))
        if windows is None or wanted not in windows:
            row["pasted"].append(None)
        else:
            read = judge(paste(sample, windows[wanted]), class_ids)
            row["pasted"].append(int((read == wanted)[counted].sum()))
        pictures.append(prompted)
    told = fill(model, sample, hole_prompt(sample, sample.labels))
    row["known"] = int(known.sum())
    row["true_told"] = int((judge(told, class_ids) == sample.labels)[known].sum())
    row["true_free"] = int((read_free == sample.labels)[known].sum())
    row["true_photo"] = int((judge(sample.photo, class_ids) == sample.labels)[known].sum())
    return row, [*pictures, told]


def windows_of(arguments: argparse.Namespace, samples: EvaluationSet, classes: Sequence[int]) -> dict[int, np.ndarray]:
    """Windows of another split's photos, as large as the largest hole's box: class id -> uint8 (N, side, side, 3).

    Raises:
        ValueError: If it is the same split.
    """
    if arguments.windows_of == arguments.split:
        raise ValueError("--windows-of: take another split than the photos that are filled.")
    side = max(int(np.ptp(np.flatnonzero(sample.mask.any(axis=axis)))) + 1 for sample in samples for axis in (0, 1))
    rows = load_inpainting_dataset(arguments.data, arguments.windows_of)
    photos = InpaintingDataset(
        rows,
        size=arguments.size,
        resize_shorter=arguments.size,
        seed=arguments.seed,
        num_labels=256,
        ignore_index=samples.ignore_index,
    )
    found = class_textures(photos, classes, side, share=WINDOW_SHARE)
    return {
        index: windows.add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy() for index, windows in found.items()
    }


def shares(rows: Sequence[dict], classes: Sequence[str], resamples: int, seed: int) -> dict:
    """Shares of pixels with intervals: per class, over all classes, and for the true labels."""
    draws = draw([row["group"] for row in rows], np.random.default_rng(seed), resamples, 1) if resamples else None

    def share(hits: Sequence[int], of: Sequence[int]) -> dict:
        top, bottom = np.array(hits, float), np.array(of, float)
        value = float(top.sum() / bottom.sum()) if bottom.sum() else None
        ends = None
        if draws is not None and value is not None:
            with np.errstate(invalid="ignore"):  # a draw without such pixels has no share, and then nothing has ends
                ends = interval((draws.weights @ top) / (draws.weights @ bottom))
        return {"value": value, "interval": ends}

    def column(name: str, index: int | None) -> list[int]:
        return [sum(row[name]) if index is None else row[name][index] for row in rows]

    asked = {}
    for index, name in [*enumerate(classes), (None, "all")]:
        pixels = column("pixels", index)
        pasted = [row["pasted"] if index is None else [row["pasted"][index]] for row in rows]
        shown = all(None not in counts for counts in pasted)
        asked[name] = {
            "pixels": sum(pixels),
            "as_asked": share(column("as_asked", index), pixels),
            "anyway": share(column("anyway", index), pixels),
            "pasted": share(column("pasted", index), pixels) if shown else {"value": None, "interval": None},
        }
    known = [row["known"] for row in rows]
    truth = {name: share([row[name] for row in rows], known) for name in ("true_told", "true_free", "true_photo")}
    return {"n": len(rows), "asked": asked, "truth": truth}


def share_cell(share: dict) -> str:
    """A share in percent with its interval."""
    if share["value"] is None:
        return ""
    ends = share["interval"]
    text = f"{100 * share['value']:.1f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def markdown(domains: dict[str, dict]) -> str:
    """The shares as tables."""
    asked = [
        [domain, str(facts["n"]), name, *(share_cell(one[key]) for key in ("as_asked", "anyway", "pasted"))]
        for domain, facts in domains.items()
        for name, one in facts["asked"].items()
    ]
    truth = [
        [domain, *(share_cell(facts["truth"][name]) for name in ("true_told", "true_free", "true_photo"))]
        for domain, facts in domains.items()
    ]
    return (
        "Share of the prompted hole pixels of another true class that the segmenter reads as asked, in percent.\n\n"
        + markdown_rows(
            ["photos", "N", "prompt", "read as asked", "read so without a prompt", "a real window of it pasted in"],
            asked,
        )
        + "\nShare of the labelled hole pixels that it reads as the truth, in percent.\n\n"
        + markdown_rows(["photos", "true labels as prompt", "no prompt", "the photo itself"], truth)
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.prompts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", help="name, folder or Hub id of SGE-Net or SG-Net; {guidance_scale: 1} after it sets that"
    )
    add_set_options(parser)
    parser.add_argument("--segmenter", required=True, help="Hub id or folder; NAME=ID says what to call it")
    parser.add_argument("--classes", nargs="+", required=True, help="names of the classes to prompt with")
    parser.add_argument("--windows-of", metavar="SPLIT", help="paste windows of this split's photos in, as a ceiling")
    parser.add_argument("--resamples", type=int, default=1000, help="draws for the intervals; 0 for none")
    parser.add_argument("--shown", type=int, default=6, help="photos in the picture")
    parser.add_argument("--cell", type=int, default=160, help="side of one photo in the picture, in pixels")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Fills every photo under every prompt and writes what the segmenter read.

    Raises:
        SystemExit: If something cannot be loaded, the network takes no prompts, or a class is not known to it or to
            the data.
    """
    arguments = parse_arguments(argv)
    with said_in_a_sentence("eval.prompts"):
        checkpoint, settings = split_settings(arguments.checkpoint)
        model = load_model(checkpoint, device=arguments.device, network=SGENetModel)
        if not model.config.semantic_guidance:
            raise ValueError(f"{arguments.checkpoint} has no semantic guidance (Base-Net): a prompt would do nothing.")
        if settings:
            model = with_settings(model, settings)
        samples = samples_of(arguments)
        names = [model.config.id2label[index] for index in range(model.config.num_labels)]
        if samples.class_names != names:
            raise ValueError(f"The network's classes ({', '.join(names)}) are not those of {arguments.data}.")
        if unknown := [name for name in arguments.classes if name not in names]:
            raise ValueError(f"--classes: {', '.join(unknown)} not among {', '.join(names)}.")
        judge = SegmenterJudge(arguments.segmenter, arguments.device)
        class_ids = judge.class_ids(names)
        classes = [names.index(name) for name in arguments.classes]
        windows = {} if arguments.windows_of is None else windows_of(arguments, samples, classes)

    shown = spread(len(samples), arguments.shown)
    rows, grid = [], []
    for position, sample in enumerate(tqdm(samples, desc="prompts", unit="photo")):
        rng = np.random.default_rng([arguments.seed, position])
        drawn = {index: of_class[rng.integers(len(of_class))] for index, of_class in windows.items()}
        row, pictures = ask(model, sample, judge, class_ids, classes, drawn)
        rows.append(row)
        if position in shown:
            grid.append(pictures)

    domains = by_domain(rows)
    if len(domains) > 1:
        domains["all"] = rows
    results = {
        domain: shares(own, arguments.classes, arguments.resamples, arguments.seed) for domain, own in domains.items()
    }
    facts = {
        "provenance": provenance(["python", "-m", "eval.prompts", *(sys.argv[1:] if argv is None else argv)]),
        "set": samples.fingerprint(),
        "weights_sha256": weights_sha256(model),
        "settings": {name: getattr(model.config, name) for name in SETTINGS},
        "segmenter": {"name": judge.name, "weights_sha256": weights_sha256(judge.model)},
        "windows": {names[index]: len(of_class) for index, of_class in windows.items()},
        "prompts": results,
        "rows": rows,
        "finished": now(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "prompts.json", json.dumps(facts, indent=2) + "\n")
    text = markdown(results)
    write_whole(arguments.out / "prompts.md", text)
    captions = ["truth", "input", "no prompt", *arguments.classes, "true labels"]
    write_picture(arguments.out / "prompts.png", panel(grid, captions, cell=arguments.cell))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
