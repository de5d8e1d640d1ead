"""The paper's Fig. 6, 7 and 8 for a checkpoint on held-out photos, and the numbers behind them.

    python -m eval.paper_figures street --data PREPARED_FOLDER --split report --masks centre-96 --out ../figures

Written: `figures.json` (Fig. 6: share of unreliable pixels and gain in confidence per scale; Fig. 8: correlations and
the risk-coverage curve of each domain, with one row a photo, of the confidence and, where the network estimates it, of
the expected error; calibration of the segmentation in the hole), `figure_6_7.png` (a few photos, spread evenly: image,
segmentation, confidence and unreliable pixels, white, at every scale) and `figure_8.png` (error against confidence; in
`figure_8_expected_error.png` against the expected one).
One kind of hole at a time: across sizes the correlation would be that of the sizes. Pictures of photos that may not be
passed on must not enter the project: choose `--out` outside of it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from eval.commands import said_in_a_sentence
from eval.confidence import calibration, confidence_bins, correlations, risk_coverage, scale_numbers
from eval.evaluation_set import Sample, add_set_options, samples_of, spread
from eval.files import write_picture, write_whole
from eval.metrics.l1.l1 import l1
from eval.metrics.sharpness_ratio.sharpness_ratio import gradient_sum
from eval.plots import scatter
from eval.provenance import now, provenance, weights_sha256
from eval.systems import class_names_of, same_classes
from sgenet_hf import SGENetModel
from sgenet_hf.pipeline import load_model, mean_in_hole
from sgenet_hf.visualization import class_palette, colour_labels, confidence_heat_map, draw_reliability, panel


CORRELATIONS = ("pearson", "spearman", "partial_given_texture")


@torch.inference_mode()
def look(
    model: torch.nn.Module, sample: Sample, class_names: list[str] | None = None
) -> tuple[dict, list[list[np.ndarray | None]]]:
    """Numbers of one photo, and its pictures: rows image, segmentation, confidence, unreliable pixels; scale 4 first.

    Args:
        model: `SGENetModel`.
        sample: Photo and hole.
        class_names: Of the sample's labels; where the network's are others, it is never asked whether it was right.
    """
    device = next(model.parameters()).device
    pixels = torch.from_numpy(sample.photo.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1
    mask = torch.from_numpy(sample.mask)[None, None].float()
    output = model(pixel_values=pixels.to(device), mask=mask.to(device))
    palette = class_palette(model.config.num_labels, model.config.label_colors)
    row: dict = {"id": sample.id, "group": sample.group, "confidence": [], "unreliable": []}
    pictures: list[list[np.ndarray | None]] = [[], [], [], []]
    for scale in (4, 3, 2, 1, 0):
        view = output.at_scale(scale)
        confidence = view.confidence[0, 0].float().cpu().numpy()
        hole = functional.max_pool2d(mask, 2**scale, ceil_mode=True)[0, 0].numpy() > 0  # as the network counts it
        row["confidence"].append(float(confidence[hole].astype(np.float64).mean()))
        pictures[0].append(as_picture(view.image[0]))
        pictures[1].append(colour_labels(view.logits[0].argmax(dim=0).cpu().numpy(), palette))
        pictures[2].append(confidence_heat_map(confidence))
        if view.reliability_mask is None:
            row["unreliable"] = None
            pictures[3].append(None)
        else:
            reliability = view.reliability_mask[0, 0].cpu().numpy()
            row["unreliable"].append(float((reliability[hole] < 0.5).mean()))
            pictures[3].append(draw_reliability(reliability))
    filled = np.where(sample.mask[..., None], as_picture(output.composite[0]), sample.photo)
    labelled = sample.mask & (sample.labels != 255)
    if not same_classes(class_names_of(model.config), class_names):
        labelled[:] = False
    finest = output.at_scale(0)
    right = finest.logits[0].argmax(dim=0).cpu().numpy() == sample.labels
    row["bins"] = confidence_bins(finest.confidence[0, 0].double().cpu().numpy()[labelled], right[labelled])
    row["hole_l1"] = l1(filled, sample.photo, sample.mask)
    row["expected_error"] = None
    if output.expected_error is not None:
        cells = output.expected_error[0, 0].float().cpu().numpy() / 2  # of [-1, 1] to a share of the range, as L1 is
        row["expected_error"] = mean_in_hole(cells, sample.mask)
    row["true_texture"] = gradient_sum(sample.photo, sample.mask) / int(sample.mask.sum())
    return row, pictures


def as_picture(image: torch.Tensor) -> np.ndarray:
    """float (3, H, W) in [-1, 1] -> uint8 (H, W, 3)."""
    return image.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()


class TooFewPhotosError(SystemExit):
    """A set of which Fig. 8 cannot be made; its message is for people."""


def by_domain(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows of each domain (what stands before the `/` in `group`); Fig. 8 never mixes them."""
    domains: dict[str, list[dict]] = {}
    for row in rows:
        domains.setdefault(row["group"].split("/")[0], []).append(row)
    return domains


