"""The metrics agree with well-known implementations, tell good from bad, and load offline through `evaluate`."""

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_network import save_tiny_feature_network

from eval.metrics.feature_distance.feature_distance import FeatureNetwork, frechet_distance
from eval.metrics.l1.l1 import l1
from eval.metrics.mean_iou.mean_iou import class_iou, confusion_matrix, mean_iou
from eval.metrics.psnr.psnr import MAX_DECIBEL, psnr
from eval.metrics.sharpness_ratio.sharpness_ratio import gradient_sum, sharpness_ratio
from eval.metrics.ssim.ssim import ssim
from sgenet_hf.validation import gradient_sum as gradient_sum_while_training


METRICS = Path(__file__).resolve().parent.parent / "eval" / "metrics"


@pytest.fixture
def photos() -> tuple[np.ndarray, np.ndarray]:
    """A smooth photo with detail, and a noisy copy; 60x80, uint8."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:60, 0:80]
    planes = [120 + 60 * np.sin(rows / 7 + shift) + 40 * np.cos(columns / 5 - shift) for shift in (0, 1, 2)]
    truth = np.stack(planes, axis=-1).clip(0, 255).astype(np.uint8)
    noisy = (truth + rng.normal(0, 12, truth.shape)).clip(0, 255).astype(np.uint8)
    return noisy, truth


@pytest.fixture
def hole() -> np.ndarray:
    mask = np.zeros((60, 80), dtype=bool)
    mask[20:45, 30:60] = True
    return mask


def test_psnr_equals_scikit_image(photos):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy, truth = photos
    assert psnr(noisy, truth) == pytest.approx(metrics.peak_signal_noise_ratio(truth, noisy), rel=1e-4)


def test_psnr_of_the_hole_reads_only_the_hole(photos, hole):
    noisy, truth = photos
    composite = np.where(hole[..., None], noisy, truth)
    squared_error = (noisy[hole].astype(float) - truth[hole]) ** 2
    assert psnr(composite, truth, hole) == pytest.approx(10 * np.log10(255**2 / squared_error.mean()), rel=1e-12)
    assert psnr(composite, truth, hole) == psnr(noisy, truth, hole)
    assert psnr(composite, truth) > psnr(composite, truth, hole)


def test_psnr_of_equal_photos_is_finite(photos):
    assert psnr(photos[1], photos[1]) == pytest.approx(MAX_DECIBEL)


def test_ssim_equals_scikit_image(photos, hole):
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    noisy, truth = photos
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected, full = metrics.structural_similarity(truth, noisy, channel_axis=2, data_range=255, full=True, **settings)
    assert ssim(noisy, truth) == pytest.approx(expected, rel=1e-4)
    assert ssim(noisy, truth, hole) == pytest.approx(full.mean(axis=2)[hole].mean(), rel=1e-4)


def test_l1_is_a_share_of_the_range(hole):
    black, white = np.zeros((60, 80, 3), np.uint8), np.full((60, 80, 3), 255, np.uint8)
    half = black.copy()
    half[hole] = 255
    assert l1(black, white) == 1
    assert l1(half, black, hole) == 1
    assert l1(half, black) == pytest.approx(hole.mean())


def test_good_fills_beat_bad_ones(photos, hole):
    noisy, truth = photos
    grey = np.where(hole[..., None], np.uint8(128), truth)
    close = np.where(hole[..., None], noisy, truth)
    assert psnr(close, truth, hole) > psnr(grey, truth, hole)
    assert ssim(close, truth, hole) > ssim(grey, truth, hole)
    assert l1(close, truth, hole) < l1(grey, truth, hole)


def test_sharpness_tells_fog_from_noise(photos, hole):
    noisy, truth = photos
    fog = np.where(hole[..., None], np.uint8(128), truth)
    assert sharpness_ratio(truth, truth, hole) == 1
    assert sharpness_ratio(fog, truth, hole) == 0, "the seam must not be counted as detail"
    assert sharpness_ratio(noisy, truth, hole) > 1.5


def test_training_watches_the_same_sharpness(photos, hole):
    truth = photos[0]
    watched = gradient_sum_while_training(
        torch.from_numpy(truth).permute(2, 0, 1)[None].float(), torch.from_numpy(hole)[None, None]
    )
    assert watched == pytest.approx(gradient_sum(truth, hole), rel=1e-5)


def test_sharpness_of_a_slope_is_its_steepness(hole):
    slope = np.repeat(np.arange(80, dtype=np.uint8)[None, :, None], 60, axis=0).repeat(3, axis=2)
    assert sharpness_ratio(2 * slope, slope, hole) == pytest.approx(2)


@pytest.mark.parametrize("metric", [psnr, l1, ssim, sharpness_ratio])
def test_wrong_images_are_refused(metric, photos, hole):
    noisy, truth = photos
    with pytest.raises(ValueError, match="uint8"):
        metric(noisy / 255, truth / 255, hole)
    with pytest.raises(ValueError, match=r"mask|hole"):
        metric(noisy, truth, np.zeros_like(hole))


def test_mean_iou_counts_pixels_over_the_set():
    # Class 0 fills one photo, class 1 has one pixel in each; averaging the photos' IoU would give another number.
    first = (np.array([[0, 0, 0, 1]]), np.array([[0, 0, 1, 1]]))
    second = (np.array([[1, 1, 1, 1]]), np.array([[1, 1, 1, 0]]))
    total = sum(confusion_matrix(prediction, truth, num_labels=3) for prediction, truth in (first, second))
    assert class_iou(total)[:2] == pytest.approx([2 / 4, 4 / 6])
    assert np.isnan(class_iou(total)[2]), "a class that is nowhere has no IoU"
    assert mean_iou(total) == pytest.approx((2 / 4 + 4 / 6) / 2)


def test_mean_iou_is_over_the_same_classes_for_every_system():
    truth = np.array([[0, 0, 1, 1]])
    stray = confusion_matrix(np.array([[0, 2, 1, 1]]), truth, num_labels=3)
    wrong = confusion_matrix(np.array([[0, 1, 1, 1]]), truth, num_labels=3)
    assert class_iou(stray) == pytest.approx([1 / 2, 1, 0])
    assert mean_iou(stray) == pytest.approx((1 / 2 + 1) / 2)
    assert mean_iou(wrong) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_mean_iou_skips_void_and_known_pixels():
    truth = np.array([[0, 1, 255, 1]])
    mask = np.array([[True, True, True, False]])
    assert mean_iou(confusion_matrix(np.array([[0, 1, 0, 0]]), truth, 2, mask)) == 1
    assert mean_iou(confusion_matrix(np.array([[0, -1, 0, 0]]), truth, 2, mask)) == 0.5, "no answer is a miss"
    assert np.isnan(mean_iou(confusion_matrix(truth, np.full_like(truth, 255), 2)))
    with pytest.raises(ValueError, match="label 7"):
        confusion_matrix(truth, np.full_like(truth, 7), 2)


def textbook_frechet_distance(features: np.ndarray, reference: np.ndarray) -> float:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is not installed")
    first, second = np.cov(features, rowvar=False), np.cov(reference, rowvar=False)
    root = linalg.sqrtm(first @ second)
    mean = features.mean(axis=0) - reference.mean(axis=0)
    return float(mean @ mean + np.trace(first + second - 2 * root.real))


@pytest.mark.parametrize(("count", "reference_count"), [(200, 200), (200, 150), (17, 200)])
def test_feature_distance_equals_the_textbook_formula(count, reference_count):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(16, 16)) + 4 * np.eye(16)
    features, reference = rng.normal(size=(count, 16)) @ mixing, rng.normal(1, 2, size=(reference_count, 16))
    expected = textbook_frechet_distance(features, reference)
    assert frechet_distance(features, reference) == pytest.approx(expected, rel=1e-6)


def test_feature_distance_of_few_photos():
    # Two photos a set, features on one axis: both covariances have rank 1, so the formula can be written down.
    features, reference = np.zeros((2, 1280)), np.zeros((2, 1280))
    features[:, 5], reference[:, 5] = (0, 2), (3, 9)
    assert frechet_distance(features, reference) == pytest.approx((1 - 6) ** 2 + (np.sqrt(2) - np.sqrt(18)) ** 2)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)


def test_feature_distance_grows_with_damage():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 100))
    noise = rng.normal(size=truth.shape)
    assert frechet_distance(truth + 0.1 * noise, truth) < frechet_distance(truth + noise, truth)
    with pytest.raises(ValueError, match="two photos"):
        frechet_distance(truth[:1], truth)


def test_feature_network_pools_one_vector_a_photo(tmp_path, photos):
    network = FeatureNetwork(str(save_tiny_feature_network(tmp_path)))
    features = network(list(photos))
    width = network.model.conv_1x1.convolution.out_channels
    assert network.distance_name == "FD-mobilenet_v2"
    assert features.shape == (2, width)
    assert features.dtype == np.float64
    assert not np.allclose(features[0], features[1])
    np.testing.assert_allclose(network([photos[1]])[0], features[1], rtol=1e-4, atol=1e-5)


def test_feature_network_normalises_as_its_processor_says(tmp_path):
    """A photo of the processor's mean colour must reach the network as zeros."""
    network = FeatureNetwork(str(save_tiny_feature_network(tmp_path)))
    seen = []
    network.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    network([np.full((50, 70, 3), 128, np.uint8)])
    assert seen[0].shape == (1, 3, 224, 224)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], (128 / 255 - 0.5) / 0.25))


