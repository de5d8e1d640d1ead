"""VGG features for the perceptual term of Eq. 7. The weights come from a Hub id or a file; torchvision is not needed.

The paper takes relu2_2, relu3_3 and relu4_3 of VGG-16. The network stays outside the `PreTrainedModel`: it is frozen,
not ours, and not part of any checkpoint.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn


# Convolutions per block of the ImageNet configurations D and E of Simonyan and Zisserman; channels double per block.
CONVOLUTIONS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
CHANNELS = (64, 128, 256, 512, 512)
PAPER_LAYERS = ("relu2_2", "relu3_3", "relu4_3")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualFeatures(nn.Module):
    """The ReLU outputs of chosen VGG layers, each divided by `scales` so that no layer drowns the others.

    Args:
        layers: Names such as `relu3_3`, shallow to deep.
        architecture: `vgg16` or `vgg19`.
        scales: Divisor per layer; 1 each if not given. Weights of other origins differ in scale by orders of
            magnitude, so a loss weight only means something together with these.

    Raises:
        ValueError: If a layer does not exist in the architecture.
    """

    def __init__(
        self,
        layers: tuple[str, ...] = PAPER_LAYERS,
        architecture: str = "vgg16",
        scales: dict[str, float] | None = None,
    ):
        super().__init__()
        names = layer_names(architecture)
        unknown = [layer for layer in layers if layer not in names]
        if unknown:
            raise ValueError(f"{architecture} has no layer {', '.join(unknown)}; it has {', '.join(names)}.")
        self.layers = tuple(layers)
        self.divisors = [1.0 if scales is None else scales[layer] for layer in layers]
        self.features = nn.ModuleDict()  # torchvision's numbering, so that its weights load by name
        self.plan: list[tuple[str, str]] = []  # (index, layer name or "pool")
        channels_in, index = 3, 0
        deepest = max(names.index(layer) for layer in layers)
        for block, count in enumerate(CONVOLUTIONS[architecture]):
            for position in range(count):
                name = f"relu{block + 1}_{position + 1}"
                if names.index(name) > deepest:
                    break
                self.features[str(index)] = nn.Conv2d(channels_in, CHANNELS[block], 3, padding=1)
                self.plan.append((str(index), name))
                channels_in, index = CHANNELS[block], index + 2  # a ReLU has a number of its own
            self.plan.append((str(index), "pool"))
            index += 1
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])
        self.requires_grad_(False).eval()

    @classmethod
    def from_weights(
        cls,
        name_or_path: str,
        layers: tuple[str, ...] = PAPER_LAYERS,
        architecture: str = "vgg16",
        scales: dict[str, float] | None = None,
    ) -> "PerceptualFeatures":
        """Loads ImageNet weights with torchvision's key names (`features.0.weight`, ...).

        Args:
            name_or_path: A `.safetensors` file, or a Hub id whose `model.safetensors` has those keys, for example
                `timm/vgg16.tv_in1k`.
            layers, architecture, scales: As in the constructor.

        Raises:
            FileNotFoundError: If the file does not exist, or not on the Hub.
            ValueError: If the file is damaged or lacks a convolution.
        """
        path = Path(name_or_path)
        if path.suffix == ".safetensors" and not path.is_file():
            raise FileNotFoundError(f"No VGG weights at {path}; give a .safetensors file or a Hub id.")
        if not path.is_file():
            try:
                path = Path(hf_hub_download(name_or_path, "model.safetensors"))
            except (OSError, HFValidationError) as error:
                raise FileNotFoundError(
                    f"No VGG weights could be had from the Hub as {name_or_path} ({error}): give a file or an id."
                ) from error
        try:
            stored = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); fetch it again.") from error
        network = cls(layers, architecture, scales)
        wanted = {name for name, _ in network.named_parameters()}
        missing = sorted(wanted - stored.keys())
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}: it does not hold {architecture} up to {layers[-1]}.")
        network.load_state_dict({name: stored[name].float() for name in wanted}, strict=False)
        return network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features of RGB images in [-1, 1], shape (B, 3, H, W), one (B, C, h, w) per layer."""
        hidden_states = (image * 0.5 + 0.5 - self.mean) / self.std
        collected = {}
        for index, name in self.plan:
            if name == "pool":
                if len(collected) == len(self.layers):
                    break
                hidden_states = nn.functional.max_pool2d(hidden_states, 2)
                continue
            hidden_states = nn.functional.relu(self.features[index](hidden_states))
            if name in self.layers:
                collected[name] = hidden_states
        return tuple(collected[layer] / divisor for layer, divisor in zip(self.layers, self.divisors, strict=True))


def mean_activations(network: PerceptualFeatures, images: Iterable[torch.Tensor]) -> dict[str, float]:
    """The mean of each layer over RGB images in [-1, 1], (B, 3, H, W) each, undivided: what `scales` are made of."""
    sums = torch.zeros(len(network.layers), dtype=torch.float64)
    count = 0
    with torch.no_grad():
        for image in images:
            means = [
                layer.float().mean() * divisor for layer, divisor in zip(network(image), network.divisors, strict=True)
            ]
            sums += torch.stack(means).cpu().double() * len(image)  # some GPUs know no float64
            count += len(image)
    return dict(zip(network.layers, (sums / count).tolist(), strict=True))


def layer_names(architecture: str) -> list[str]:
    """All ReLU layers of `vgg16` or `vgg19`, shallow to deep.

    Raises:
        ValueError: If the architecture is another.
    """
    if architecture not in CONVOLUTIONS:
        raise ValueError(f"Unknown architecture {architecture!r}; choose one of {', '.join(CONVOLUTIONS)}.")
    counts = CONVOLUTIONS[architecture]
    return [f"relu{block + 1}_{position + 1}" for block, count in enumerate(counts) for position in range(count)]
