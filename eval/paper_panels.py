r"""The paper's panels of fills for systems on held-out photos: Fig. 1, 4 / 10, 5, 9 and 11.

    python -m eval.paper_panels Base-Net=FOLDER SG-Net=FOLDER SGE-Net=street --data PREPARED_FOLDER --split report \
        --masks centre-96 --segmenter FOLDER --out ../panels

Systems are those of `eval.run`; which of them is the paper's Base-Net, SG-Net or SGE-Net says its name, capitals and
hyphens aside. Written, one row a photo (the paper's Fig. 5 has its systems in columns too):

- `figure_1.png`: every fill, the guided system's segmentation, and its fill under the true labels (where they are
  void it guides itself);
- `figure_4_10.png`: every fill;
- `figure_5.png`: Base-Net, SG-Net and SGE-Net;
- `figure_9.png`: true labels, each system's own, and with `--segmenter` that network's labels of each fill;
- `figure_11.png`: the photos that the reference fills worst by L1 in the hole, worst first, out of all photos;
- `panels.json`: the photos of each figure, scores, hashes, and which figures were left out for want of what.

Nobody picks photos: those of Fig. 11 follow from the scores, the others are spread evenly over the split. Pictures of
photos that may not be passed on must not enter the project: choose `--out` outside of it.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.columns import paper_rows_named, system_name
from eval.commands import said_in_a_sentence
from eval.evaluation_set import EvaluationSet, Sample, add_set_options, samples_of, spread
from eval.figures import Cells, captioned_panel, common_palette, fill_cells, label_cells
from eval.files import write_picture, write_whole
from eval.judges import load_judges
from eval.metrics.l1.l1 import l1
from eval.provenance import now, provenance
from eval.segmenter import SegmenterJudge
from eval.systems import Filled, System, answer, for_classes, load_system, load_systems, reference_of, same_classes
from sgenet_hf.visualization import colour_labels, legend


ABLATION = ("Base-Net", "SG-Net", "SGE-Net")  # the columns of Fig. 5
PHOTOS_OF_FIGURE_1 = 2  # the paper shows one; the first and the last of those shown here


@dataclass(frozen=True)
class Look:
    """A photo and what systems made of it, by their names."""

    sample: Sample
    answers: Mapping[str, Filled]


@dataclass(frozen=True)
class Figure:
    """Rows of a figure and the photos that they show.

    Attributes:
        looks: The photo of each row.
        rows: Captions and pictures of each row.
        row_captions: What stands left of each row; empty for nothing.
    """

    looks: Sequence[Look]
    rows: Sequence[Cells]
    row_captions: Sequence[str] = ()


@dataclass(frozen=True)
class Labels:
    """How segmentations are made and drawn.

    Attributes:
        palette: Colours, uint8 (N, 3).
        are_known: Whether the data set has true labels.
        segmenter: What labels the fills, if anything.
        class_ids: From `SegmenterJudge.class_ids`, for a segmenter.
    """

    palette: np.ndarray
    are_known: bool
    segmenter: SegmenterJudge | None = None
    class_ids: np.ndarray | None = None


def labels_for(systems: list[System], facts: Mapping, segmenter: SegmenterJudge | None) -> Labels:
    """Colours for every class that the data set (`facts`: its fingerprint), a system or the segmenter can name.

    Raises:
        ValueError: If the segmenter knows no class of the data set.
    """
    num_labels, class_ids = facts["num_labels"], None
    if segmenter is not None:
        class_ids = segmenter.class_ids(facts["class_names"] or [])
        num_labels = max(num_labels, int(class_ids.max()) + 1)
    return Labels(common_palette(systems, num_labels), facts["num_labels"] > 0, segmenter, class_ids)


def roles_of(names: Iterable[str]) -> dict[str, str]:
    """Which system has which of the paper's names in the ablation.

    Raises:
        ValueError: If two systems have the same.
    """
    roles: dict[str, str] = {}
    for name in names:
        for role in paper_rows_named(name, ABLATION):
            if role in roles:
                raise ValueError(f"{roles[role]} and {name} would both be the paper's {role}: rename one of them.")
            roles[role] = name
    return roles


def guided_of(roles: Mapping[str, str]) -> str | None:
    """The system of Fig. 1 whose segmentation guides its fill: SGE-Net, else SG-Net."""
    return roles.get("SGE-Net") or roles.get("SG-Net")


def scores_of_answer(sample: Sample, filled: Filled) -> dict[str, float | None]:
    """L1 in the hole, in [0, 1], and mean confidence in the hole; None for what the system does not give."""
    error = None if filled.image is None else l1(filled.image, sample.photo, sample.mask)
    confidence = None
    if filled.confidence is not None:
        confidence = float(filled.confidence[sample.mask].astype(np.float64).mean())
    return {"hole_l1": error, "confidence": confidence}


def worst(rows: Sequence[Mapping], count: int) -> list[int]:
    """Places of the rows with the largest `hole_l1`, largest first; of equal ones the first id."""
    return sorted(range(len(rows)), key=lambda place: (-rows[place]["hole_l1"], rows[place]["id"]))[:count]


def compare(sample: Sample, answers: Mapping[str, Filled], before_truth: Cells | None = None) -> Cells:
    """A row in the paper's order: input with a white hole, the fills, what else there is to see, truth."""
    return [
        ("input", sample.emptied(255)),
        *fill_cells(answers),
        *(before_truth or []),
        ("truth", sample.photo),
    ]


