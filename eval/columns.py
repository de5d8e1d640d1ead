"""The scores that tables can show: name in the result file, heading, format, and which way is better.

One list for `eval.run`, `eval.tables` and `eval.paper_tables`; its order is the order of the columns.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Column:
    """A score.

    Attributes:
        name: Key in the result file; a name that ends in `-` stands for a family (`FD-` for `FD-mobilenet_v2`).
        heading: What stands above the column, with the unit.
        form: Format of a value; a percent sign multiplies by 100 and is not printed.
        better: Which way is better; `one` = the nearer to 1 the better.
    """

    name: str
    heading: str
    form: str
    better: Literal["higher", "lower", "one"]

    def cell(self, value: float | None) -> str:
        """The value as text, empty for None."""
        return "" if value is None else self.form.format(value).removesuffix("%")

    def loss(self, value: float) -> float:
        """The value turned so that less is better, for sorting and for counting wins."""
        return abs(value - 1) if self.better == "one" else -value if self.better == "higher" else value


COLUMNS = (
    Column("hole_psnr", "hole PSNR, dB", "{:.2f}", "higher"),
    Column("hole_ssim", "hole SSIM", "{:.3f}", "higher"),
    Column("hole_l1", "hole L1", "{:.4f}", "lower"),
    Column("hole_sharpness_ratio", "sharpness", "{:.2f}", "one"),
    Column("FD-", "FD-", "{:.1f}", "lower"),
    Column("hole_mean_iou", "hole mIoU, %", "{:.1%}", "higher"),
    Column("hole_accuracy", "hole accuracy, %", "{:.1%}", "higher"),
    Column("psnr", "PSNR, dB", "{:.2f}", "higher"),
    Column("ssim", "SSIM", "{:.3f}", "higher"),
    Column("l1", "L1", "{:.4f}", "lower"),
)


def columns_for(names: Iterable[str]) -> list[Column]:
    """The columns of these scores, in the order of the list; other keys of a result are passed over."""
    names = sorted(set(names))
    chosen = []
    for column in COLUMNS:
        family = column.name.endswith("-")
        for name in names:
            if name == column.name or (family and name.startswith(column.name)):
                heading = column.heading + name.removeprefix(column.name)
                chosen.append(Column(name, heading, column.form, column.better))
    return chosen


def markdown_rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table with its last line break."""
    titles = list(head)
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    lines.insert(1, "|" + "---|" * len(titles))
    return "\n".join(lines) + "\n"
