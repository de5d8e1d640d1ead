r"""Fills to look at: one row a photo, one column a system.

    python -m eval.figures telea street --data PREPARED_FOLDER --split dev --masks centre-96 --limit 24 \
        --segmentation --out ../fills.png

The columns: truth, what the systems see, each system's fill, and with `--segmentation` the true labels and each
network's own. The photos are spread evenly over the split, so that nobody picks the good ones. Pictures of photos that
may not be passed on must not enter the project: choose `--out` outside of it.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.commands import said_in_a_sentence
from eval.evaluation_set import Sample, add_set_options, samples_of
from eval.files import write_picture
from eval.systems import Filled, System, answer, for_classes, load_systems
from sgenet_hf.visualization import class_palette, colour_labels, panel


Cells = list[tuple[str, np.ndarray]]  # captions and pictures, uint8 (H, W, 3), of one row


def fill_cells(answers: Mapping[str, Filled]) -> Cells:
    """The fills of the systems that paint, by what the systems are called."""
    return [(name, filled.image) for name, filled in answers.items() if filled.image is not None]


def label_cells(answers: Mapping[str, Filled], palette: np.ndarray) -> Cells:
    """The segmentations of the systems that label, in the palette's colours (N, 3)."""
    return [
        (f"{name}: labels", colour_labels(filled.labels, palette))
        for name, filled in answers.items()
        if filled.labels is not None
    ]


def figure_row(sample: Sample, answers: Mapping[str, Filled], palette: np.ndarray | None) -> Cells:
    """Captions and pictures of one photo; label maps are left out without a palette."""
    cells = [("truth", sample.photo), ("input", sample.emptied(255))]
    cells += fill_cells(answers)
    if palette is not None:
        cells += [("true labels", colour_labels(sample.labels, palette)), *label_cells(answers, palette)]
    return cells


def captioned_panel(rows: Sequence[Cells], row_captions: Sequence[str] = (), cell: int = 256) -> Image.Image:
    """A panel of rows that have the same captions in the same order."""
    pictures = [[picture for _, picture in row] for row in rows]
    return panel(pictures, [caption for caption, _ in rows[0]], row_captions, cell)


def common_palette(systems: list[System], num_labels: int) -> np.ndarray:
    """Colours (N, 3) for the classes of the data and of every system: those of the first checkpoint that names any."""
    colors = next((system.label_colors for system in systems if system.label_colors), None)
    return class_palette(max([num_labels, *(system.num_labels or 0 for system in systems)]), colors)


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
    add_set_options(parser, split="dev")
    parser.set_defaults(limit=24)
    parser.add_argument("--blocks", type=int, default=2, help="blocks of rows side by side")
    parser.add_argument("--cell", type=int, default=192, help="side of one picture on the page, in pixels")
    parser.add_argument("--segmentation", action="store_true", help="show label maps too")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Draws the page and writes it."""
    arguments = parse_arguments(argv)
    with said_in_a_sentence("eval.figures"):
        samples = samples_of(arguments)
        systems = load_systems(arguments.systems, arguments.device)
        systems = [for_classes(system, samples.class_names) for system in systems]
    palette = None
    if arguments.segmentation:
        palette = common_palette(systems, samples.fingerprint()["num_labels"])

    rows = [
        figure_row(sample, {system.name: answer(system, sample) for system in systems}, palette)
        for sample in tqdm(samples, desc="figures", unit="photo")
    ]
    share = -(-len(rows) // arguments.blocks)
    blocks = [
        captioned_panel(rows[start : start + share], cell=arguments.cell) for start in range(0, len(rows), share)
    ]
    write_picture(arguments.out, side_by_side(blocks))
    print(f"{len(rows)} photos, columns {', '.join(caption for caption, _ in rows[0])}: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
