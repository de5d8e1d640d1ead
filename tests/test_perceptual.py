"""VGG features: layers by name, weights by file, errors with a remedy."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sgenet_hf.perceptual import PAPER_LAYERS, PerceptualFeatures, layer_names, mean_activations


def vgg_file(folder, up_to=9):
    """Random weights for the first convolutions, under torchvision's names."""
    weights, channels_in = {}, 3
    for index, channels in ((0, 64), (2, 64), (5, 128), (7, 128)):
        if index < up_to:
            weights[f"features.{index}.weight"] = torch.randn(channels, channels_in, 3, 3).half() * 0.1
            weights[f"features.{index}.bias"] = torch.zeros(channels).half()
            channels_in = channels
    path = folder / "vgg.safetensors"
    save_file(weights, path)
    return path


def test_the_papers_layers_sit_where_torchvision_has_them():
    network = PerceptualFeatures(PAPER_LAYERS, "vgg16")
    assert list(network.features) == ["0", "2", "5", "7", "10", "12", "14", "17", "19", "21"]
    shapes = [feature.shape for feature in network(torch.rand(1, 3, 32, 32))]
    assert shapes == [(1, 128, 16, 16), (1, 256, 8, 8), (1, 512, 4, 4)]
    assert layer_names("vgg19").index("relu3_4") == 7


def test_weights_come_from_a_file_and_stay_frozen(tmp_path):
    network = PerceptualFeatures.from_weights(str(vgg_file(tmp_path)), ("relu1_2", "relu2_2"), "vgg19")
    assert not any(parameter.requires_grad for parameter in network.parameters())
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    features = network(image)
    sum(feature.sum() for feature in features).backward()
    assert image.grad.abs().max() > 0
    halved = PerceptualFeatures.from_weights(
        str(vgg_file(tmp_path)), ("relu1_2", "relu2_2"), "vgg19", scales={"relu1_2": 2.0, "relu2_2": 1.0}
    )
    assert halved.divisors == [2.0, 1.0]


def test_input_is_normalised_as_imagenet_wants_it():
    network = PerceptualFeatures(("relu1_1",), "vgg16")
    with torch.no_grad():
        network.features["0"].weight.zero_()
        for channel in range(3):
            network.features["0"].weight[channel, channel, 1, 1] = 1
        network.features["0"].bias.zero_()
        white = network(torch.ones(1, 3, 4, 4))[0]
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(white[0, :3, 1, 1], expected)


def test_errors_name_the_remedy(tmp_path):
    with pytest.raises(ValueError, match="it has relu1_1"):
        PerceptualFeatures(("relu9_9",))
    with pytest.raises(ValueError, match="choose one of vgg16, vgg19"):
        PerceptualFeatures(architecture="vgg11")
    with pytest.raises(FileNotFoundError, match="Hub id"):
        PerceptualFeatures.from_weights(str(tmp_path / "none.safetensors"))
    with pytest.raises(ValueError, match="lacks features.5.bias"):
        PerceptualFeatures.from_weights(str(vgg_file(tmp_path, up_to=3)), ("relu2_2",))
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 4)
    with pytest.raises(ValueError, match="damaged"):
        PerceptualFeatures.from_weights(str(tmp_path / "broken.safetensors"))


def test_the_vgg_file_has_the_activations_that_its_description_says(test_data_folder):
    """Its table of mean activations, measured again on other photos, within a factor of two."""
    name = "vgg19_rgb_imagenetnorm_conv1_1-conv3_4"
    path = test_data_folder / "weights" / f"{name}_fp16.safetensors"
    described = json.loads((path.parent / f"{name}.json").read_text())["mean_activation_per_layer_60_photos_192px"]
    layers = ("relu1_2", "relu2_2", "relu3_4")
    network = PerceptualFeatures.from_weights(str(path), layers, "vgg19")
    photos = sorted((test_data_folder / "photos").glob("*.jpg"))[:4]
    images = [np.asarray(Image.open(photo).convert("RGB").resize((192, 192)), np.float32) for photo in photos]
    with torch.no_grad():
        features = network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1)
    for layer, feature in zip(layers, features, strict=True):
        assert 0.5 < feature.mean().item() / described[layer] < 2


def test_measured_means_bring_every_layer_to_one():
    torch.manual_seed(0)
    network = PerceptualFeatures(("relu1_2", "relu2_2"), "vgg16", {"relu1_2": 3.0, "relu2_2": 0.5})
    photos = [torch.rand(1, 3, 16, 16) * 2 - 1 for _ in range(3)]
    means = mean_activations(network, photos)
    network.divisors = [means[layer] for layer in network.layers]
    for layer in zip(*(network(photo) for photo in photos), strict=True):
        assert torch.stack([maps.mean() for maps in layer]).mean() == pytest.approx(1, rel=1e-4)


def test_weights_that_are_nowhere_are_said_to_be(monkeypatch):
    with pytest.raises(FileNotFoundError, match="No VGG weights could be had from the Hub as no/such"):
        PerceptualFeatures.from_weights("no/such")
