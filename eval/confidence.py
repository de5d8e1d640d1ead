"""Does the network know where it is wrong? The numbers behind the paper's Fig. 6 and Fig. 8.

Confidence: P_max of section 3.2, mean over the hole. Error: L1 of the composite in the hole. A smooth hole is both
easy to fill and easy to label, so the plain correlation says little; the partial one holds the texture of the true
hole (mean gradient) fixed.
"""

import numpy as np


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
        raise ValueError("A correlation needs at least three photos; raise --limit.")
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
