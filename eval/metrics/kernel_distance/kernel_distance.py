"""Kernel distance between the pooled features of filled and true photos: KID's formula on any network's features.

Binkowski et al., "Demystifying MMD GANs", 2018: the squared maximum mean discrepancy under the kernel
(x'y / D + 1)^3, without the pairs of a photo with itself, which makes it unbiased: values of different N can be
compared, and chance can push a value below 0. On the published Inception features this is KID; on others it is named
after the network (`KD-mobilenet_v2`), as `FD-` is. Sets larger than a subset are drawn from: the mean over the
subsets is the value, as published.

The formula takes the two sets for independent. A fill and its own photo are not, they share what is around the hole,
and the pairs of the two push the value of few photos far below 0; `paired` leaves them out (Gretton et al., "A Kernel
Two-Sample Test", 2012, Lemma 6, last formula), which is unbiased again. Our tables use that.
"""

import datasets
import evaluate
import numpy as np
import torch


SUBSET_SIZE = 1000
SUBSETS = 100


def squared_mmd(features: np.ndarray, reference_features: np.ndarray, paired: bool = False) -> float:
    """Unbiased squared MMD under the cubic kernel, of all photos at once.

    Args:
        features: (N, D), N at least 2.
        reference_features: (M, D), M at least 2.
        paired: Row i of both belongs to one photo (N = M).

    Raises:
        ValueError: If the widths differ or a set has fewer than two photos.
    """
    if features.ndim != 2 or features.shape[1:] != reference_features.shape[1:]:
        raise ValueError(f"Features must be (N, D) and (M, D), got {features.shape}, {reference_features.shape}.")
    if min(len(features), len(reference_features)) < 2:
        raise ValueError("Pairs of photos need at least two photos a set.")
    # torch, because its number of threads, and with it the last digit, can be fixed while the program runs.
    x, y = (torch.from_numpy(np.asarray(values, dtype=np.float64)) for values in (features, reference_features))
    cross = _kernel(x, y)
    value = -2 * (_mean_of_others(cross) if paired else cross.mean())
    for own in (x, y):
        value += _mean_of_others(_kernel(own, own))
    return float(value)


def _mean_of_others(kernel: torch.Tensor) -> torch.Tensor:
    """Mean of a square matrix without its diagonal."""
    return (kernel.sum() - kernel.diagonal().sum()) / (len(kernel) * (len(kernel) - 1))


def _kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def kernel_distance(
    features: np.ndarray,
    reference_features: np.ndarray,
    rng: np.random.Generator,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    paired: bool = False,
) -> float:
    """Mean squared MMD over random subsets, or the one of all photos if no set is larger than a subset.

    Args:
        features: (N, D), N at least 2.
        reference_features: (M, D), M at least 2.
        rng: Draws the subsets.
        subsets: How many.
        subset_size: Photos in each, without repetition.
        paired: Row i of both belongs to one photo (N = M); the subsets then hold the same photos of both.

    Raises:
        ValueError: If the widths differ or a set has fewer than two photos.
    """
    if max(len(features), len(reference_features)) <= subset_size:
        return squared_mmd(features, reference_features, paired)
    distances = []
    for _ in range(subsets):
        mine = rng.choice(len(features), min(subset_size, len(features)), replace=False)
        count = len(reference_features)
        theirs = mine if paired else rng.choice(count, min(subset_size, count), replace=False)
        distances.append(squared_mmd(features[mine], reference_features[theirs], paired))
    return float(np.mean(distances))


class KernelDistance(evaluate.Metric):
    """`compute(predictions=features, references=features, seed=0)` -> `{"kernel_distance": ...}`."""

    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: pooled features (D,) of filled and of true photos.",
            features=datasets.Features({"predictions": vector, "references": vector}),
        )

    def _compute(self, predictions, references, seed=0):
        rng = np.random.default_rng(seed)
        return {"kernel_distance": kernel_distance(np.asarray(predictions), np.asarray(references), rng)}
