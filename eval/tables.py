"""Writes result tables into Markdown files, so that no number is ever typed by hand.

    python -m eval.tables            # rewrites the tables of README.md
    python -m eval.tables --check    # exit code 1 where a table disagrees with its result file

A table stands between two comments that name its result file (as `eval.run` writes it) and what it holds:

    <!-- results: sgenet_hf/checkpoints/street/evaluation.json | split=report masks=centre-96 -->
    <!-- end of results -->
"""

import argparse
import json
import re
from pathlib import Path

from eval.columns import columns_for, markdown_rows, system_name


ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md",)
BLOCK = re.compile(
    r"(<!-- results: (?P<file>\S+) \| (?P<filter>[^>]*?) -->\n)(?P<table>.*?)(<!-- end of results -->)", re.S
)

# What the README shows; distances on features are added under their own names.
SCORES = ("hole_psnr", "hole_ssim", "hole_sharpness_ratio", "hole_mean_iou")


def markdown_table(results: list[dict], wanted: dict[str, str]) -> str:
    """Rows of a result file that match `wanted`, as a Markdown table; a missing value is an empty cell.

    Args:
        results: Of `eval.run`.
        wanted: Key of a result -> value as text, or several with commas between them; their order is that of the rows.

    Raises:
        ValueError: If nothing matches.
    """
    choices = {key: value.split(",") for key, value in wanted.items()}
    rows = [row for row in results if all(str(row.get(key)) in values for key, values in choices.items())]
    if "system" in choices:
        rows.sort(key=lambda row: choices["system"].index(row["system"]))
    if not rows:
        raise ValueError(f"No result with {wanted}; run eval.run for it first.")
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


def with_tables(text: str, root: Path = ROOT) -> str:
    """The text with every table made anew from its result file.

    Raises:
        FileNotFoundError: If a result file does not exist.
        ValueError: If it holds nothing that a table asks for.
    """

    def fill(block: re.Match) -> str:
        results = json.loads((root / block["file"]).read_text())["results"]
        wanted = dict(pair.split("=", 1) for pair in block["filter"].split())
        return block[1] + markdown_table(results, wanted) + block[5]

    return BLOCK.sub(fill, text)


def main(argv: list[str] | None = None) -> int:
    """Rewrites or checks the tables; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; say which files are out of date")
    arguments = parser.parse_args(argv)
    stale = []
    for name in FILES:
        path = ROOT / name
        text = path.read_text()
        if (fresh := with_tables(text)) != text:
            stale.append(name)
            if not arguments.check:
                path.write_text(fresh)
    if arguments.check and stale:
        print(f"Out of date: {', '.join(stale)}. Run `python -m eval.tables`.")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