def figure_8(rows: list[dict]) -> dict:
    """Correlations of confidence and error and the risk-coverage curve of one domain.

    `expected_error` holds the same of the error that the network expects, None where it expects none: it should rise
    with the error, where confidence should fall. `bias` is its mean less the mean error.

    Raises:
        ValueError: If there are fewer than three photos.
    """
    confidence = np.array([row["confidence"][-1] for row in rows])
    error, texture = (np.array([row[key] for row in rows]) for key in ("hole_l1", "true_texture"))
    facts: dict = {"n": len(rows)} | correlations(confidence, error, texture)
    facts |= {"risk_coverage": risk_coverage(confidence, error), "expected_error": None}
    if rows[0].get("expected_error") is not None:
        expected = np.array([row["expected_error"] for row in rows])
        facts["expected_error"] = correlations(expected, error, texture) | {
            "bias": float((expected - error).mean()),
            "risk_coverage": risk_coverage(-expected, error),
        }
    return facts


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper_figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="bundled name, folder or Hub id")
    add_set_options(parser)
    parser.add_argument("--shown", type=int, default=4, help="photos in the picture of Fig. 6 and 7")
    parser.add_argument("--cell", type=int, default=160, help="side of one picture on the page, in pixels")
    parser.add_argument("--device", default="cpu", help="where the network runs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Looks at every photo, writes the numbers and draws the figures."""
    arguments = parse_arguments(argv)
    with said_in_a_sentence("eval.paper_figures"):
        model = load_model(arguments.checkpoint, device=arguments.device, network=SGENetModel)
        samples = samples_of(arguments)
    photos = by_domain([samples.names[index] for index in samples.indices])
    if scarce := [f"{len(own)} photos of {domain}" for domain, own in photos.items() if len(own) < 3]:
        raise TooFewPhotosError(
            f"eval.paper_figures: {samples.data} {samples.split} has {', '.join(scarce)}, but correlations need "
            "three: take a split with more, a larger --limit, or of drawn scenes toy:16."
        )
    shown = spread(len(samples), arguments.shown)
    rows, grid = [], []
    for position, sample in enumerate(tqdm(samples, desc="figures", unit="photo")):
        row, pictures = look(model, sample, samples.class_names)
        rows.append(row)
        if position in shown:
            # The photo and what the network saw of it stand left of the first row of each block.
            starts = [[sample.photo, sample.emptied(255)], [None, None], [None, None], [None, None]]
            grid += [start + line for start, line in zip(starts, pictures, strict=True)]

    domains = by_domain(rows)
    facts = {
        "provenance": provenance(["python", "-m", "eval.paper_figures", *(sys.argv[1:] if argv is None else argv)]),
        "set": samples.fingerprint(),
        "weights_sha256": weights_sha256(model),
        "figure_6": scale_numbers(rows),
        "figure_8": {domain: figure_8(own) for domain, own in domains.items()},
        "calibration": {domain: calibration([row["bins"] for row in own]) for domain, own in domains.items()},
        "rows": rows,
        "finished": now(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / "figures.json", json.dumps(facts, indent=2) + "\n")
    captions = ["truth", "input", *(f"scale {scale}" for scale in (4, 3, 2, 1, 0))]
    names = ["image", "segmentation", "confidence", "unreliable = white"] * (len(grid) // 4)
    write_picture(arguments.out / "figure_6_7.png", panel(grid, captions, names, cell=arguments.cell))
    dots = {domain: [(row["confidence"][-1], row["hole_l1"]) for row in own] for domain, own in domains.items()}
    write_picture(
        arguments.out / "figure_8.png", scatter(dots, "mean confidence in the hole", "L1 in the hole", x_range=(0, 1))
    )
    if model.config.error_estimation:
        dots = {domain: [(row["expected_error"], row["hole_l1"]) for row in own] for domain, own in domains.items()}
        write_picture(arguments.out / "figure_8_expected_error.png", scatter(dots, "expected error", "L1 in the hole"))
    print(
        json.dumps(
            {
                "figure_6": facts["figure_6"],
                "figure_8": {
                    domain: {"n": own["n"]}
                    | {name: own[name] for name in CORRELATIONS}
                    | {f"expected_{name}": (own["expected_error"] or {}).get(name) for name in CORRELATIONS}
                    for domain, own in facts["figure_8"].items()
                },
                "expected_calibration_error": {
                    domain: own.get("expected_calibration_error") for domain, own in facts["calibration"].items()
                },
            },
            indent=2,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
