"""The published FID: the Frechet distance on the features of one particular Inception network.

Heusel et al., 2017. Network, weights (`inception-2015-12-05`, Apache-2.0) and TensorFlow's bilinear resizing to
299x299 without antialiasing come from the package torch-fidelity, which also brings torchvision; it is optional and
loads its weights (91 MB) itself unless a file is named. No other network's distance is called FID here: see
`feature_distance`. With fewer than 2,048 photos the value is far above that of many: give N, and compare within one N.
Loading it through `evaluate` needs the project's folder on Python's path.
"""

import datasets
import evaluate
import numpy as np
import torch

from eval.metrics.feature_distance.feature_distance import frechet_distance


class InceptionNetwork:
    """The network of the published FID; takes and gives what `FeatureNetwork` does.

    Args:
        weights: The file `weights-inception-2015-12-05-6726825d.pth` of torch-fidelity; downloaded if None.
        device: Where it runs.

    Raises:
        ImportError: If torch-fidelity is not installed.
    """

    name = "inception"
    distance_name = "FID"
    kernel_name = "KID"

    def __init__(self, weights: str | None = None, device: str = "cpu"):
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ImportError(
                "The published FID needs the package torch-fidelity (with torchvision): `pip install torch-fidelity`. "
                "Without it, the same distance on another network's features is --features HUB_ID_OR_FOLDER."
            ) from error
        self.device = device
        self.model = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048"], feature_extractor_weights_path=weights
        ).to(device)

    @torch.inference_mode()
    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        """Features, float64 (N, 2048), of uint8 images (H, W, 3) of one size."""
        pixels = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())  # (N, H, W, 3) -> (N, 3, H, W)
        return self.model(pixels.to(self.device))[0].double().cpu().numpy()


class Fid(evaluate.Metric):
    """`compute(predictions=features, references=features)` -> `{"fid": ...}`, of `InceptionNetwork`'s features."""

    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: features (2048,) of filled and of true photos.",
            features=datasets.Features({"predictions": vector, "references": vector}),
        )

    def _compute(self, predictions, references):
        return {"fid": frechet_distance(np.asarray(predictions), np.asarray(references))}
