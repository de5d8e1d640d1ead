"""Writes results into Markdown, tables and sentences alike, so that their numbers are never typed by hand.

    python -m eval.tables            # rewrites the tables of README.md, and eval/results/README.md from its template
    python -m eval.tables --check    # exit code 1 where a page disagrees with the result files

A table of `README.md` stands between two comments: its result file (as `eval.run` writes it), and what it holds:

    <!-- results: sgenet_hf/checkpoints/street/evaluation.json | split=report masks=centre-96 -->
    <!-- end of results -->

The page on all results is a Jinja template, whose sentences ask a [`Scores`] for their numbers:

    {% set centre = scores("eval/results/street-128/result.json", masks="centre-48", domain="labelmefacade") %}
    SGE-Net comes to {{ centre.value("sgenet", "hole_psnr") }} dB.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from eval.columns import Column, columns_for, markdown_rows, system_name


ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md",)
PAGES = {"eval/results/README.md": "eval/results/README.md.jinja"}
BLOCK = re.compile(
    r"(<!-- results: (?P<file>\S+) \| (?P<filter>[^>]*?) -->\n)(?P<table>.*?)(<!-- end of results -->)", re.S
)

# What the tables show; distances on features are added under their own names.
SCORES = ("hole_psnr", "hole_ssim", "hole_sharpness_ratio", "hole_mean_iou")
SET_NAMES = ("data", "split", "masks")
SET_FACTS = ("size", "crops_sha256", "mask_set_sha256", "feature_network_sha256")
ROW_NAMES = (*SET_NAMES, "domain", "system")
CORRELATES = 0.4  # a signal that follows the error less than this orders no photos


class Scores:
    """The results of a file that match a choice, as text for a page.

    Args:
        results: Of `eval.run`.
        wanted: Key of a result -> value as text, or several with commas between them.
    """

    def __init__(self, results: Iterable[dict], **wanted: str):
        choices = {key: value.split(",") for key, value in wanted.items()}
        self.rows = [row for row in results if all(str(row.get(key)) in values for key, values in choices.items())]
        self.wanted = wanted

    def table(self, systems: str | None = None) -> str:
        """A Markdown table of all rows, or of those of the systems named, in that order; a missing value is an empty
        cell.

        Raises:
            ValueError: If nothing matches.
        """
        rows = self.rows
        if systems is not None:
            order = systems.split(",")
            rows = sorted((row for row in rows if row["system"] in order), key=lambda row: order.index(row["system"]))
        if not rows:
            raise ValueError(f"No result with {self.wanted}, systems {systems}; run eval.run for it first.")
        distances = [key for row in rows for key in row if key.startswith("FD-")]
        columns = columns_for([*SCORES, *distances])
        return markdown_rows(
            ["photos", "N", "fill", *(column.heading for column in columns)],
            (
                [row["domain"], str(row["n"]), system_name(row["system"])]
                + [column.cell(row.get(column.name)) for column in columns]
                for row in rows
            ),
        )

    def value(self, system: str, score: str, decimals: int | None = None) -> str:
        """One score, `FD-` for the distance of features, with its column's digits or the given ones."""
        column, value = self._score(system, score)
        return _text(column, value, decimals)

    def ratio(self, system: str, score: str, other: str) -> str:
        """A system's score divided by another's."""
        return f"{self._score(system, score)[1] / self._score(other, score)[1]:.2f}"

    def difference(self, system: str, score: str, other: str) -> str:
        """A system's score less another's, with its sign, without an interval."""
        column, value = self._score(system, score)
        return f"{(value - self._score(other, score)[1]) * column.scale:+.{column.decimals}f}"

    def lead(self, reference: str, score: str, system: str) -> str:
        """The reference's score less a system's, with its paired 95 % interval where there is one.

        Raises:
            ValueError: If the file compares with another reference.
        """
        column, _ = self._score(system, score)
        difference = self._row(system).get("difference") or {"reference": None}
        if difference["reference"] != reference:
            raise ValueError(
                f"{system} is compared with {difference['reference']}, not {reference}, with {self.wanted}."
            )

        def text(value: float) -> str:
            return f"{-value * column.scale:+.{column.decimals}f}"

        paired = difference["scores"][column.name]
        ends = paired["interval"]
        return text(paired["value"]) + ("" if ends is None else f" [{text(ends[1])}, {text(ends[0])}]")

    def claim(self, system: str, score: str, other: str) -> str:
        """Nothing, where a sentence may say that a system is better than another in this score.

        Raises:
            ValueError: If it is not; the sentence has to be written anew.
        """
        column, value = self._score(system, score)
        if column.loss(value) >= column.loss(self._score(other, score)[1]):
            raise ValueError(
                f"{system} is not better than {other} in {score} with {self.wanted}: change the sentence."
            )
        return ""

    def not_behind(self, system: str, scores: Sequence[str], other: str) -> str:
        """Nothing, where a sentence may say that a system is not behind another in all of these scores at once.

        Raises:
            ValueError: If it is; the sentence has to be written anew.
        """
        for score in scores:
            column, value = self._score(system, score)
            if column.loss(value) <= column.loss(self._score(other, score)[1]):
                return ""
        raise ValueError(f"{system} is behind {other} in {', '.join(scores)} with {self.wanted}: change the sentence.")

    def ahead(self, system: str, scores: Sequence[str], others: Sequence[str], least: int) -> str:
        """Nothing, where a sentence may say that a system is ahead of all others in at least `least` of these scores.

        Raises:
            ValueError: If it is not; the sentence has to be written anew.
        """
        leading = self.leading(system, scores, others)
        if len(leading) < least:
            found = ", ".join(leading) or "nothing"
            raise ValueError(f"{system} is ahead in {found} with {self.wanted}: change the sentence.")
        return ""

    def leading(self, system: str, scores: Sequence[str], others: Sequence[str]) -> list[str]:
        """Those of the scores in which a system is ahead of all others."""
        leading = []
        for score in scores:
            column, value = self._score(system, score)
            if all(column.loss(value) < column.loss(self._score(other, score)[1]) for other in others):
                leading.append(score)
        return leading

    def over_seeds(self, systems: str, score: str) -> str:
        """Mean of several runs, with the lowest and the highest."""
        scores = [self._score(system, score) for system in systems.split(",")]
        return scores[0][0].mean_and_range([value for _, value in scores])

    def _row(self, system: str) -> dict:
        rows = [row for row in self.rows if row["system"] == system]
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} results of {system} with {self.wanted}: one is needed.")
        return rows[0]

    def _score(self, system: str, score: str) -> tuple[Column, float]:
        row = self._row(system)
        names = [key for key in row if key == score or (score.endswith("-") and key.startswith(score))]
        if len(names) != 1 or row[names[0]] is None:
            raise ValueError(f"{system} has no {score} with {self.wanted}.")
        return columns_for(names)[0], row[names[0]]


