"""The paper's tables from result files, with the paper's own numbers beside ours.

    python -m eval.paper_tables runs/eval/result.json --out runs/tables --rows SGE-Net=street Label-segs=street

Result files are what `eval.run` writes. A system stands in the paper's row of its name (capitals and hyphens aside) or
in the one that `--rows ROW=SYSTEM` gives it; a system may stand in several rows. Written: `table_1.md` to `table_5.md`
(Table 2 as a contest decided by scores, not by people), `section_4_6.md` (per class) and `ablations.md` (our own
choices: other readings of the same weights). Every number comes from a
result file or from `eval/paper_tables.json`, which holds the numbers exactly as printed.
"""

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.columns import (
    CONTROLS,
    Column,
    columns_for,
    is_aside,
    is_variant,
    markdown_rows,
    paper_rows_named,
    system_name,
)
from eval.commands import said_in_a_sentence
from eval.complexity import LEVELS
from eval.files import write_whole


PAPER_FILE = Path(__file__).resolve().parent / "paper_tables.json"
PLACE = ("data", "split", "masks", "domain")
PAPER_DATA = {"outdoor": "Outdoor Scenes", "cityscapes": "Cityscapes"}
DISTANCES = ("FID", "FD-", "KID", "KD-")


@dataclass
class Results:
    """What the result files hold.

    Attributes:
        lines: Results by place (data, split, masks, domain) and system.
        complexity: Entries of the split by complexity, by place.
        sets: Facts of each set, by (data, split, masks).
        sources: A line on each file: commit, and whether it had changes.
        rows: System -> the rows that it stands in, from the command line.
    """

    lines: dict[tuple, dict[str, dict]] = field(default_factory=dict)
    complexity: dict[tuple, list[dict]] = field(default_factory=dict)
    sets: dict[tuple, dict] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, path: Path) -> None:
        """Adds a result file.

        Raises:
            OSError: If it cannot be read.
            ValueError: If `eval.run` did not write it, or it holds a result that another file has already given.
        """
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or not {"results", "sets", "provenance"} <= record.keys():
            raise ValueError(f"{path} is no result.json of eval.run.")
        for line in record["results"]:
            known = self.lines.setdefault(tuple(line[key] for key in PLACE), {})
            if line["system"] in known:
                raise ValueError(f"{path} gives {line['system']} on {line['data']} {line['masks']} a second time.")
            known[line["system"]] = line
        for entry in record.get("complexity", []):
            self.complexity.setdefault(tuple(entry[key] for key in PLACE), []).append(entry)
        for facts in record["sets"]:
            self.sets[facts["data"], facts["split"], facts["masks"]] = facts
        commit = record["provenance"]["commit"]
        changed = " with uncommitted changes" if commit["dirty"] else ""
        self.sources.append(f"`{path.name}`: commit {commit['sha']}{changed}, finished {record['finished']}")

    def has_row(self, system: str, paper_rows: Iterable[str] = ()) -> bool:
        """Whether a system stands in a table: no other look at one, and no variant unless `--rows` places it there."""
        return bool(set(self.rows.get(system, [])) & set(paper_rows)) or not (is_aside(system) or is_variant(system))

    def rows_of(self, system: str, paper_rows: Iterable[str]) -> list[str]:
        """Rows of a table that a system stands in: given ones, else the paper's of its name, else one of its own."""
        given = [row for row in self.rows.get(system, []) if row in paper_rows]
        return given or paper_rows_named(system, paper_rows) or [system_name(system)]


def cell(column: Column, line: Mapping) -> str:
    """A value with its interval."""
    value, ends = line.get(column.name), (line.get("intervals") or {}).get(column.name)
    if value is None or ends is None:
        return column.cell(value)
    return f"{column.cell(value)} [{column.cell(ends[0])}, {column.cell(ends[1])}]"


def difference_cell(column: Column, line: Mapping) -> str:
    """The difference to the reference with its interval, empty where there is none."""
    scores = (line.get("difference") or {}).get("scores", {})
    if column.name not in scores:
        return ""
    difference = scores[column.name]
    ends = difference["interval"]
    text = f"{difference['value'] * column.scale:+.{column.decimals}f}"
    return text if ends is None else f"{text} [{column.cell(ends[0])}, {column.cell(ends[1])}]"


def titles_of(place: tuple, results: Results) -> str:
    """Heading of one place, with N and the number of independent groups."""
    data, split, masks, domain = place
    line = next(iter(results.lines[place].values()))
    groups = f", {line['num_groups']} drives or runs of shots" if "num_groups" in line else ""
    return f"### {data}, {split}, {masks}, {domain}: N = {line['n']}{groups}\n\n"


