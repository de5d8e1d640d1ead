"""Scatter plots as pictures, without a plotting library."""

from collections.abc import Sequence

from PIL import Image, ImageDraw


COLOURS = ((31, 90, 160), (200, 80, 30), (30, 130, 70), (130, 60, 150), (150, 120, 20), (90, 90, 90))
MARGIN = 64


def scatter(
    series: dict[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    side: int = 480,
    names_at_points: bool = False,
) -> Image.Image:
    """One colour for each named series of (x, y), both axes linear and by default starting at 0.

    Args:
        series: Name, empty for a single series that needs no legend -> points, x and y at least 0.
        x_label: What stands under the axis, with the unit.
        y_label: What stands over the axis, with the unit.
        x_range: Ends of the x axis; by default 0 to the largest x.
        y_range: Ends of the y axis; by default 0 to the largest y.
        side: Of the plotted square in pixels.
        names_at_points: Writes each name beside its points in place of a legend.
    """
    points = [point for own in series.values() for point in own]
    left, right = x_range or (0.0, max([x for x, _ in points] + [1e-9]))
    bottom, top = y_range or (0.0, max([y for _, y in points] + [1e-9]))
    legend = 18 * len(series) if any(series) and not names_at_points else 0
    page = Image.new("RGB", (side + 2 * MARGIN, side + 2 * MARGIN + legend), "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle([MARGIN, MARGIN, MARGIN + side, MARGIN + side], outline="black")
    dots = [
        (name, COLOURS[number % len(COLOURS)], MARGIN + (x - left) / (right - left) * side, row)
        for number, (name, own) in enumerate(series.items())
        for x, y in own
        for row in [MARGIN + (top - y) / (top - bottom) * side]
    ]
    for _, colour, column, row in dots:
        pen.ellipse([column - 3, row - 3, column + 3, row + 3], fill=colour)
    if names_at_points:
        taken = [(column - 4, row - 4, column + 4, row + 4) for _, _, column, row in dots]
        for name, colour, column, row in dots:
            # Names lean away from the nearer side of the square, so that they stay in it.
            anchor, start = ("lm", column + 6) if column < MARGIN + side / 2 else ("rm", column - 6)
            shift, box = free_place(pen, (start, row), name, anchor, taken)
            taken.append(box)
            pen.text((start, row + shift), name, fill=colour, anchor=anchor)
            if shift:
                pen.line([column, row, start, row + shift], fill=colour)
    if legend:
        for number, name in enumerate(series):
            colour = COLOURS[number % len(COLOURS)]
            pen.text((MARGIN, side + 2 * MARGIN - 16 + 18 * number), f"o {name}", fill=colour)
    for share in (0, 0.5, 1):
        x, y = left + share * (right - left), bottom + share * (top - bottom)
        pen.text((MARGIN + share * side, MARGIN + side + 8), f"{x:.3g}", fill="black", anchor="ma")
        pen.text((MARGIN - 6, MARGIN + (1 - share) * side), f"{y:.3g}", fill="black", anchor="rm")
    pen.text((MARGIN + side / 2, MARGIN + side + 26), x_label, fill="black", anchor="ma")
    pen.text((MARGIN, MARGIN - 18), y_label, fill="black", anchor="la")
    return page


def free_place(
    pen: ImageDraw.ImageDraw,
    start: tuple[float, float],
    name: str,
    anchor: str,
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, tuple[float, float, float, float]]:
    """How far above (-) or below a dot its name has to stand to cover no taken box, and the name's own box there."""
    left, top, right, bottom = pen.textbbox(start, name, anchor=anchor)
    shift = 0.0
    for step in range(4 * len(taken) + 1):
        shift = (step + 1) // 2 * (1 if step % 2 else -1) * (bottom - top) / 2
        if not any(
            left < other[2] and other[0] < right and top + shift < other[3] and other[1] < bottom + shift
            for other in taken
        ):
            break
    return shift, (left, top + shift, right, bottom + shift)
