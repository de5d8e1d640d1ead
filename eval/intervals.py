"""How far a number could be off because other photos were not taken: paired percentile intervals of 95 %.

Photos of one drive or one run of shots are not independent, so whole groups are drawn (the column `group`), not
photos. All systems of a set are read under the same draws, so that the difference of two systems has an interval of
its own, which is much narrower than the two intervals suggest.

Means, ratios and counts of pixels: the bootstrap, groups drawn with repetition. Distances of features: half-samples
without repetition, because photos drawn twice shrink a covariance. A half-sample of independent photos scatters about
the mean of half-samples as the whole sample about its own expectation; the interval is therefore that scatter, moved
to the value of the whole sample, which also removes the bias that fewer photos bring.

Few groups give no interval: nobody can tell from a single drive how other drives vary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


FEWEST_GROUPS = 5  # 126 different draws; four groups have 35, too few for the 2.5 % at either end
PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Draws:
    """Draws of one set of N photos, the same for all systems.

    Attributes:
        weights: (B, N), how often each photo counts in each bootstrap draw.
        halves: bool (H, N), the half-samples of N // 2 photos.
    """

    weights: np.ndarray
    halves: np.ndarray


def draw(groups: Sequence[str], rng: np.random.Generator, count: int = 1000, halves: int = 200) -> Draws | None:
    """Draws whole groups; None if there are fewer than `FEWEST_GROUPS`.

    Args:
        groups: Group of each photo.
        rng: Source of the draws.
        count: Bootstrap draws.
        halves: Half-samples. Groups enter in random order until half of the photos are in; the last one is cut.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return None
    weights = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)[:, group_of]
    chosen = np.zeros((halves, len(group_of)), dtype=bool)
    for half in chosen:
        place = rng.permutation(len(names))[group_of]
        order = np.lexsort((rng.permutation(len(group_of)), place))  # by group, within a group at random
        half[order[: len(group_of) // 2]] = True
    return Draws(weights.astype(np.float64), chosen)


def bootstrap(score: Callable[[np.ndarray], np.ndarray], draws: Draws) -> np.ndarray:
    """The score (see `scores.scores_of`) under each draw, (B,)."""
    return score(draws.weights)


def half_samples(distance: Callable[[np.ndarray], float], draws: Draws, whole: float) -> np.ndarray:
    """The distance of each half-sample, (H,), moved so that their mean is the value of the whole sample."""
    values = np.array([distance(half) for half in draws.halves])
    return values - values.mean() + whole


def interval(values: np.ndarray) -> list[float] | None:
    """Low and high end; None if some draw has no value (a class that only one group shows, for example)."""
    if np.isnan(values).any():
        return None
    return [float(end) for end in np.percentile(values, PERCENTILES)]
