"""Hole PSNR against the distance of features, one dot for each system: losses pull the two apart.

    python -m eval.front eval/results/street-128*/result.json --masks centre-48 --domain labelmefacade --out front.png

A system is behind only if another one is better in both. Result files are what `eval.run` writes; several add up.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from eval.columns import is_aside
from eval.files import write_picture
from eval.plots import scatter
from eval.rows import slug


Place = tuple[str, str, str, str, str]  # data, split, masks, domain, name of the distance


def dots_of(results: Iterable[dict], asides: bool = False) -> dict[Place, dict[str, tuple[float, float]]]:
    """(distance, PSNR) of each system at each place that has both; of a system that comes twice, the later.

    Args:
        results: Of `eval.run`.
        asides: Take other looks at a checkpoint too, such as `street{noise_strength: 0}`.
    """
    places: dict[Place, dict[str, tuple[float, float]]] = {}
    for line in results:
        distance = next((name for name in line if name.startswith("FD-")), None)
        shown = line["system"] != "truth" and (asides or not is_aside(line["system"]))
        if distance is not None and line.get("hole_psnr") is not None and shown:
            place = (line["data"], line["split"], line["masks"], line["domain"], distance)
            places.setdefault(place, {})[line["system"]] = (line[distance], line["hole_psnr"])
    return places


def draw_front(place: Place, dots: dict[str, tuple[float, float]]) -> Image.Image:
    """Draws one place of [`dots_of`]."""
    *where, distance = place
    x, y = zip(*dots.values(), strict=True)
    return scatter(
        {name: [dot] for name, dot in dots.items()},
        f"{distance}, smaller is better",
        f"hole PSNR, dB: {' '.join(where)}",
        x_range=(0.95 * min(x), 1.05 * max(x)),
        y_range=(min(y) - 0.2, max(y) + 0.2),
        side=800,
        names_at_points=True,
    )


def draw_fronts(results: Iterable[dict], out: Path) -> None:
    """Draws `front_DATA_SPLIT_MASKS_DOMAIN.png` into a folder for each place; nothing without a distance."""
    for place, dots in dots_of(results).items():
        write_picture(out / f"front_{slug('_'.join(place[:-1]))}.png", draw_front(place, dots))


def main(argv: Sequence[str] | None = None) -> int:
    """Draws one place from result files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.front", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="files that eval.run wrote")
    parser.add_argument("--split", default="report")
    parser.add_argument("--masks", required=True, help="mask set")
    parser.add_argument("--domain", required=True, help="domain of the data set, or all")
    parser.add_argument("--asides", action="store_true", help="take other looks at the same weights too")
    parser.add_argument("--out", type=Path, required=True, help="the picture, a PNG file")
    arguments = parser.parse_args(argv)
    lines = [line for path in arguments.results for line in json.loads(path.read_text(encoding="utf-8"))["results"]]
    wanted = (arguments.split, arguments.masks, arguments.domain)
    places = {place: dots for place, dots in dots_of(lines, arguments.asides).items() if place[1:4] == wanted}
    if len(places) != 1:
        known = sorted({" ".join(place[1:4]) for place in dots_of(lines)})
        parser.error(
            f"{len(places)} places are {' '.join(wanted)}, one is needed; with PSNR and a distance there are "
            f"{', '.join(known) or 'none'}."
        )
    [(place, dots)] = places.items()
    write_picture(arguments.out, draw_front(place, dots))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
