"""Hole PSNR against the distance of features, one dot for each system: losses pull the two apart.

    python -m eval.front eval/results/street-128/result.json --masks centre-48 --domain labelmefacade --out front.png

A system is behind only if another one is better in both. Result files are what `eval.run` writes; several add up.
"""

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from eval.columns import is_aside
from eval.files import slug, write_picture
from eval.plots import scatter


class Place(NamedTuple):
    """What has to be equal for two dots to be compared; `size` in pixels."""

    data: str
    split: str
    masks: str
    size: int
    domain: str
    distance: str


class Dot(NamedTuple):
    """A system's scores."""

    distance: float
    psnr: float


def dots_of(
    records: Iterable[dict], asides: bool = False, systems: Sequence[str] | None = None
) -> dict[Place, dict[str, Dot]]:
    """The scores of each system at each place, where it has both.

    Args:
        records: Result files of `eval.run`.
        asides: Take other looks at a checkpoint too, such as `street{noise_strength: 0}`.
        systems: Take these alone.

    Raises:
        ValueError: If a system has other scores in another file: two networks of one name.
    """
    places: dict[Place, dict[str, Dot]] = {}
    for record in records:
        sizes = {(facts["data"], facts["split"], facts["masks"]): facts["size"] for facts in record["sets"]}
        for line in record["results"]:
            name = next((key for key in line if key.startswith("FD-")), None)
            shown = line["system"] != "truth" and (asides or not is_aside(line["system"]))
            shown = shown and (systems is None or line["system"] in systems)
            if name is None or line.get("hole_psnr") is None or not shown:
                continue
            where = (line["data"], line["split"], line["masks"])
            place = Place(*where, sizes[where], line["domain"], name)
            dot = Dot(line[name], line["hole_psnr"])
            known = places.setdefault(place, {}).setdefault(line["system"], dot)
            if not all(math.isclose(one, other, rel_tol=1e-3) for one, other in zip(known, dot, strict=True)):
                raise ValueError(
                    f"{line['system']} is {known.psnr:.2f} dB in one file and {dot.psnr:.2f} dB in another on "
                    f"{describe(place)}: two networks of one name, not for one picture. Leave one out: --systems."
                )
    return places


def describe(place: Place) -> str:
    """A place in words, but for the distance."""
    return f"{place.data} {place.split} {place.masks} at {place.size} px {place.domain}"


def draw_front(place: Place, dots: dict[str, Dot]) -> Image.Image:
    """Draws one place of [`dots_of`]."""
    x, y = zip(*dots.values(), strict=True)
    return scatter(
        {name: [dot] for name, dot in dots.items()},
        f"{place.distance}, smaller is better",
        f"hole PSNR, dB: {describe(place)}",
        x_range=(0.95 * min(x), 1.05 * max(x)),
        y_range=(min(y) - 0.2, max(y) + 0.2),
        side=640,
        names_at_points=True,
    )


def draw_fronts(record: dict, out: Path) -> None:
    """Draws `front_DATA_SPLIT_MASKS_DOMAIN.png` into a folder for each place of a result file."""
    for place, dots in dots_of([record]).items():
        name = slug("_".join([place.data, place.split, place.masks, place.domain]))
        write_picture(out / f"front_{name}.png", draw_front(place, dots))


def main(argv: Sequence[str] | None = None) -> int:
    """Draws one place from result files; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.front", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path, help="files that eval.run wrote")
    parser.add_argument("--split", default="report")
    parser.add_argument("--masks", required=True, help="mask set")
    parser.add_argument("--domain", required=True, help="domain of the data set, or all")
    parser.add_argument("--systems", nargs="+", metavar="SYSTEM", help="show these alone")
    parser.add_argument("--asides", action="store_true", help="take other looks at the same weights too")
    parser.add_argument("--out", type=Path, required=True, help="the picture, a PNG file")
    arguments = parser.parse_args(argv)
    try:
        records = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.results]
        places = dots_of(records, arguments.asides, arguments.systems)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    except KeyError as error:
        parser.error(f"There is no {error} in one of these files: only results of eval.run can be drawn.")
    wanted = (arguments.split, arguments.masks, arguments.domain)
    chosen = [place for place in places if (place.split, place.masks, place.domain) == wanted]
    if len(chosen) != 1:
        known = "; ".join(sorted(f"{describe(place)} ({place.distance})" for place in places))
        parser.error(
            f"{len(chosen)} places are {' '.join(wanted)}, one is needed. These files hold: "
            f"{known or 'none (a distance needs eval.run --features)'}."
        )
    if missing := sorted(set(arguments.systems or ()) - places[chosen[0]].keys()):
        parser.error(f"There is no {', '.join(missing)} there, but {', '.join(places[chosen[0]])}.")
    write_picture(arguments.out, draw_front(chosen[0], places[chosen[0]]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
