"""Every table and figure of the paper from a folder of checkpoints, in one command.

    python -m eval.paper --data PREPARED_FOLDER --features NETWORK --segmenter NETWORK --out runs/paper
    torchrun --standalone --nproc_per_node 2 -m eval.paper ...      # the same numbers from two processes

`--checkpoints` is a folder with one model folder for each system. Their names say which row of the paper they stand
in: `basenet`, `sgnet`, `sgenet`, `gatedconv`, `edgeconnect`, `spgnet`; `sgenet_auto` was trained on automatic labels
(Table 5), other names get rows of their own. Variants begin with a row's name and `_` (`sgnet_wide`, `sgenet_ones`):
of the tables they stand in the third or fifth alone. Table 3 also takes the mean over training seeds (`sgnet`,
`sgnet_seed1`, ...). Networks are folders or Hub ids. `--also` adds systems from elsewhere. Classical fills are taken
where their packages are installed.

Written to `--out`: what `eval.run` writes, `tables/` (`eval.paper_tables`), `figures/` (`eval.paper_figures`, and PSNR
against the distance of features) and `panels/` (`eval.paper_panels`). Started again after a stop it computes only what
is missing of the scores; pictures are drawn again. Table 2's people are asked by `eval.user_study`.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig

from eval import paper_figures, paper_panels, paper_tables, run
from eval.columns import is_aside, is_variant
from eval.evaluation_set import class_names_of_data
from eval.front import draw_fronts
from eval.processes import Processes
from eval.systems import CLASSICAL, LABEL_WAYS, WAYS, class_names_of, same_classes


FILLS = ("telea", "navier_stokes", "biharmonic")
REFERENCE = "sgenet"
TABLE_5 = {"Auto-segs": "sgenet_auto", "Label-segs": REFERENCE}
# Other looks at the reference's weights: the readings and choices where the paper is silent (model card).
VARIANTS = (
    "{tau_reading: max}",
    "{tau_reading: quantile}",
    "{tau_proportions: [0.25, 0.25, 0.2, 0.15, 0.1]}",
    "{tau_proportions: [0.75, 0.75, 0.6, 0.45, 0.3]}",
    "{first_reliability: evaluated}",
    "{reliability_smoothing: 1}",
    "{guidance_probabilities: hard}",
    "{guidance_resolution: fine}",
)


def systems_of(folder: Path, variants: bool, data: Sequence[str]) -> list[str]:
    """Specifications for `eval.run`: classical fills, the checkpoints of a folder, and other looks at them.

    Args:
        folder: Of model folders.
        variants: Whether to look at them in other ways too.
        data: What they are scored on. Where its classes are others, there are no looks that need its labels.

    Raises:
        SystemExit: If there is no checkpoint.
    """
    checkpoints = {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}
    if not checkpoints:
        raise SystemExit(f"{folder} holds no model folder: train systems with train_accelerate.py, or name another.")
    installed = [name for name in FILLS if importlib.util.find_spec(CLASSICAL[name][1])]
    systems = [*installed, "nearest_label", *(f"{name}={path}" for name, path in checkpoints.items())]
    if variants and REFERENCE in checkpoints:
        path = checkpoints[REFERENCE]
        own = class_names_of(AutoConfig.from_pretrained(path))
        foreign = [each for each in data if not same_classes(own, class_names_of_data(each))]
        if foreign and Processes().is_first:
            looks = " and ".join(f"{way}:{REFERENCE}" for way in LABEL_WAYS)
            print(f"{looks} are left out: {', '.join(foreign)} has other classes than the network.", file=sys.stderr)
        ways = [way for way in WAYS if not foreign or way not in LABEL_WAYS]
        systems += [f"{way}:{REFERENCE}={way}:{path}" for way in ways]
        systems += [f"{REFERENCE}{settings}={path}{settings}" for settings in VARIANTS]
    return systems


def is_shown(system: str) -> bool:
    """Whether a system has a column in the pictures: variants and other looks at a checkpoint have none."""
    return not (is_aside(system) or is_variant(system.partition("=")[0]))


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("eval/checkpoints"), help="one model folder for each system"
    )
    parser.add_argument("--also", nargs="+", default=[], metavar="SYSTEM", help="more systems, as in eval.run")
    parser.add_argument("--no-variants", action="store_true", help="leave out the other looks at SGE-Net's weights")
    parser.add_argument("--data", nargs="+", required=True, help="prepared folders, Hub ids, toy:COUNT")
    parser.add_argument("--split", default="report", help="split of each data set")
    parser.add_argument(
        "--masks", nargs="+", default=["centre-96", "irregular-30-40"], help="mask sets; figures show the first"
    )
    parser.add_argument("--features", help="Hub id or folder of the network for distances")
    parser.add_argument("--segmenter", help="Hub id or folder of the segmenter of Table 4")
    parser.add_argument("--mask-files", help="folder of irregular mask files (white = hole); generated without it")
    parser.add_argument("--fid", nargs="?", const="", metavar="WEIGHTS", help="the published FID; as in eval.run")
    parser.add_argument("--lpips", metavar="WEIGHTS", help="weights of LPIPS; as in eval.run")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the networks run")
    parser.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random mask sets and of the intervals")
    parser.add_argument("--limit", type=int, help="photos of each split, evenly spread (default: all)")
    parser.add_argument("--resamples", type=int, default=1000, help="draws for the intervals; 0 for none")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Scores all systems, then makes tables and figures."""
    arguments = parse_arguments(argv)
    out = arguments.out
    systems = [*systems_of(arguments.checkpoints, not arguments.no_variants, arguments.data), *arguments.also]
    same = ["--size", str(arguments.size), "--seed", str(arguments.seed), "--device", arguments.device]
    if arguments.limit is not None:
        same += ["--limit", str(arguments.limit)]
    same += ["--mask-files", arguments.mask_files] if arguments.mask_files else []
    judged = ["--segmenter", arguments.segmenter] if arguments.segmenter else []
    scored = [*judged, *(["--features", arguments.features] if arguments.features else [])]
    scored += ["--fid", *filter(None, [arguments.fid])] if arguments.fid is not None else []
    scored += ["--lpips", arguments.lpips] if arguments.lpips else []
    scored += ["--resamples", str(arguments.resamples)]
    names = [system.partition("=")[0] for system in systems]
    has_reference = REFERENCE in names
    scored += ["--reference", REFERENCE] if has_reference else []
    data = ["--data", *arguments.data, "--splits", arguments.split, "--masks", *arguments.masks]
    run.main([*systems, *data, *same, *scored, "--out", str(out)])
    if not Processes().is_first:
        return 0

    draw_fronts(json.loads((out / "result.json").read_text(encoding="utf-8")), out / "figures")
    rows = [f"{row}={name}" for row, name in TABLE_5.items() if name in names]
    rows = ["--rows", *rows] if len(rows) == len(TABLE_5) else []
    paper_tables.main([str(out / "result.json"), *rows, "--out", str(out / "tables")])
    painted = [system for system in systems if is_shown(system)]
    for folder in arguments.data:
        look = ["--data", folder, "--split", arguments.split, "--masks", arguments.masks[0], *same]
        place = Path(folder).name.replace(":", "-")
        if has_reference:
            checkpoint = str(arguments.checkpoints / REFERENCE)
            try:
                paper_figures.main([checkpoint, *look, "--out", str(out / "figures" / place)])
            except paper_figures.TooFewPhotosError as error:
                print(f"Figures 6 to 8 are left out: {error}", file=sys.stderr)
        paper_panels.main([*painted, *look, *judged, "--out", str(out / "panels" / place)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