def _text(column: Column, value: float, decimals: int | None = None) -> str:
    return f"{value * column.scale:.{column.decimals if decimals is None else decimals}f}"


def with_tables(text: str, root: Path = ROOT) -> str:
    """The text with every table made anew from its result file.

    Raises:
        FileNotFoundError: If a result file does not exist.
        ValueError: If it holds nothing that a table asks for.
    """

    def fill(block: re.Match) -> str:
        wanted = dict(pair.split("=", 1) for pair in block["filter"].split())
        systems = wanted.pop("system", None)
        return block[1] + _scores_of(root, block["file"], **wanted).table(systems) + block[5]

    return BLOCK.sub(fill, text)


def page(template: str, root: Path = ROOT) -> str:
    """A page from its template, with `scores(FILES, **wanted)` (one, or several with commas between them),
    `record(FILE)` (the file itself), `correlates`, `orders_nothing` and the filter
    `percent`.

    Raises:
        jinja2.UndefinedError: If it asks for what a file does not hold.
        FileNotFoundError, ValueError: As [`with_tables`].
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %"
    return environment.from_string(template).render(
        scores=lambda files, **wanted: _scores_of(root, files, **wanted),
        record=lambda file: _record(root, file),
        correlates=correlates,
        orders_nothing=orders_nothing,
    )


def correlates(correlation: float) -> str:
    """Nothing, where a sentence may say that a signal orders photos: where the correlation is at least `CORRELATES`.

    Raises:
        ValueError: If it is not; the sentence has to be written anew.
    """
    if not correlation >= CORRELATES:
        raise ValueError(f"A correlation of {correlation:.2f} orders nothing: change the sentence.")
    return ""


def orders_nothing(correlation: float) -> str:
    """Nothing, where a sentence may say that a signal does not order photos: where the correlation is below
    `CORRELATES`.

    Raises:
        ValueError: If it is not; the sentence has to be written anew.
    """
    if not correlation < CORRELATES:
        raise ValueError(f"A correlation of {correlation:.2f} orders photos: change the sentence.")
    return ""


def _scores_of(root: Path, files: str, **wanted: str) -> Scores:
    """The results of one file, or of several with commas between them, whose sets must be those of the first. A system
    that several have scored stands once.

    Raises:
        ValueError: If another file has other photos, holes or features, or another system of that name.
    """
    first, *others = files.split(",")
    record = _record(root, first)
    results = list(record["results"])
    for file in others:
        other = _record(root, file)
        for own in other["sets"]:
            named = [own["data"], own["split"], own["masks"]]
            same = [before for before in record["sets"] if [before[key] for key in SET_NAMES] == named]
            if any(before.get(key) != own.get(key) for before in same for key in SET_FACTS):
                raise ValueError(f"{file} has other photos, holes or features in {' '.join(named)} than {first}.")
        for row in other["results"]:
            same = [before for before in results if all(before.get(key) == row.get(key) for key in ROW_NAMES)]
            if any(before["identity"] != row["identity"] for before in same):
                raise ValueError(f"{row['system']} of {file} is not that of the files before it: rename one of them.")
            results += [] if same else [row]
    return Scores(results, **wanted)


def _record(root: Path, file: str) -> Any:
    return json.loads((root / file).read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    """Rewrites or checks the pages; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; say which files are out of date")
    arguments = parser.parse_args(argv)
    fresh = {name: with_tables((ROOT / name).read_text(encoding="utf-8")) for name in FILES}
    fresh |= {name: page((ROOT / template).read_text(encoding="utf-8")) for name, template in PAGES.items()}
    stale = [
        name
        for name, text in fresh.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    if not arguments.check:
        for name in stale:
            (ROOT / name).write_text(fresh[name], encoding="utf-8")
    elif stale:
        print(f"Out of date: {', '.join(stale)}. Run `python -m eval.tables`.")
        return 1
    written = ", ".join(stale) or "nothing"
    print("All pages agree with the result files." if arguments.check else f"Written: {written}.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
