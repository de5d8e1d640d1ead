"""Frechet distance between the pooled features of filled and true photos, in any `AutoModel`'s eyes.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017, put this
distance on one particular Inception network and called it FID. Here the network is free, so the value is named after
it (`FD-mobilenet_v2`, `FD-dinov2`) and is never FID: values of two networks, or of two N, cannot be compared.

Protocol: the photo as uint8 RGB -> resized to 224x224 by PIL's bicubic filter (which widens with the factor, that is:
antialiased) -> [0, 1] -> the network's own mean and standard deviation -> `pooler_output`, or where a network has none
the mean of its last hidden state over places -> float64. Covariances divide by N - 1, as numpy.cov does.
"""

import datasets
import evaluate
import numpy as np
import PIL.Image
import torch
import transformers


SIDE = 224


class FeatureNetwork:
    """Turns photos into pooled features.

    Args:
        name_or_path: Hub id or folder of any image model that `AutoModel` loads, with a `preprocessor_config.json`.
        device: Where it runs.
        name: What distances are named after; the type of the model without it.
    """

    def __init__(self, name_or_path: str, device: str = "cpu", name: str | None = None):
        settings, _ = transformers.BaseImageProcessor.get_image_processor_dict(name_or_path)
        self.mean = np.array(settings["image_mean"], dtype=np.float32)
        self.std = np.array(settings["image_std"], dtype=np.float32)
        self.model = transformers.AutoModel.from_pretrained(name_or_path, dtype=torch.float32).to(device).eval()
        self.name = name or self.model.config.model_type

    @property
    def distance_name(self) -> str:
        """Name of the Frechet distance on these features."""
        return f"FD-{self.name}"

    @property
    def kernel_name(self) -> str:
        """Name of the kernel distance on these features."""
        return f"KD-{self.name}"

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        """Features, float64 (N, D), of uint8 images (H, W, 3)."""
        small = [PIL.Image.fromarray(image).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC) for image in images]
        pixels = (np.stack([np.asarray(image, dtype=np.float32) for image in small]) / 255 - self.mean) / self.std
        output = self.model(pixel_values=torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(self.model.device))
        if output.get("pooler_output") is not None:
            pooled = output.pooler_output.flatten(1)
        elif output.last_hidden_state.ndim == 4:
            pooled = output.last_hidden_state.mean(dim=(2, 3))  # (N, D, H, W) -> (N, D)
        else:
            pooled = output.last_hidden_state.mean(dim=1)  # (N, tokens, D) -> (N, D)
        return pooled.double().cpu().numpy()


def frechet_distance(features: np.ndarray, reference_features: np.ndarray) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features.

    d^2 = |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)). With centred features X (N, D) and Y (M, D), each
    divided by the root of its count minus 1, C1 = X'X and C2 = Y'Y; the eigenvalues of C1 C2 are the squared singular
    values of X Y', so the last trace is their sum. That is exact and needs an N x M matrix only, where the textbook's
    root of a D x D product is slow and, with N below D, of a singular matrix.

    Args:
        features: (N, D), N at least 2.
        reference_features: (M, D), M at least 2.

    Raises:
        ValueError: If the widths differ or a set has fewer than two photos.
    """
    if features.ndim != 2 or features.shape[1:] != reference_features.shape[1:]:
        raise ValueError(f"Features must be (N, D) and (M, D), got {features.shape}, {reference_features.shape}.")
    if min(len(features), len(reference_features)) < 2:
        raise ValueError("A covariance needs at least two photos a set.")
    means, factors = [], []
    for values in (features, reference_features):
        # torch, because its number of threads, and with it the last digit, can be fixed while the program runs.
        photos = torch.from_numpy(values.astype(np.float64))
        means.append(photos.mean(dim=0))
        factor = (photos - means[-1]) / (len(photos) - 1) ** 0.5
        # Many photos: the triangle R of X = QR has the same X'X and is only D x D.
        factors.append(torch.linalg.qr(factor, mode="r").R if len(factor) > factor.shape[1] else factor)
    roots = torch.linalg.svdvals(factors[0] @ factors[1].T)
    spread = factors[0].square().sum() + factors[1].square().sum() - 2 * roots.sum()
    # Rounding can leave a distance of zero slightly below it.
    return max(float((means[0] - means[1]).square().sum() + spread), 0.0)


class FeatureDistance(evaluate.Metric):
    """`compute(predictions=features, references=features)` -> `{"feature_distance": ...}`; see `FeatureNetwork`."""

    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: pooled features (D,) of filled and of true photos.",
            features=datasets.Features({"predictions": vector, "references": vector}),
        )

    def _compute(self, predictions, references):
        return {"feature_distance": frechet_distance(np.asarray(predictions), np.asarray(references))}
