"""Fills to look at: one row a photo, one column a system.

    python -m eval.figures telea street --data PREPARED_FOLDER --split dev --masks centre-96 --count 24 \
        --segmentation --out ../fills.png

The columns: truth, what the systems see, each system's fill, and with `--segmentation` the true labels and each
network's own. The photos are spread evenly over the split, so that nobody picks the good ones. Pictures of photos that
may not be passed on must not enter the project: choose `--out` outside of it.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.evaluation_set import EvaluationSet, Sample
from eval.systems import System, load_system
from sgenet_hf.visualization import class_palette, colour_labels, panel


def figure_row(
    sample: Sample, systems: list[System], palette: np.ndarray | None
) -> tuple[list[np.ndarray], list[str]]:
    """Pictures and captions of one photo; label maps are left out without a palette."""
    hole = sample.mask[..., None]
    cells = [("truth", sample.photo), ("input", np.where(hole, np.uint8(255), sample.photo))]
    label_cells = [("true labels", sample.labels)]
    emptied = np.where(hole, np.uint8(0), sample.photo)
    for system in systems:
        filled = system.fill(emptied, sample.labels, sample.mask)
        if filled.image is not None:
            cells.append((system.name, filled.image))
        if filled.labels is not None:
            label_cells.append((f"{system.name}: labels", filled.labels))
    if palette is not None:
        cells += [(caption, colour_labels(labels, palette)) for caption, labels in label_cells]
    return [picture for _, picture in cells], [caption for caption, _ in cells]


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Blocks of rows next to each other, so that 24 rows make a page and not a ribbon."""
    page = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
    left = 0
    for picture in pictures:
        page.paste(picture, (left, 0))
        left += picture.width
    return page


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM", help="as in eval.run: telea, CHECKPOINT, NAME=...")
    parser.add_argument("--data", required=True, help="prepared folder, Hub id or toy:COUNT")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--masks", default="centre-96", help="mask set")
    parser.add_argument("--mask-files", help="folder of irregular mask files; generated without it")
    parser.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random mask sets")
    parser.add_argument("--count", type=int, default=24, help="photos, evenly spread over the split")
    parser.add_argument("--blocks", type=int, default=2, help="blocks of rows side by side")
    parser.add_argument("--cell", type=int, default=192, help="side of one picture on the page, in pixels")
    parser.add_argument("--segmentation", action="store_true", help="show label maps too")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Draws the page and writes it."""
    arguments = parse_arguments(argv)
    systems = [load_system(specification, arguments.device) for specification in arguments.systems]
    samples = EvaluationSet(
        arguments.data,
        arguments.split,
        arguments.masks,
        size=arguments.size,
        seed=arguments.seed,
        limit=arguments.count,
        mask_files=arguments.mask_files,
    )
    palette = None
    if arguments.segmentation:
        colors = next((system.label_colors for system in systems if system.label_colors), None)
        num_labels = max([samples.fingerprint()["num_labels"], *(system.num_labels or 0 for system in systems)])
        palette = class_palette(num_labels, colors)

    rows: list[list[np.ndarray]] = []
    captions: list[str] = []
    for sample in tqdm(samples, desc="figures", unit="photo"):
        pictures, captions = figure_row(sample, systems, palette)
        rows.append(pictures)
    share = -(-len(rows) // arguments.blocks)
    blocks = [
        panel(rows[start : start + share], captions, cell=arguments.cell) for start in range(0, len(rows), share)
    ]
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    side_by_side(blocks).save(partial, format="PNG")
    os.replace(partial, arguments.out)
    print(f"{len(rows)} photos, columns {', '.join(captions)}: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
