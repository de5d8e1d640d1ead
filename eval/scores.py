"""From the rows of one system to its numbers, each as a function of how often a photo counts.

One definition serves the value itself (every photo once), the split by complexity (some photos) and the intervals
(photos drawn with repetition). Sums are float64 in the order of the ids, and without BLAS, whose number of threads can
move the last digit.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from eval.intervals import Draws, bootstrap, half_samples, interval
from eval.metrics.feature_distance.feature_distance import frechet_distance
from eval.metrics.kernel_distance.kernel_distance import kernel_distance
from eval.metrics.mean_iou.mean_iou import class_iou, mean_iou
from eval.metrics.pixel_accuracy.pixel_accuracy import pixel_accuracy


# (B, N) weights -> (B,) values
Score = Callable[[np.ndarray], np.ndarray]
# bool (N,) chosen photos -> value
Distance = Callable[[np.ndarray], float]

MEANS = ("hole_psnr", "hole_ssim", "hole_l1", "hole_lpips", "seam_error", "psnr", "ssim", "l1", "lpips")
# Counts of pixels -> what stands before and after `mean_iou` in the score's name.
CONFUSIONS = {
    "hole_confusion": "hole_{}",
    "confusion": "{}",
    "segmenter_hole_confusion": "segmenter_hole_{}",
    "segmenter_confusion": "segmenter_{}",
}


def weighted_sum(weights: np.ndarray, values: Sequence) -> np.ndarray:
    """(B, N) weights and (N, ...) values -> (B, ...)."""
    return np.einsum("bn,n...->b...", weights, np.asarray(values, dtype=np.float64))


def scores_of(rows: Sequence[Mapping], num_labels: int) -> dict[str, Score]:
    """Every score that these rows hold, except distances of features."""
    scores: dict[str, Score] = {}
    for name in MEANS:
        if rows[0][name] is not None:
            values = np.array([row[name] for row in rows])
            scores[name] = lambda weights, values=values: weighted_sum(weights, values) / weights.sum(axis=1)
    if rows[0]["hole_gradient"] is not None:
        scores["hole_sharpness_ratio"] = _ratio([(row["hole_gradient"], row["true_hole_gradient"]) for row in rows])
    for column, form in CONFUSIONS.items():
        if rows[0][column] is not None and any(any(row[column]) for row in rows):
            counts = np.array([row[column] for row in rows]).reshape(len(rows), num_labels, num_labels + 1)
            scores[form.format("mean_iou")] = _of_counts(counts, mean_iou)
            scores[form.format("accuracy")] = _of_counts(counts, pixel_accuracy)
    return scores


def _ratio(pairs: list[tuple[float, float]]) -> Score:
    def ratio(weights: np.ndarray) -> np.ndarray:
        sums = weighted_sum(weights, pairs)
        return np.divide(sums[:, 0], sums[:, 1], out=np.full(len(sums), np.nan), where=sums[:, 1] > 0)

    return ratio


def _of_counts(counts: np.ndarray, value: Callable[[np.ndarray], float]) -> Score:
    return lambda weights: np.array([value(total) for total in weighted_sum(weights, counts)])


def class_ious(rows: Sequence[Mapping], num_labels: int) -> dict[str, list[float | None]]:
    """IoU of each class, None where it is neither there nor predicted: section 4.6 of the paper in numbers."""
    found = {}
    for column, form in CONFUSIONS.items():
        if rows[0][column] is not None and any(any(row[column]) for row in rows):
            counts = np.sum([row[column] for row in rows], axis=0).reshape(num_labels, num_labels + 1)
            found[form.format("class_iou")] = [None if np.isnan(v) else float(v) for v in class_iou(counts)]
    return found


def distances_of(
    rows: Sequence[Mapping], truth: Mapping[str, Mapping], networks: Sequence, rng_seed: int
) -> dict[str, Distance]:
    """Frechet and kernel distance of each network of features.

    Args:
        rows: Rows with the columns `features:NAME`.
        truth: Row of the true photo by id.
        networks: `FeatureNetwork` or what looks like one: `name`, `distance_name`, `kernel_name`.
        rng_seed: Seed of the kernel distance's subsets; the same for every system.
    """
    distances: dict[str, Distance] = {}
    for network in networks:
        column = f"features:{network.name}"
        if rows[0][column] is None or len(rows) < 2:
            continue
        ours = np.array([row[column] for row in rows])
        theirs = np.array([truth[row["id"]][column] for row in rows])

        def frechet(chosen: np.ndarray, ours: np.ndarray = ours, theirs: np.ndarray = theirs) -> float:
            return frechet_distance(ours[chosen], theirs[chosen])

        def kernel(chosen: np.ndarray, ours: np.ndarray = ours, theirs: np.ndarray = theirs) -> float:
            return kernel_distance(ours[chosen], theirs[chosen], np.random.default_rng(rng_seed), paired=True)

        distances |= {network.distance_name: frechet, network.kernel_name: kernel}
    return distances


class Summary:
    """The numbers of one system on one set of photos, and their scatter under the draws.

    Args:
        scores: From `scores_of`.
        distances: From `distances_of`.
        count: Number of photos.
        draws: Draws of the set, None for too few groups.
    """

    def __init__(self, scores: dict[str, Score], distances: dict[str, Distance], count: int, draws: Draws | None):
        once = np.ones((1, count))
        everything = np.ones(count, dtype=bool)
        self.values = {name: float(score(once)[0]) for name, score in scores.items()}
        self.values |= {name: distance(everything) for name, distance in distances.items()}
        self.values = {name: value for name, value in self.values.items() if not np.isnan(value)}
        self.samples: dict[str, np.ndarray] = {}
        if draws is not None:
            drawn = {name: bootstrap(score, draws) for name, score in scores.items()}
            drawn |= {name: half_samples(distance, draws, self.values[name]) for name, distance in distances.items()}
            self.samples = {name: values for name, values in drawn.items() if name in self.values}

    def intervals(self) -> dict[str, list[float] | None]:
        """The interval of each score."""
        return {name: interval(values) for name, values in self.samples.items()}

    def difference(self, reference: "Summary") -> dict[str, dict]:
        """This system less the reference under the same draws, for the scores that both have."""
        return {
            name: {
                "value": self.values[name] - reference.values[name],
                "interval": interval(self.samples[name] - reference.samples[name]) if name in self.samples else None,
            }
            for name in self.values
            if name in reference.values
        }