def beside_oracle(look: Look, guided: str, oracle: System, palette: np.ndarray) -> Cells:
    """A row of Fig. 1: the fills, what the guided system took the photo for, and its fill under the true labels."""
    own = label_cells({guided: look.answers[guided]}, palette)
    told = fill_cells({system_name(oracle.name): answer(oracle, look.sample)})
    return compare(look.sample, look.answers, own + told)


def segmentations(look: Look, labels: Labels) -> Cells:
    """A row of Fig. 9: true labels, the systems' own, and those that the segmenter gives their fills."""
    sample = look.sample
    cells = [("input", sample.emptied(255)), ("true labels", colour_labels(sample.labels, labels.palette))]
    cells += label_cells(look.answers, labels.palette)
    if labels.segmenter is not None:
        for name, image in fill_cells(look.answers):
            seen = labels.segmenter(image, labels.class_ids)
            cells.append((f"{name} + {labels.segmenter.name}", colour_labels(seen, labels.palette)))
    return cells


def look_at_all(
    samples: EvaluationSet, systems: Sequence[System], reference: str, shown: Sequence[int], num_worst: int
) -> tuple[list[dict], dict[int, Look], list[int]]:
    """The reference's scores of every photo, and all systems' answers on those that a figure shows.

    Only the latter are kept: the pictures of a whole split may not fit into memory.

    Args:
        samples: The set.
        systems: The systems.
        reference: Name of the one whose scores tell the worst photos.
        shown: Places in the set that figures show anyway.
        num_worst: How many of the worst photos are looked at.

    Returns:
        One row a photo in the order of the set, the looks by place, and the worst places, worst first: none if the
        reference paints nothing.
    """
    rows, looks = [], {}
    by_name = {system.name: system for system in systems}
    for place, sample in enumerate(tqdm(samples, desc="panels", unit="photo")):
        answers = {reference: answer(by_name[reference], sample)}
        rows.append({"id": sample.id, "group": sample.group, **scores_of_answer(sample, answers[reference])})
        if place in shown:
            looks[place] = look_at(sample, systems, answers)
    failed = [] if rows[0]["hole_l1"] is None else worst(rows, num_worst)
    for place in failed:
        if place not in looks:
            looks[place] = look_at(samples[place], systems, {})
    return rows, looks, failed


def look_at(sample: Sample, systems: Sequence[System], known: Mapping[str, Filled]) -> Look:
    """Every system's answer, in the order of the systems; those already known are not computed again."""
    answers = {}
    for system in systems:
        answers[system.name] = known[system.name] if system.name in known else answer(system, sample)
    return Look(sample, answers)


