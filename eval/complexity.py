"""How often one system beats another, by the number of classes in the scene: the split of the paper's Table 2.

The paper asked people; here a distance of single photos and PSNR decide, so the shares are not its shares.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations

import numpy as np

from eval.intervals import Draws, interval
from eval.scores import weighted_sum


# Name -> smallest and largest number of classes, as in section 4.2 of the paper.
LEVELS = {"overall": (1, 255), "low": (1, 2), "moderate": (3, 4), "high": (5, 255)}


def win_rates(rows: Mapping[str, Sequence[Mapping]], photo_distance: str | None, draws: Draws | None) -> list[dict]:
    """One entry for each level that has photos.

    Args:
        rows: Rows of each system, in one order. Systems that only label are passed over.
        photo_distance: Name of the column `photo_distance` in tables, None if it is empty.
        draws: For the intervals.
    """
    painters = {name: own for name, own in rows.items() if own[0]["hole_psnr"] is not None}
    if len(painters) < 2:
        return []
    num_classes = np.array([row["num_classes"] for row in next(iter(painters.values()))])
    losses = {"psnr": {name: -np.array([row["psnr"] for row in own]) for name, own in painters.items()}}
    if photo_distance is not None:
        losses[photo_distance] = {
            name: np.array([row["photo_distance"] for row in own]) for name, own in painters.items()
        }
    entries = []
    for level, (low, high) in LEVELS.items():
        chosen = (num_classes >= low) & (num_classes <= high)
        if chosen.any():
            wins = [
                {"system": first, "against": second, "by": name}
                | share_of_wins(loss[first], loss[second], chosen, draws)
                for name, loss in losses.items()
                for first, second in permutations(painters, 2)
            ]
            entries.append({"level": level, "classes": [low, high], "n": int(chosen.sum()), "wins": wins})
    return entries


def share_of_wins(first: np.ndarray, second: np.ndarray, chosen: np.ndarray, draws: Draws | None) -> dict:
    """Share of the chosen photos where `first` has the smaller loss, a tie counting half, with its interval."""
    points = ((first < second) + 0.5 * (first == second)) * chosen
    result = {"share": float(points.sum() / chosen.sum()), "interval": None}
    if draws is not None:
        drawn = weighted_sum(draws.weights, chosen)
        values = np.divide(
            weighted_sum(draws.weights, points), drawn, out=np.full(len(drawn), np.nan), where=drawn > 0
        )
        result["interval"] = interval(values)
    return result
