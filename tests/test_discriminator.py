"""The multi-scale PatchGAN: its scales, its spectral norm, and its life as a checkpoint."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from sgenet_hf.discriminator import SGENetDiscriminator, SGENetDiscriminatorConfig


@pytest.fixture
def discriminator():
    return SGENetDiscriminator(SGENetDiscriminatorConfig(width=4))


def test_judges_patches_at_three_scales(discriminator):
    logits, features = discriminator(torch.rand(2, 3, 64, 48), torch.zeros(2, 1, 64, 48))
    assert len(logits) == len(features) == 3
    heights = [plane.shape[2] for plane in logits]
    assert heights == sorted(heights, reverse=True) and all(plane.shape[1] == 1 for plane in logits)
    assert all(len(scale) == 4 for scale in features)


def test_sees_the_mask_unless_told_otherwise(discriminator):
    photo, empty, full = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)
    discriminator.eval()
    assert not torch.equal(discriminator(photo, empty)[0][0], discriminator(photo, full)[0][0])
    blind = SGENetDiscriminator(SGENetDiscriminatorConfig(width=4, see_mask=False)).eval()
    assert torch.equal(blind(photo, empty)[0][0], blind(photo, full)[0][0])


def test_spectrally_normalised_weights_start_as_configured_and_end_with_norm_one(discriminator):
    """`init.normal_(conv.weight)` would write to a computed copy and change nothing."""
    layer = discriminator.scales[0].layers[2]
    assert 0.018 < layer.parametrizations.weight.original.std() < 0.022
    for _ in range(30):  # each forward pass is one power iteration
        discriminator(torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.1)


def test_survives_save_and_load_with_its_power_iterations(discriminator, tmp_path):
    photo, mask = torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    discriminator(photo, mask)
    discriminator.save_pretrained(tmp_path)
    loaded = SGENetDiscriminator.from_pretrained(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in discriminator.state_dict().items())
    discriminator.eval()
    torch.testing.assert_close(loaded(photo, mask)[0][0], discriminator(photo, mask)[0][0])


def test_bad_counts_are_refused():
    with pytest.raises(StrictDataclassError, match="positive"):
        SGENetDiscriminatorConfig(num_scales=0)