def figures_from(
    shown: Sequence[Look],
    failed: Sequence[Look],
    scores: Sequence[Mapping],
    roles: Mapping[str, str],
    oracle: System | None,
    labels: Labels,
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Every figure that these answers allow, and why the others are left out.

    Args:
        shown: Photos spread over the split, at least one.
        failed: Photos of Fig. 11, worst first; none if the reference paints nothing.
        scores: The reference's scores of them.
        roles: From `roles_of`.
        oracle: The guided system under the true labels, None if no system is guided, or by other classes.
        labels: How segmentations are made and drawn.
    """
    figures, left_out = {}, {}
    paints = bool(fill_cells(shown[0].answers))
    guided = guided_of(roles)
    if guided is None:
        left_out["figure_1"] = "no system is named SGE-Net or SG-Net"
    elif not labels.are_known:
        left_out["figure_1"] = "the photos have no true labels that could guide a network"
    elif oracle is None:
        left_out["figure_1"] = f"the classes of {guided} are not those of the photos' true labels"
    else:
        looks = [shown[place] for place in spread(len(shown), PHOTOS_OF_FIGURE_1)]
        figures["figure_1"] = Figure(looks, [beside_oracle(look, guided, oracle, labels.palette) for look in looks])
    if paints:
        figures["figure_4_10"] = Figure(shown, [compare(look.sample, look.answers) for look in shown])
    else:
        left_out["figure_4_10"] = "no system paints"
    missing = [role for role in ABLATION if role not in roles]
    if missing:
        left_out["figure_5"] = f"no system is named {' or '.join(missing)}"
    else:
        rows = [compare(look.sample, {role: look.answers[roles[role]] for role in ABLATION}) for look in shown]
        figures["figure_5"] = Figure(shown, rows)
    if label_cells(shown[0].answers, labels.palette) or (labels.segmenter is not None and paints):
        figures["figure_9"] = Figure(shown, [segmentations(look, labels) for look in shown])
    else:
        left_out["figure_9"] = "no system labels and no --segmenter is given"
    if failed:
        rows = [compare(look.sample, look.answers) for look in failed]
        figures["figure_11"] = Figure(failed, rows, [row_caption(line) for line in scores])
    else:
        left_out["figure_11"] = "the reference paints nothing"
    return figures, left_out


def row_caption(row: Mapping) -> str:
    """The scores beside a row of Fig. 11."""
    confidence = "" if row["confidence"] is None else f", confidence {row['confidence']:.2f}"
    return f"L1 {100 * row['hole_l1']:.1f} %{confidence}"


def with_legend(picture: Image.Image, class_names: Sequence[str], palette: np.ndarray) -> Image.Image:
    """A page with the names of the classes, as many as have a colour, below."""
    below = legend(dict(enumerate(class_names[: len(palette)])), palette, picture.width)
    page = Image.new("RGB", (picture.width, picture.height + below.height), "white")
    page.paste(picture, (0, 0))
    page.paste(below, (0, picture.height))
    return page


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper_panels", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM", help="as in eval.run: telea, CHECKPOINT, NAME=...")
    add_set_options(parser)
    parser.add_argument("--segmenter", help="Hub id or folder of a network that segments the fills (Fig. 9)")
    parser.add_argument(
        "--reference", help="whose failures Fig. 11 shows (default: SGE-Net, else the first checkpoint)"
    )
    parser.add_argument("--shown", type=int, default=6, help="photos in Fig. 4, 5 and 9")
    parser.add_argument("--worst", type=int, default=4, help="photos in Fig. 11")
    parser.add_argument("--cell", type=int, default=192, help="side of one picture on the page, in pixels")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    arguments = parser.parse_args(argv)
    if min(arguments.shown, arguments.worst) < 1:
        parser.error("--shown and --worst must be at least 1.")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Looks at every photo, draws what the systems allow, and writes down which photos stand where."""
    arguments = parse_arguments(argv)
    with said_in_a_sentence("eval.paper_panels"):
        systems = load_systems(arguments.systems, arguments.device)
        names = [system.name for system in systems]
        roles = roles_of(names)
        # With classical company only, Fig. 11 shows the failures of the first.
        reference = reference_of(arguments.reference or roles.get("SGE-Net"), systems) or names[0]
        judges = load_judges([], None, None, arguments.segmenter, arguments.device)
        samples = samples_of(arguments)
        facts = samples.fingerprint()
        systems = [for_classes(system, facts["class_names"]) for system in systems]
        labels = labels_for(systems, facts, judges.segmenter)
    guided, oracle = guided_of(roles), None
    if guided is not None and same_classes(systems[names.index(guided)].class_names, facts["class_names"]):
        source = arguments.systems[names.index(guided)].removeprefix(f"{guided}=")
        oracle = load_system(f"oracle:{guided}=oracle:{source}", arguments.device)
    shown = spread(len(samples), arguments.shown)
    rows, looks, failed = look_at_all(samples, systems, reference, shown, arguments.worst)
    figures, left_out = figures_from(
        [looks[place] for place in shown],
        [looks[place] for place in failed],
        [rows[place] for place in failed],
        roles,
        oracle,
        labels,
    )
    record = {
        "provenance": provenance(["python", "-m", "eval.paper_panels", *(sys.argv[1:] if argv is None else argv)]),
        "set": facts,
        "systems": [
            {"name": system.name, "identity": system.identity, "roles": paper_rows_named(system.name, ABLATION)}
            for system in systems
        ],
        "oracle": None if oracle is None else {"name": oracle.name, "identity": oracle.identity},
        "judges_sha256": judges.hashes,
        "reference": reference,
        "figures": {name: [look.sample.id for look in figure.looks] for name, figure in figures.items()},
        "left_out": left_out,
        "photos": [
            {"id": look.sample.id, "group": look.sample.group}
            | {"scores": {name: scores_of_answer(look.sample, filled) for name, filled in look.answers.items()}}
            for _, look in sorted(looks.items())
        ],
        "rows": rows,
        "finished": now(),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        picture = captioned_panel(figure.rows, figure.row_captions, arguments.cell)
        if name == "figure_9" and samples.class_names:
            picture = with_legend(picture, samples.class_names, labels.palette)
        write_picture(arguments.out / f"{name}.png", picture)
        print(f"{name}: {len(figure.looks)} photos, {', '.join(caption for caption, _ in figure.rows[0])}")
    for name, reason in left_out.items():
        print(f"{name} is left out: {reason}")
    write_whole(arguments.out / "panels.json", json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
