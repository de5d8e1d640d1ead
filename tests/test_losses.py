"""Losses: known values, good beats bad, and the means that make two processes equal one."""

import math

import pytest
import torch

from sgenet_hf import losses


@pytest.fixture
def target():
    return torch.rand(2, 3, 32, 48) * 2 - 1


@pytest.fixture
def hole():
    mask = torch.zeros(2, 1, 32, 48)
    mask[0, :, 8:16, 8:24] = 1
    mask[1, :, 8:24, 8:40] = 1
    return mask


def per_sample(function, *batch, **options):
    """The loss of each sample computed alone."""
    rows = [[value[index : index + 1] for value in batch] for index in range(len(batch[0]))]
    return torch.cat([function(*row, **options) for row in rows])


@pytest.mark.parametrize("scale", [0, 2, 4])
def test_reconstruction_is_zero_at_the_truth_and_grows_with_error(target, hole, scale):
    truth = losses.shrink_image(target, scale)
    assert losses.reconstruction_loss(truth, target, hole, scale).abs().max() == 0
    near, far = truth + 0.1, truth + 0.5
    near_loss, far_loss = (losses.reconstruction_loss(image, target, hole, scale) for image in (near, far))
    torch.testing.assert_close(near_loss, torch.full((2,), 0.1))
    assert (near_loss < far_loss).all()


def test_reconstruction_weighs_the_hole_whatever_its_area(target, hole):
    wrong_inside = target + hole
    loss = losses.reconstruction_loss(wrong_inside, target, hole, 0, hole_weight=6)
    torch.testing.assert_close(loss, torch.full((2,), 6 / 7))
    wrong_outside = target + (1 - hole)
    loss = losses.reconstruction_loss(wrong_outside, target, hole, 0, hole_weight=6)
    torch.testing.assert_close(loss, torch.full((2,), 1 / 7))