def paper_columns(place: tuple, columns: Sequence[str]) -> list[int]:
    """Which of the paper's columns stand beside ours: its data set if ours is one of them, and its kind of hole."""
    data, _, masks, _ = place
    named = [title for key, title in PAPER_DATA.items() if key in data.lower()]
    kind = ", centre" if masks.startswith("centre") else ", irregular"
    return [
        index
        for index, title in enumerate(columns)
        if (not named or any(title.startswith(name) for name in named))
        and ((", centre" not in title and ", irregular" not in title) or kind in title)
    ]


def scores_table(
    results: Results, place: tuple, paper: Mapping, scores: Sequence[str], systems: Iterable[str], differences: bool
) -> str:
    """Our scores of these systems, then the paper's numbers: its rows first, in its order.

    Args:
        results: From the result files.
        place: Where.
        paper: One table of `paper_tables.json`.
        scores: Names or families of scores.
        systems: Systems that may stand in this table.
        differences: Add the differences to the reference.
    """
    lines = results.lines[place]
    by_row: dict[str, list[str]] = {row: [] for row in paper["rows"]}
    for system in systems:
        for row in results.rows_of(system, paper["rows"]):
            by_row.setdefault(row, []).append(system)
    present = {name for system in systems for name in lines[system] if name.startswith(tuple(scores))}
    wanted = {name for name in present if name in scores or name.startswith(DISTANCES)}
    columns = columns_for(wanted)
    compared = columns if differences and any("difference" in lines[system] for system in systems) else []
    beside = paper_columns(place, paper["columns"])
    head = ["", *(column.heading for column in columns), *(f"{column.heading}: less reference" for column in compared)]
    head += [f"paper, {paper['columns'][index]}" for index in beside]
    rows = []
    for row, own in by_row.items():
        printed = [paper["rows"][row][index] if row in paper["rows"] else "" for index in beside]
        for system in own or [None]:
            line = lines[system] if system is not None else {}
            title = row if system is None or system_name(system) == row else f"{row} (`{system}`)"
            ours = [cell(column, line) for column in columns]
            rows.append([title, *ours, *(difference_cell(column, line) for column in compared), *printed])
    return markdown_rows(head, rows)


def painters(results: Results, place: tuple) -> list[str]:
    """Systems that fill holes."""
    return [name for name, line in results.lines[place].items() if "psnr" in line and name != "truth"]


def table_1(results: Results, paper: Mapping) -> str:
    """PSNR, SSIM and distances of every system, whole photo as in the paper, hole only beside it."""
    scores = ("psnr", "ssim", "hole_psnr", "hole_ssim", "lpips", "hole_lpips", "hole_sharpness_ratio", *DISTANCES)
    parts = []
    for place in results.lines:
        systems = [name for name in painters(results, place) if results.has_row(name, paper["1"]["rows"])]
        if systems:
            parts.append(titles_of(place, results) + scores_table(results, place, paper["1"], scores, systems, False))
    return "\n".join(parts)


def table_3(results: Results, paper: Mapping) -> str:
    """The ablations, their variants (`sgnet_wide`: at SGE-Net's arithmetic) and the controls, with differences to the
    reference."""
    scores = ("psnr", "ssim", "hole_psnr", "hole_mean_iou", *DISTANCES)
    parts = []
    for place in results.lines:
        known = [
            system
            for system in painters(results, place)
            if system.startswith(CONTROLS)
            or (is_variant(system) and not is_aside(system))
            or set(results.rows_of(system, paper["3"]["rows"])) & set(paper["3"]["rows"])
        ]
        if known:
            table = scores_table(results, place, paper["3"], scores, known, True)
            parts.append(titles_of(place, results) + table + seeds_table(results, place, paper["3"], scores, known))
    return "\n".join(parts)


def seeds_table(results: Results, place: tuple, paper: Mapping, scores: Sequence[str], systems: Iterable[str]) -> str:
    """What another training seed changes: mean and range of systems trained more than once (`sgnet`, `sgnet_seed1`,
    `sgnet_seed2`, ...); "" if there are none. The intervals over photos know nothing of it."""
    lines = results.lines[place]
    runs: dict[str, list[dict]] = {}
    for system in systems:
        runs.setdefault(re.sub(r"_seed\d+$", "", system), []).append(lines[system])
    runs = {system: own for system, own in runs.items() if len(own) > 1}
    if not runs:
        return ""
    present = {name for own in runs.values() for line in own for name in line}
    columns = columns_for({name for name in present if name in scores or name.startswith(DISTANCES)})
    rows = []
    for system, own in runs.items():
        cells = []
        for column in columns:
            values = [line[column.name] for line in own if line.get(column.name) is not None]
            if len(values) < len(own):  # a mean of other runs than the row says
                cells.append("")
                continue
            cells.append(column.mean_and_range(values))
        rows.append([results.rows_of(system, paper["rows"])[0], str(len(own)), *cells])
    head = ["mean (range) over training seeds", "runs", *(column.heading for column in columns)]
    return "\n" + markdown_rows(head, rows)


