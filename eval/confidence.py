"""Does the network know where it is wrong? The numbers behind the paper's Fig. 6 and Fig. 8, and calibration.

Confidence: P_max of section 3.2, mean over the hole. Error: L1 of the composite in the hole. A smooth hole is both
easy to fill and easy to label, so the plain correlation says little; the partial one holds the texture of the true
hole (mean gradient) fixed.
"""

import numpy as np


BINS = 10


def correlations(confidence: np.ndarray, error: np.ndarray, texture: np.ndarray) -> dict[str, float]:
    """Pearson, Spearman and partial (Pearson given texture) correlation of confidence and error.

    Args:
        confidence: (N,), N at least 3.
        error: (N,).
        texture: (N,).

    Raises:
        ValueError: If there are fewer than three photos.
    """
    if len(confidence) < 3:
        raise ValueError(f"A correlation needs at least three photos, not {len(confidence)}.")
    from scipy.stats import rankdata

    plain = _pearson(confidence, error)
    with_texture = _pearson(confidence, texture), _pearson(error, texture)
    rest = np.sqrt((1 - with_texture[0] ** 2) * (1 - with_texture[1] ** 2))
    return {
        "pearson": plain,
        "spearman": _pearson(rankdata(confidence), rankdata(error)),
        "partial_given_texture": float((plain - with_texture[0] * with_texture[1]) / rest) if rest > 0 else 0.0,
    }


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    length = np.sqrt(np.square(first).sum() * np.square(second).sum())
    return float((first * second).sum() / length) if length > 0 else 0.0


def risk_coverage(confidence: np.ndarray, error: np.ndarray) -> dict[str, list[float]]:
    """Mean error of the surest share of the photos, for every share, beside the best and the blind order.

    Args:
        confidence: (N,).
        error: (N,).
    """
    counts = np.arange(1, len(error) + 1)
    surest_first = error[np.argsort(-confidence, kind="stable")]
    return {
        "coverage": (counts / len(error)).tolist(),
        "risk": (np.cumsum(surest_first) / counts).tolist(),
        "best_risk": (np.cumsum(np.sort(error)) / counts).tolist(),
        "blind_risk": [float(error.mean())] * len(error),
    }


def confidence_bins(confidence: np.ndarray, correct: np.ndarray) -> dict[str, list[float]]:
    """Pixels, summed confidence and right answers in each of `BINS` equal bins of confidence.

    Args:
        confidence: (N,), in [0, 1].
        correct: bool (N,), whether the likeliest class is the true one.
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return {
        "pixels": np.bincount(place, minlength=BINS).tolist(),
        "confidence": np.bincount(place, weights=confidence, minlength=BINS).tolist(),
        "correct": np.bincount(place, weights=correct, minlength=BINS).tolist(),
    }


def calibration(rows: list[dict]) -> dict[str, float | list[float | None]]:
    """Is a confidence of .8 right in eight of ten pixels? Over all photos' bins (`confidence_bins`).

    Returns:
        Accuracy, mean confidence, the expected calibration error (mean over pixels of the gap between a bin's
        confidence and its accuracy) and both in each bin, None where a bin is empty. Empty without labelled pixels.
    """
    pixels, confidence, correct = (
        np.array([row[name] for row in rows]).sum(axis=0) for name in ("pixels", "confidence", "correct")
    )
    if not pixels.sum():
        return {}

    def by_bin(sums: np.ndarray) -> list[float | None]:
        return [float(part / count) if count else None for part, count in zip(sums, pixels, strict=True)]

    return {
        "pixels": int(pixels.sum()),
        "accuracy": float(correct.sum() / pixels.sum()),
        "mean_confidence": float(confidence.sum() / pixels.sum()),
        "expected_calibration_error": float(np.abs(confidence - correct).sum() / pixels.sum()),
        "bin_pixels": pixels.tolist(),
        "bin_confidence": by_bin(confidence),
        "bin_accuracy": by_bin(correct),
    }


def scale_numbers(rows: list[dict]) -> dict[str, list[float]]:
    """Means over photos for each scale, 4 first: share of unreliable hole pixels, confidence, gain in confidence.

    Args:
        rows: One dict a photo with `unreliable` and `confidence`, five numbers each (`unreliable` may be None).
    """
    confidence = np.array([row["confidence"] for row in rows])
    numbers = {
        "scales": [4, 3, 2, 1, 0],
        "confidence": confidence.mean(axis=0).tolist(),
        "gain_over_the_coarser_scale": np.diff(confidence, axis=1).mean(axis=0).tolist(),
    }
    if rows[0]["unreliable"] is not None:
        numbers["share_unreliable"] = np.array([row["unreliable"] for row in rows]).mean(axis=0).tolist()
    return numbers
