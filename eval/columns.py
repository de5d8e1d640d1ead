"""The scores that tables can show: name in the result file, heading, format, and which way is better.

One list for `eval.run`, `eval.tables` and `eval.paper_tables`; its order is the order of the columns.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A score.

    Attributes:
        name: Key in the result file; a name that ends in `-` stands for a family (`FD-` for `FD-mobilenet_v2`).
        heading: What stands above the column, with the unit.
        decimals: Digits behind the point.
        better: Which way is better; `one`, `zero` = the nearer to it the better.
        scale: What a value is multiplied by.
    """

    name: str
    heading: str
    decimals: int
    better: Literal["higher", "lower", "one", "zero"]
    scale: float = 1

    def cell(self, value: float | None) -> str:
        """The value as text, empty for None."""
        return "" if value is None else f"{value * self.scale:.{self.decimals}f}"

    def mean_and_range(self, values: Sequence[float]) -> str:
        """The mean, with the lowest and the highest value, as text."""
        return f"{self.cell(sum(values) / len(values))} ({self.cell(min(values))} to {self.cell(max(values))})"

    def loss(self, value: float) -> float:
        """The value turned so that less is better."""
        return {"higher": -value, "lower": value, "one": abs(value - 1), "zero": abs(value)}[self.better]


COLUMNS = (
    Column("hole_psnr", "hole PSNR, dB", 2, "higher"),
    Column("hole_ssim", "hole SSIM", 3, "higher"),
    Column("hole_l1", "hole L1, %", 2, "lower", 100),
    Column("hole_lpips", "hole LPIPS (alex)", 3, "lower"),
    Column("hole_sharpness_ratio", "sharpness", 2, "one"),
    Column("seam_error", "seam, %", 2, "zero", 100),
    Column("FID", "FID", 1, "lower"),
    Column("KID", "1000 KID", 1, "lower", 1000),
    Column("FD-", "FD-", 1, "lower"),
    Column("KD-", "1000 KD-", 1, "lower", 1000),
    Column("hole_mean_iou", "hole mIoU, %", 1, "higher", 100),
    Column("hole_accuracy", "hole accuracy, %", 1, "higher", 100),
    Column("segmenter_hole_mean_iou", "hole mIoU after fill, %", 1, "higher", 100),
    Column("segmenter_hole_accuracy", "hole accuracy after fill, %", 1, "higher", 100),
    Column("psnr", "PSNR, dB", 2, "higher"),
    Column("ssim", "SSIM", 3, "higher"),
    Column("l1", "L1, %", 2, "lower", 100),
    Column("lpips", "LPIPS (alex)", 3, "lower"),
    Column("mean_iou", "mIoU, %", 1, "higher", 100),
    Column("accuracy", "accuracy, %", 1, "higher", 100),
    Column("segmenter_mean_iou", "mIoU after fill, %", 1, "higher", 100),
    Column("segmenter_accuracy", "accuracy after fill, %", 1, "higher", 100),
)

# What some systems are called in tables, so that nobody takes one for the other.
SYSTEM_NAMES = {"nearest_label": "nearest label (true)", "truth": "truth (nothing missing)"}
PREFIX_NAMES = {
    "nearest_predicted:": "nearest label (predicted by {})",
    "oracle:": "{} (true labels guide)",
    "ones:": "{} (M = 1)",
    "known:": "{} (M = 1 - mask)",
    "redrawn:": "{}, redrawn",
}


CONTROLS = ("ones:", "known:")
ASIDE = (*CONTROLS, "oracle:", "nearest_", "redrawn:")
ABLATION_ROWS = ("basenet", "sgnet", "sgenet")


def is_aside(system: str) -> bool:
    """Whether it looks in another way at a system that has a row of its own, or labels what nobody painted."""
    return system.startswith(ASIDE) or "{" in system


def is_variant(system: str) -> bool:
    """Whether it is a row of Table 3 trained in another way, by its name: `sgnet_wide`, `sgenet_seed1`."""
    row, underscore, _ = system.partition("_")
    return bool(underscore) and plain(row) in ABLATION_ROWS


def system_name(name: str) -> str:
    """What tables call a system of a result file."""
    for prefix, form in PREFIX_NAMES.items():
        if name.startswith(prefix):
            return form.format(name.removeprefix(prefix))
    return SYSTEM_NAMES.get(name, name)


def paper_rows_named(system: str, paper_rows: Iterable[str]) -> list[str]:
    """The paper's names that a system goes by, capitals and hyphens aside: `sgenet` is SGE-Net."""
    return [row for row in paper_rows if plain(row) == plain(system)]


def plain(name: str) -> str:
    """A name without capitals, hyphens and the like."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def columns_for(names: Iterable[str]) -> list[Column]:
    """The columns of these scores, in the order of the list; other keys of a result are passed over."""
    names = sorted(set(names))
    chosen = []
    for column in COLUMNS:
        family = column.name.endswith("-")
        for name in names:
            if name == column.name or (family and name.startswith(column.name)):
                heading = column.heading + name.removeprefix(column.name)
                chosen.append(replace(column, name=name, heading=heading))
    return chosen


def markdown_rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table with its last line break."""
    titles = list(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    lines.insert(1, "|" + "---|" * len(titles))
    return "\n".join(lines) + "\n"