def test_sizes_that_do_not_divide_shrink_alike():
    planes, labels = torch.rand(1, 3, 33, 47), torch.zeros(1, 33, 47, dtype=torch.long)
    for scale in range(5):
        size = [-(-side // 2**scale) for side in (33, 47)]
        assert list(losses.shrink_image(planes, scale).shape[-2:]) == size
        assert list(losses.shrink_mask(planes[:, :1], scale).shape[-2:]) == size
        assert list(losses.shrink_labels(labels, scale).shape[-2:]) == size


def test_literal_reconstruction_compares_the_enlarged_scale_with_the_truth(target):
    flat = torch.full((2, 3, 2, 3), 0.25)
    loss = losses.reconstruction_loss_literal(flat, torch.zeros_like(target))
    torch.testing.assert_close(loss, torch.full((2,), 0.25))


def test_features_that_agree_cost_nothing_and_style_ignores_where():
    features = (torch.rand(2, 4, 8, 8), torch.rand(2, 8, 4, 4))
    other = tuple(feature + 0.5 for feature in features)
    assert losses.perceptual_loss(features, features).abs().max() == 0
    torch.testing.assert_close(losses.perceptual_loss(features, other), torch.full((2,), 1.0))
    rolled = tuple(feature.roll(1, dims=3) for feature in features)
    assert losses.perceptual_loss(features, rolled).min() > 0
    torch.testing.assert_close(losses.style_loss(features, rolled), torch.zeros(2), atol=1e-6, rtol=0)
    assert losses.style_loss(features, other).min() > 0


@pytest.mark.parametrize("kind", ["hinge", "vanilla", "lsgan", "literal"])
def test_adversarial_losses_reward_the_right_side(kind):
    high, low = (torch.full((2, 1, 4, 4), 3.0),), (torch.full((2, 1, 4, 4), -3.0),)
    assert (losses.discriminator_loss(high, low, kind) < losses.discriminator_loss(low, high, kind)).all()
    assert (losses.adversarial_loss((torch.ones(2, 1, 4, 4),), kind) < losses.adversarial_loss(low, kind)).all()


def test_vanilla_is_equation_8_with_its_slip_mended():
    logits = (torch.tensor([[[[0.7]]]]), torch.tensor([[[[-0.3]]]]))
    sigmoid = torch.sigmoid
    expected = sum(-sigmoid(real).log() - (1 - sigmoid(-real)).log() for real in logits) / 2
    fake = tuple(-real for real in logits)
    torch.testing.assert_close(losses.discriminator_loss(logits, fake, "vanilla"), expected.flatten())


def test_feature_matching_pulls_the_fake_only():
    fake, real = torch.rand(2, 4, 8, 8, requires_grad=True), torch.rand(2, 4, 8, 8, requires_grad=True)
    losses.feature_matching_loss([(fake,)], [(real,)]).sum().backward()
    assert fake.grad is not None and real.grad is None


@pytest.mark.parametrize("scale", [0, 3])
def test_cross_entropy_knows_uniform_right_and_wrong(scale):
    labels = torch.randint(0, 4, (2, 32, 32))
    small = losses.shrink_labels(labels, scale)
    uniform = torch.zeros(2, 4, *small.shape[-2:])
    torch.testing.assert_close(losses.cross_entropy_loss(uniform, labels, scale), torch.full((2,), math.log(4)))
    right = torch.nn.functional.one_hot(small, 4).permute(0, 3, 1, 2) * 10.0
    assert losses.cross_entropy_loss(right, labels, scale).max() < 0.01
    assert losses.cross_entropy_loss(-right, labels, scale).min() > 5


def test_void_is_ignored_and_an_all_void_sample_gives_zero_not_nan():
    labels = torch.full((2, 16, 16), 255)
    labels[0, :8] = 1
    logits = torch.randn(2, 4, 16, 16, requires_grad=True)
    for loss in (losses.cross_entropy_loss(logits, labels, 0), losses.cross_entropy_loss_literal(logits, labels)):
        assert loss[0] > 0 and loss[1] == 0
        gradient = torch.autograd.grad(loss.sum(), logits)[0]
        assert gradient[1].abs().max() == 0 and gradient[0, :, 8:].abs().max() == 0 and gradient.isfinite().all()


def test_literal_adversarial_losses_are_the_printed_game():
    fake, real = (torch.randn(2, 1, 4, 4), torch.randn(2, 1, 2, 2)), (torch.randn(2, 1, 4, 4), torch.randn(2, 1, 2, 2))
    game = sum(  # E[log D(Y)] + E[log(1 - D(fill))], summed over the scales
        r.sigmoid().log().flatten(1).mean(1) + (1 - f.sigmoid()).log().flatten(1).mean(1)
        for r, f in zip(real, fake, strict=True)
    )
    torch.testing.assert_close(losses.discriminator_loss(real, fake, "literal"), -game)
    ours = sum((1 - f.sigmoid()).log().flatten(1).mean(1) for f in fake)
    torch.testing.assert_close(losses.adversarial_loss(fake, "literal"), ours)


def test_balanced_weights_lift_rare_classes_and_keep_the_mean():
    counts = torch.tensor([900, 90, 10, 0])
    weights = losses.balanced_class_weights(counts, 0.5)
    torch.testing.assert_close((weights * counts).sum() / counts.sum(), torch.tensor(1.0))
    torch.testing.assert_close(weights[2] / weights[0], torch.tensor(90.0).sqrt())
    assert weights[3] == 0
    torch.testing.assert_close(losses.balanced_class_weights(counts, 0.0), torch.tensor([1.0, 1, 1, 0]))
    assert losses.balanced_class_weights(torch.tensor([10**6, 1]), 1.0).max() == 20


def test_class_and_pixel_weights_of_cross_entropy():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[..., 4:] = 1
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 5  # right on the left half, wrong on the right half
    plain = losses.cross_entropy_loss(logits, labels, 0)
    assert losses.cross_entropy_loss(logits, labels, 0, class_weights=torch.tensor([1.0, 3.0])) > 2 * plain
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4] = 1
    assert losses.cross_entropy_loss(logits, labels, 0, pixel_weights=left) < 0.01
    ones = losses.cross_entropy_loss(
        logits, labels, 0, class_weights=torch.ones(2), pixel_weights=torch.ones(1, 1, 8, 8)
    )
    torch.testing.assert_close(ones, plain)


def test_prompted_pixels_are_not_trained_on():
    labels, prompt = torch.ones(1, 4, 4, dtype=torch.long), torch.full((1, 4, 4), -1)
    prompt[:, 0] = 1
    assert (losses.without_prompted(labels, prompt)[:, 0] == 255).all()
    assert (losses.without_prompted(labels, prompt)[:, 1:] == 1).all()


def test_every_loss_is_a_mean_per_sample(target, hole):
    """The batch's loss is the mean of its samples' losses, so that two processes with half of it equal one."""
    image, labels = torch.rand_like(target), torch.randint(0, 4, (2, 32, 48))
    logits = torch.randn(2, 4, 32, 48)
    labels[1] = 255
    options = {"scale": 0}
    cases = [
        (losses.reconstruction_loss, (image, target, hole), options),
        (losses.reconstruction_loss_literal, (image, target), {}),
        (losses.cross_entropy_loss, (logits, labels), options),
        (losses.cross_entropy_loss_literal, (logits, labels), {}),
    ]
    for function, batch, keywords in cases:
        torch.testing.assert_close(function(*batch, **keywords), per_sample(function, *batch, **keywords))


def test_equation_10_is_the_weighted_sum():
    terms = {"reconstruction": torch.tensor([1.0, 3.0]), "segmentation": torch.tensor([2.0, 2.0])}
    assert losses.final_loss(terms, {"reconstruction": 1.0, "segmentation": 0.5}) == 3.0
    with pytest.raises(KeyError):
        losses.final_loss(terms, {"reconstruction": 1.0})


def test_expected_errors_are_compared_with_the_mean_error_of_the_judged_pixels():
    error, judged = torch.full((2, 1, 8, 8), 0.9), torch.zeros(2, 1, 8, 8)
    error[0, :, :2, :4] = 0.3
    judged[0, :, :2, :4] = 1  # half of one cell; the other sample has no hole
    expected = torch.full((2, 1, 2, 2), 0.5)
    torch.testing.assert_close(losses.error_estimation_loss(expected, error, judged), torch.tensor([0.04, 0.0]))


def test_a_region_has_the_style_of_its_class_whatever_lies_around_it():
    torch.manual_seed(0)
    texture = (torch.rand(2, 4, 8, 8),)
    fill, where = texture[0].clone(), torch.zeros(2, 1, 16, 16)
    where[:, :, :, :8] = 1
    fill[..., 4:] = 9.0
    half = (texture[0][..., :4].repeat(1, 1, 1, 2),)  # the same statistics as the region
    torch.testing.assert_close(losses.class_style_loss((fill,), half, where), torch.zeros(2), atol=1e-5, rtol=0)
    assert (losses.class_style_loss((fill,), half, torch.ones_like(where)) > 1).all()
    whole = losses.class_style_loss(texture, half, torch.ones_like(where))
    torch.testing.assert_close(whole, losses.style_loss(texture, half))
