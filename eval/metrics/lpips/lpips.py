"""LPIPS: distance of a filled photo from the truth in the eyes of AlexNet, weighted by human judgements.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018, version 0.1, net `alex`
(the one that most inpainting papers print; `vgg` gives other numbers). The weights are not part of this project: the
linear layers are BSD-2-Clause, AlexNet's come from torchvision and were trained on ImageNet, whose photos are for
non-commercial research. Whoever has the package lpips makes the file once:

    python -c "import lpips, torch; torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips_alex.pth')"

Whole photo: each layer's mean over places, summed, as published. Hole: each layer's map enlarged to the photo
(bilinear, the package's `spatial=True`), summed, mean over the hole's pixels. A set's value is the mean of its
photos' values.
"""

from pathlib import Path

import datasets
import evaluate
import numpy as np
import torch
from torch import nn
from torch.nn import functional


MAKE_THE_FILE = (
    "make it with the package lpips: "
    "python -c \"import lpips, torch; torch.save(lpips.LPIPS(net='alex').state_dict(), 'lpips_alex.pth')\""
)
# Position in torchvision's AlexNet, channels in and out, kernel, stride, padding; pooled before the second and third.
CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)


class Lpips(nn.Module):
    """The network of LPIPS.

    Args:
        weights: File with the state of `lpips.LPIPS(net="alex")`, as `.pth` or `.safetensors`, or the Hub id of a
            model that holds it as `model.safetensors`.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a model.
        ValueError: If the file does not hold that network.
    """

    def __init__(self, weights: str):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(wide, out, kernel, stride, padding) for _, wide, out, kernel, stride, padding in CONVOLUTIONS
        )
        self.linear = nn.ModuleList(nn.Conv2d(layer[2], 1, 1, bias=False) for layer in CONVOLUTIONS)
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        state = read_state(weights)
        names = {"shift": "scaling_layer.shift", "scale": "scaling_layer.scale"}
        for index, (position, *_) in enumerate(CONVOLUTIONS):
            for kind in ("weight", "bias"):
                names[f"convolutions.{index}.{kind}"] = f"net.slice{index + 1}.{position}.{kind}"
            names[f"linear.{index}.weight"] = f"lin{index}.model.1.weight"
        missing = sorted(set(names.values()) - state.keys())
        if missing:
            raise ValueError(
                f"{weights} is not the state of LPIPS with net alex, it lacks {missing[0]}: {MAKE_THE_FILE}"
            )
        self.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
        self.eval().requires_grad_(False)

    def layers(self, pixel_values: torch.Tensor) -> list[torch.Tensor]:
        """Features of each layer, their channels scaled to length 1; `pixel_values` (N, 3, H, W) in [-1, 1]."""
        hidden_states, layers = (pixel_values - self.shift) / self.scale, []
        for index, convolution in enumerate(self.convolutions):
            if index in (1, 2):
                hidden_states = functional.max_pool2d(hidden_states, kernel_size=3, stride=2)
            hidden_states = functional.relu(convolution(hidden_states))
            length = hidden_states.square().sum(dim=1, keepdim=True).sqrt()
            layers.append(hidden_states / (length + 1e-10))
        return layers

    @torch.inference_mode()
    def forward(self, prediction: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
        """Distance over the whole photo and over the hole.

        Args:
            prediction: uint8 (H, W, 3), the composite, at least 32 pixels a side.
            reference: uint8 (H, W, 3), the photo without a hole.
            mask: bool (H, W), True = hole.

        Raises:
            ValueError: If types or sizes do not fit, or if the mask is empty.
        """
        for image in (prediction, reference):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape != reference.shape:
                raise ValueError(f"LPIPS needs two uint8 images (H, W, 3) of one size, got {image.shape}.")
        if mask.dtype != np.bool_ or mask.shape != reference.shape[:2] or not mask.any():
            raise ValueError(f"The mask must be bool {reference.shape[:2]} with a hole: {mask.dtype} {mask.shape}.")
        pair = torch.from_numpy(np.stack([prediction, reference]).transpose(0, 3, 1, 2).copy())
        layers = self.layers(pair.to(self.shift.device).float() / 127.5 - 1)
        whole, spatial = 0.0, torch.zeros(mask.shape, dtype=torch.float64)
        for linear, (ours, theirs) in zip(self.linear, layers, strict=True):
            distance = linear((ours - theirs).square()[None])
            whole += float(distance.double().mean())
            enlarged = functional.interpolate(distance, size=mask.shape, mode="bilinear", align_corners=False)
            spatial += enlarged[0, 0].double().cpu()
        return whole, float(spatial[torch.from_numpy(mask)].mean())


def read_state(weights: str) -> dict[str, torch.Tensor]:
    """The tensors of a `.pth` or `.safetensors` file, or of a model on the Hub.

    Raises:
        FileNotFoundError: If there is neither such a file nor such a model.
    """
    path = Path(weights)
    if not path.is_file():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            path = Path(hf_hub_download(weights, "model.safetensors"))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
            raise FileNotFoundError(
                f"No LPIPS weights: {weights} is neither a file nor a model on the Hub with model.safetensors. "
                f"They are not part of this project (see the terms in eval/metrics/lpips); {MAKE_THE_FILE}"
            ) from error
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


class LpipsMetric(evaluate.Metric):
    """`compute(predictions=images, references=images, masks=masks, weights=FILE)` -> `{"lpips", "hole_lpips"}`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=__doc__,
            citation="",
            inputs_description="predictions, references: uint8 (H, W, 3) images; masks: bool (H, W), True = hole.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def compute(self, *, predictions=None, references=None, masks=None, weights=None):
        """Distances of the given images: means of the photos' values."""
        network = Lpips(weights)
        pairs = [network(*triple) for triple in zip(predictions, references, masks, strict=True)]
        whole, hole = zip(*pairs, strict=True)
        self.add_batch(predictions=list(whole), references=list(hole))
        return super().compute()

    def _compute(self, predictions, references):
        return {"lpips": float(np.mean(predictions)), "hole_lpips": float(np.mean(references))}
