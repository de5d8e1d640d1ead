"""The numbers behind the figures say what they should on made-up photos; the figures are drawn from a tiny network."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from eval.confidence import calibration, confidence_bins, correlations, risk_coverage, scale_numbers
from eval.paper_figures import by_domain, figure_8, main
from sgenet_hf import SGENetConfig, SGENetModel


def test_correlations_equal_scipy():
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    confidence, texture = rng.random(50), rng.random(50)
    error = 0.3 * texture - 0.2 * confidence + 0.1 * rng.random(50)
    found = correlations(confidence, error, texture)
    assert found["pearson"] == pytest.approx(stats.pearsonr(confidence, error).statistic, rel=1e-9)
    assert found["spearman"] == pytest.approx(stats.spearmanr(confidence, error).statistic, rel=1e-9)
    residuals = [values - np.polyval(np.polyfit(texture, values, 1), texture) for values in (confidence, error)]
    assert found["partial_given_texture"] == pytest.approx(np.corrcoef(*residuals)[0, 1], rel=1e-9)


def test_partial_correlation_sees_through_a_common_cause():
    """Texture makes photos hard and the network unsure; beyond that, confidence knows nothing of the error."""
    pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    texture = rng.random(2000)
    confidence, error = 1 - texture + 0.2 * rng.normal(size=2000), texture + 0.2 * rng.normal(size=2000)
    found = correlations(confidence, error, texture)
    assert found["pearson"] < -0.5 and abs(found["partial_given_texture"]) < 0.1
    with pytest.raises(ValueError, match="three photos"):
        correlations(confidence[:2], error[:2], texture[:2])


def test_risk_falls_with_coverage_where_confidence_is_right():
    error = np.array([0.4, 0.1, 0.3, 0.2])
    right, wrong = risk_coverage(-error, error), risk_coverage(error, error)
    assert right["risk"] == right["best_risk"] == pytest.approx([0.1, 0.15, 0.2, 0.25])
    assert wrong["risk"][0] == 0.4 > wrong["blind_risk"][0] == pytest.approx(0.25)
    assert [right["risk"][-1], wrong["risk"][-1]] == pytest.approx([0.25, 0.25])


def test_calibration_counts_pixels_of_all_photos():
    """Ten pixels at .95 of which nine are right, ten at .55 that are all wrong."""
    first = confidence_bins(np.full(10, 0.95), np.arange(10) > 0)
    second = confidence_bins(np.array([*[0.55] * 9, 1.0]), np.zeros(10, bool))
    facts = calibration([first, second])
    assert facts["pixels"] == 20 and facts["accuracy"] == 0.45
    # The bin of .95 also holds the pixel at 1: confidence 10.5 against 9 right ones; the other bin 4.95 against none.
    assert facts["expected_calibration_error"] == pytest.approx((1.5 + 4.95) / 20)
    assert facts["bin_accuracy"][5] == 0 and facts["bin_accuracy"][9] == pytest.approx(9 / 11)
    assert facts["bin_accuracy"][0] is None
    assert calibration([confidence_bins(np.empty(0), np.empty(0, bool))]) == {}


def test_scale_numbers_are_means_over_photos():
    rows = [{"confidence": [0, 0.1, 0.3, 0.6, 1], "unreliable": [1, 1, 0.5, 0.5, 0]}] * 2
    rows.append({"confidence": [0.3] * 5, "unreliable": [1, 0.4, 0.5, 0.5, 0]})
    numbers = scale_numbers(rows)
    assert numbers["gain_over_the_coarser_scale"] == pytest.approx([0.2 / 3, 0.4 / 3, 0.2, 0.8 / 3])
    assert numbers["share_unreliable"] == pytest.approx([1, 0.8, 0.5, 0.5, 0])
    assert "share_unreliable" not in scale_numbers([{"confidence": [0.5] * 5, "unreliable": None}])


def test_domains_are_never_mixed():
    """Within each domain confidence is wrong about the error; across them it would look right."""
    pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    rows = [
        {"group": f"{domain}/run", "confidence": [sure + n], "hole_l1": hard + n, "true_texture": rng.random()}
        for domain, sure, hard in (("easy", 0.7, 0.1), ("dark", 0.1, 0.7))
        for n in (0.0, 0.05, 0.1, 0.15)
    ]
    apart = {domain: figure_8(own) for domain, own in by_domain(rows).items()}
    assert set(apart) == {"easy", "dark"} and all(own["pearson"] > 0.99 for own in apart.values())
    assert figure_8(rows)["pearson"] < -0.5


def test_the_expected_error_is_judged_beside_the_confidence():
    pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(0)
    error = rng.random(40)
    rows = [
        {"confidence": [rng.random()], "hole_l1": one, "true_texture": rng.random(), "expected_error": 0.1 + one / 2}
        for one in error
    ]
    found = figure_8(rows)["expected_error"]
    assert found["spearman"] == pytest.approx(1) and found["partial_given_texture"] == pytest.approx(1)
    assert found["bias"] == pytest.approx(0.1 - error.mean() / 2)
    assert found["risk_coverage"]["risk"] == pytest.approx(found["risk_coverage"]["best_risk"])


def test_too_few_photos_are_said_before_any_is_filled(tiny_checkpoint, tmp_path):
    with pytest.raises(SystemExit, match="toy:4 train has 2 photos of toy, but correlations need three"):
        few = ["--data", "toy:4", "--split", "train", "--limit", "2"]
        main([str(tiny_checkpoint), *few, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("evaluates", [True, False])
def test_figures_are_drawn(evaluates, tmp_path):
    pytest.importorskip("scipy.stats", reason="scipy is not installed")
    torch.manual_seed(0)
    config = SGENetConfig(
        widths=(4, 8, 8, 16, 16), num_labels=7, confidence_evaluation=evaluates, error_estimation=evaluates
    )
    SGENetModel(config).save_pretrained(tmp_path / "tiny")
    options = ["--data", "toy:4", "--split", "train", "--masks", "centre-24", "--size", "64", "--shown", "2"]
    out = tmp_path / "out"
    assert main([str(tmp_path / "tiny"), *options, "--cell", "32", "--out", str(out)]) == 0
    record = json.loads((out / "figures.json").read_text())
    assert len(record["rows"]) == 4 and ("share_unreliable" in record["figure_6"]) is evaluates
    if evaluates:
        assert record["figure_6"]["share_unreliable"][0] == 1, "Fig. 7: the map at scale 4 is the mask"
    assert all(0 < value <= 1 for value in record["figure_6"]["confidence"])
    assert all((row["expected_error"] is not None) is evaluates for row in record["rows"])
    assert all((figure["expected_error"] is not None) is evaluates for figure in record["figure_8"].values())
    assert Image.open(out / "figure_6_7.png").width >= 7 * 32
    assert Image.open(out / "figure_8.png").getcolors(maxcolors=100000) is not None
    assert (out / "figure_8_expected_error.png").exists() is evaluates
    assert not list(out.glob("*.partial"))