def ablations(results: Results) -> str:
    """Other looks at the reference's and other checkpoints' weights: readings of Eq. 4, hard guidance, true labels."""
    scores = ("hole_psnr", "hole_ssim", "hole_sharpness_ratio", "hole_mean_iou", *DISTANCES)
    parts = []
    for place in results.lines:
        systems = painters(results, place)
        seen = [system for system in systems if is_aside(system)]
        if seen:
            known = {re.split(r"[{]", system.partition(":")[2] or system)[0] for system in seen}
            shown = [system for system in systems if system in seen or system in known]
            nobody = {"rows": {}, "columns": []}  # the paper has no such table
            parts.append(titles_of(place, results) + scores_table(results, place, nobody, scores, shown, True))
    return "\n".join(parts)


def table_4(results: Results, paper: Mapping) -> str:
    """Own segmentation and segmentation after inpainting, in the hole and in the whole photo, in percent."""
    own = ("hole_mean_iou", "mean_iou", "hole_accuracy", "accuracy")
    parts = []
    for place, lines in results.lines.items():
        segmenter = results.sets[place[:3]].get("segmenter")
        columns = columns_for(own)
        beside = paper_columns(place, paper["4"]["columns"])
        rows, found = [], set()
        for system, line in lines.items():
            if not (results.has_row(system, paper["4"]["rows"]) or system.startswith("nearest_")):
                continue
            after = {name: line.get(f"segmenter_{name}") for name in own}
            ends = {name: (line.get("intervals") or {}).get(f"segmenter_{name}") for name in own}
            kinds = [("", line), (f" + {segmenter}", after | {"intervals": ends})]
            for ending, values in kinds:
                if values.get("mean_iou") is not None or values.get("hole_mean_iou") is not None:
                    for row in results.rows_of(system, paper["4"]["rows"]):
                        # The paper's SGE-Net labels by itself, its baselines need the segmenter.
                        fits = row in paper["4"]["rows"] and (row == "SGE-Net") == (ending == "")
                        found |= {row} if fits else set()
                        printed = [paper["4"]["rows"][row][index] if fits else "" for index in beside]
                        rows.append([row + ending, *(cell(column, values) for column in columns), *printed])
        for row in paper["4"]["rows"]:
            if row not in found:
                rows.append([row, *[""] * len(columns), *(paper["4"]["rows"][row][index] for index in beside)])
        head = ["", *(column.heading for column in columns)]
        head += [f"paper, {paper['4']['columns'][index]}" for index in beside]
        parts.append(titles_of(place, results) + markdown_rows(head, rows))
    return "\n".join(parts)


def table_5(results: Results, paper: Mapping) -> str:
    """Training on automatic against human labels; only for systems that `--rows` puts there."""
    parts = []
    for place in results.lines:
        known = [
            system
            for system in painters(results, place)
            if set(results.rows_of(system, paper["5"]["rows"])) & set(paper["5"]["rows"])
        ]
        if known:
            scores = ("psnr", "hole_psnr", "hole_mean_iou", *DISTANCES)
            parts.append(titles_of(place, results) + scores_table(results, place, paper["5"], scores, known, True))
    return "\n".join(parts)


def table_2(results: Results, paper: Mapping) -> str:
    """Share of photos where the row beats the column, overall / low / moderate / high complexity, in percent."""
    parts = []
    for place, entries in results.complexity.items():
        counts = ", ".join(f"{entry['level']} {entry['n']}" for entry in entries)
        for by in sorted({win["by"] for entry in entries for win in entry["wins"]}):
            shares = {
                (win["system"], win["against"], entry["level"]): win["share"]
                for entry in entries
                for win in entry["wins"]
                if win["by"] == by
            }
            names = list(dict.fromkeys(first for first, _, _ in shares if first != "truth"))
            rows = [[system_name(first), *(_shares(shares, first, second) for second in names)] for first in names]
            parts.append(
                titles_of(place, results)
                + f"Decided by {by}; photos: {counts}.\n\n"
                + markdown_rows(["%", *(f"over {system_name(name)}" for name in names)], rows)
            )
    printed = [[name, *cells] for name, cells in paper["2"]["rows"].items()]
    parts.append(f"### The paper: {paper['2']['caption']}\n\n" + markdown_rows(["%", *paper["2"]["columns"]], printed))
    return "\n".join(parts)