@pytest.mark.parametrize("name", ["psnr", "ssim", "l1", "sharpness_ratio", "mean_iou", "feature_distance"])
def test_metrics_load_offline_and_equal_their_pure_functions(name, photos, hole):
    evaluate = pytest.importorskip("evaluate", reason="evaluate is not installed")
    noisy, truth = photos
    metric = evaluate.load(str(METRICS / name))
    pure = {"psnr": psnr, "ssim": ssim, "l1": l1}
    if name == "mean_iou":
        maps = {"predictions": [noisy[..., 0] // 64] * 2, "references": [truth[..., 0] // 64] * 2}
        result = metric.compute(**maps, masks=[hole] * 2, num_labels=4)[name]
        expected = mean_iou(confusion_matrix(noisy[..., 0] // 64, truth[..., 0] // 64, 4, hole))
    elif name == "feature_distance":
        features = noisy[:, :, 0].astype(float), truth[:, :, 0].astype(float)
        result = metric.compute(predictions=features[0], references=features[1])[name]
        expected = frechet_distance(*features)
    elif name == "sharpness_ratio":
        result = metric.compute(predictions=[noisy] * 2, references=[truth] * 2, masks=[hole] * 2)[name]
        expected = sharpness_ratio(noisy, truth, hole)
    else:
        metric.add_batch(predictions=[noisy], references=[truth], masks=[hole])
        metric.add_batch(predictions=[truth], references=[truth], masks=[hole])
        result = metric.compute()[name]
        expected = np.mean([pure[name](noisy, truth, hole), pure[name](truth, truth, hole)])
    assert result == pytest.approx(expected, rel=1e-9)