def _shares(shares: Mapping[tuple[str, str, str], float], first: str, second: str) -> str:
    if first == second:
        return ""
    values = [shares.get((first, second, level)) for level in LEVELS]
    return " / ".join("-" if value is None else f"{100 * value:.1f}" for value in values)


def section_4_6(results: Results) -> str:
    """IoU of each class in the hole, in percent: which shapes are hard?"""
    parts = []
    for place, lines in results.lines.items():
        rows, width = [], 0
        for system, line in lines.items():
            if not (results.has_row(system) or system.startswith("nearest_")):
                continue
            for key, ending in (("hole_class_iou", ""), ("segmenter_hole_class_iou", " + segmenter")):
                if key in line:
                    values = ["-" if value is None else f"{100 * value:.1f}" for value in line[key]]
                    rows.append([system_name(system) + ending, *values])
                    width = max(width, len(values))
        if rows:
            named = results.sets[place[:3]].get("class_names") or []
            head = [named[index] if index < len(named) else f"class {index}" for index in range(width)]
            padded = [row + ["-"] * (width + 1 - len(row)) for row in rows]
            parts.append(titles_of(place, results) + markdown_rows(["hole IoU, %", *head], padded))
    return "\n".join(parts)


def remarks(results: Results) -> str:
    """What a reader must know before comparing, drawn from the result files."""
    places = list(results.lines)
    data = sorted({place[0] for place in places})
    other = [name for name in data if not any(key in name.lower() for key in PAPER_DATA)]
    lines = ["Empty cells: not measured here, or not printed in the paper."]
    if other:
        lines.append(
            f"{', '.join(other)}: not the paper's data. Compare rows with each other, never with its numbers."
        )
    counts = sorted({line["n"] for lines_here in results.lines.values() for line in lines_here.values()})
    lines.append(f"N here: {', '.join(map(str, counts))}; the paper's: 300 (Outdoor Scenes) and 500 (Cityscapes).")
    names = {name for here in results.lines.values() for line in here.values() for name in line}
    if any(name.startswith("FD-") for name in names):
        lines.append("FD- and KD- are distances on the features of the named network, not the FID of the paper.")
    lines.append(
        "In brackets: 95 % intervals over drives and runs of shots (`eval/intervals.py`); none for fewer than five. "
        "The paper prints none, nor its SSIM window, its Inception weights and whether it composited."
    )
    lines.append("Systems were trained as their checkpoints say; the paper fine-tuned published ones.")
    return "".join(f"- {line}\n" for line in [*lines, *results.sources])


def write_tables(results: Results, out: Path) -> list[Path]:
    """Writes one Markdown file for each table; returns those that hold something of ours."""
    paper = json.loads(PAPER_FILE.read_text(encoding="utf-8"))["tables"]
    pages = {
        f"table_{number}.md": (f"Table {number}: {paper[number]['caption']}", table)
        for number, table in {
            "1": table_1(results, paper),
            "2": table_2(results, paper),
            "3": table_3(results, paper),
            "4": table_4(results, paper),
            "5": table_5(results, paper),
        }.items()
    }
    pages["ablations.md"] = ("Choices of our own: the same weights, looked at in another way", ablations(results))
    pages["section_4_6.md"] = ("Section 4.6 in numbers: classes apart", section_4_6(results))
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (title, body) in pages.items():
        if body:
            write_whole(out / name, f"# {title}\n\n{remarks(results)}\n{body}")
            written.append(out / name)
    return written


def parse_rows(pairs: Iterable[str], results: Results) -> dict[str, list[str]]:
    """`ROW=SYSTEM` pairs as system -> rows.

    Raises:
        ValueError: If a pair has no equals sign or names an unknown system.
    """
    systems = {system for lines in results.lines.values() for system in lines}
    rows: dict[str, list[str]] = {}
    for pair in pairs:
        row, equals, system = pair.partition("=")
        if not equals or system not in systems:
            raise ValueError(f"--rows {pair}: expected ROW=SYSTEM with one of {', '.join(sorted(systems))}.")
        rows.setdefault(system, []).append(row)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Writes the tables and says where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.paper_tables", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULT", help="result.json of eval.run")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW=SYSTEM", help="the paper's row of a system")
    parser.add_argument("--out", type=Path, required=True, help="folder for the Markdown files")
    arguments = parser.parse_args(argv)
    results = Results()
    with said_in_a_sentence("eval.paper_tables"):
        for path in arguments.results:
            results.add(path)
        results.rows = parse_rows(arguments.rows, results)
    print("\n".join(map(str, write_tables(results, arguments.out))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
