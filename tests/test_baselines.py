"""The systems that the paper compares with: each one's own idea at work, the shared interface, and their training."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoImageProcessor, AutoModel, AutoModelForImageToImage

from eval.systems import load_system
from sgenet_hf import (
    CheckpointError,
    EdgeConnectConfig,
    EdgeConnectModel,
    GatedConvConfig,
    GatedConvModel,
    SGENetConfig,
    SGENetImageProcessor,
    SGENetModel,
    SPGNetConfig,
    SPGNetModel,
    load_model,
)
from sgenet_hf.baseline_edgeconnect import canny_edges
from sgenet_hf.baseline_gatedconv import ContextualAttention, GatedConvolution, propagate
from sgenet_hf.baseline_trainers import TRAINERS, EdgeConnectTrainer, GatedConvTrainer
from sgenet_hf.trainer import load_whole
from sgenet_hf.training_arguments import parse_arguments
from train_accelerate import main


SYSTEMS = ("gatedconv", "edgeconnect", "spgnet")


@pytest.fixture(autouse=True)
def _scikit_image():
    pytest.importorskip("skimage", reason="scikit-image is not installed")


def tiny(system: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if system == "gatedconv":
        return GatedConvModel(GatedConvConfig(width=8)).eval()
    if system == "edgeconnect":
        return EdgeConnectModel(EdgeConnectConfig(width=4, num_blocks=1)).eval()
    return SPGNetModel(SPGNetConfig(width=4, num_blocks=1, num_labels=4)).eval()


def photo_and_hole(height=64, width=64):
    photo = torch.rand(2, 3, height, width) * 2 - 1
    hole = torch.zeros(2, 1, height, width)
    hole[..., height // 4 : -(-height // 2), width // 4 : -(-3 * width // 4)] = 1
    return photo, hole


# The shared interface -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(65, 97), (7, 13), (1, 1)])
@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_any_size_keeps_known_pixels_and_never_reads_the_hole(system, size):
    model, (photo, hole) = tiny(system), photo_and_hole(*size)
    known = (hole == 0).expand_as(photo)
    assert not known.all()
    output = model(photo, hole)
    assert output.loss is None and output.composite.shape == photo.shape
    assert torch.equal(output.composite[known], photo[known])
    assert all(image.shape == photo.shape for image in output.images)
    assert torch.equal(output.composite[~known], output.images[-1][~known])
    poisoned = model(photo.masked_fill(~known, torch.nan), hole)
    assert torch.equal(poisoned.composite, output.composite)
    assert isinstance(model(photo, hole, return_dict=False), tuple)


@pytest.mark.parametrize("system", SYSTEMS)
def test_bad_inputs_name_the_shape_that_fits(system):
    photo, hole = photo_and_hole()
    with pytest.raises(ValueError, match=r"`mask` must have shape \(2, 1, 64, 64\)"):
        tiny(system)(photo, hole[:, 0])


@pytest.mark.parametrize("system", SYSTEMS)
@torch.no_grad()
def test_auto_classes_load_what_was_saved_bit_for_bit(system, tmp_path):
    model, (photo, hole) = tiny(system), photo_and_hole()
    model.save_pretrained(tmp_path)
    SGENetImageProcessor().save_pretrained(tmp_path)
    for auto in (AutoModel, AutoModelForImageToImage, type(model)):
        loaded = auto.from_pretrained(tmp_path)
        assert type(loaded) is type(model) and loaded.config.id2label == model.config.id2label
        assert loaded.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(loaded(photo, hole).composite, model(photo, hole).composite)
    assert isinstance(AutoImageProcessor.from_pretrained(tmp_path), SGENetImageProcessor)

    (tmp_path / "config.json").unlink()
    with pytest.raises(OSError):
        type(model).from_pretrained(tmp_path)


@pytest.mark.slow
def test_the_code_travels_with_the_weights(tmp_path):
    """A process that never heard of this package fills a hole."""
    tiny("spgnet").save_pretrained(tmp_path / "model")
    code = (
        "import sys, torch\nfrom transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path / 'model')!r}, trust_remote_code=True)\n"
        "assert 'sgenet_hf' not in sys.modules\n"
        "print(tuple(model(torch.zeros(1, 3, 9, 9), torch.ones(1, 1, 9, 9)).composite.shape))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "(1, 3, 9, 9)" in result.stdout, result.stderr[-2000:]


@pytest.mark.parametrize("system", SYSTEMS)
def test_evaluation_runs_the_folder_with_labels_only_where_there_are_some(system, tmp_path):
    tiny(system).save_pretrained(tmp_path)
    loaded = load_system(f"name={tmp_path}")
    photo = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    mask = np.zeros((40, 50), bool)
    mask[10:20, 10:20] = True
    filled = loaded.fill(photo, np.zeros((40, 50), np.int64), mask)
    assert np.array_equal(filled.image[~mask], photo[~mask]) and not np.array_equal(filled.image, photo)
    if system == "spgnet":
        assert loaded.num_labels == 4 and filled.labels.shape == (40, 50)
        assert load_system(f"oracle:{tmp_path}").fill(photo, np.zeros((40, 50), np.int64), mask).image is not None
    else:
        assert loaded.num_labels is None and filled.labels is None
        with pytest.raises(ValueError, match="no oracle"):
            load_system(f"oracle:{tmp_path}")
    assert type(load_model(tmp_path)) is type(AutoModel.from_pretrained(tmp_path))
    with pytest.raises(CheckpointError, match="model type 'sgenet'"):
        load_model(tmp_path, network=SGENetModel)  # what SGE-Net's own tools expect


def gigaflops(model: torch.nn.Module) -> float:
    photo, hole = photo_and_hole(256, 256)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(photo[:1], hole[:1])
    return counter.get_total_flops() / 1e9


def test_matched_presets_cost_as_much_as_the_small_sge_net():
    ours = gigaflops(SGENetModel(SGENetConfig.small(num_labels=11)))
    theirs = {
        "gatedconv": gigaflops(GatedConvModel(GatedConvConfig.matched())),
        "edgeconnect": gigaflops(EdgeConnectModel(EdgeConnectConfig.matched())),
        "spgnet": gigaflops(SPGNetModel(SPGNetConfig.matched(num_labels=11))),
    }
    for system, count in theirs.items():
        assert abs(count / ours - 1) < 0.05, f"{system}: {count:.2f} against {ours:.2f} GFLOP"


def test_published_presets_have_the_published_number_of_parameters():
    """Counted on the authors' networks, and for SPG-Net on a re-implementation with 35 classes, which also reads 35
    label planes in SP-Net and learns its norms."""
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in model.parameters())
            for model in (
                GatedConvModel(GatedConvConfig.published()),
                EdgeConnectModel(EdgeConnectConfig.published()),
                SPGNetModel(SPGNetConfig.published(num_labels=35)),
            )
        ]
    assert counts[0] == 4_052_478
    assert counts[1] == pytest.approx(21.54e6, rel=0.001)
    assert counts[2] == pytest.approx(96.22e6, rel=0.003)


# GatedConv ----------------------------------------------------------------------------------------------------------


def test_gates_learn_to_close_on_holes_so_that_what_is_in_them_does_not_leak():
    """One layer is taught to let the photo through and nothing of a noisy hole; a plain convolution cannot."""
    hole = torch.zeros(4, 1, 16, 16)
    hole[..., 4:12, 4:12] = 1

    def with_noisy_hole(photo):
        return torch.cat([torch.where(hole > 0, 3 * torch.randn_like(photo), photo), hole], dim=1)

    errors = {}
    gated, plain = GatedConvolution(2, 1), torch.nn.Conv2d(2, 1, 3, padding=1)
    for name, layer in (("gated", gated), ("plain", plain)):
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
        for _ in range(200):
            photo = torch.rand(4, 1, 16, 16) + 1
            loss = (layer(with_noisy_hole(photo)) - photo * (1 - hole)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[name] = loss.item()
    assert errors["gated"] < 0.5 * errors["plain"]
    gates = gated.convolution(with_noisy_hole(photo))[:, 1:].sigmoid()
    assert gates[hole > 0].mean() < 0.2 < 0.4 < gates[hole == 0].mean()


@torch.no_grad()
def test_attention_borrows_the_right_patch():
    """The hole holds a dim copy of one known place: attention puts that very place there."""
    torch.manual_seed(3)
    hidden_states, hole = torch.randn(1, 8, 32, 32), torch.zeros(1, 1, 32, 32)
    hole[..., 4:12, 4:12] = 1
    source = hidden_states[..., 20:28, 18:26].clone()
    hidden_states[..., 4:12, 4:12] = 0.3 * source  # cosine does not mind
    attention = ContextualAttention(softmax_scale=10.0)
    filled = attention(hidden_states, hole)
    torch.testing.assert_close(filled[..., 7:9, 7:9], source[..., 3:5, 3:5])

    hidden_states[..., 21:27:2, 19:26:2] += 5  # details between the matched cells travel too
    changed = attention(hidden_states, hole)
    torch.testing.assert_close(changed[..., 7:9, 7:9], hidden_states[..., 23:25, 21:23])


@torch.no_grad()
def test_attention_never_borrows_from_a_hole():
    hidden_states, hole = torch.randn(2, 4, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[0, :, :8] = 1  # the second photo is whole, and its neighbour's hole is none of its business
    attention = ContextualAttention(softmax_scale=10.0)
    before = attention(hidden_states, hole)
    marked = hidden_states.clone()
    # Rows 1, 3, ... are not looked at when patches are matched: marks there show what is pasted.
    marked[0, :, 1:8:2] += 1000
    marked[1, :, 1:8:2] += 1000
    after = attention(marked, hole)
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1
    assert attention(hidden_states, torch.ones_like(hole)).abs().max() == 0


def test_propagation_adds_shifted_neighbours_and_does_not_wrap():
    scores = torch.zeros(1, 9, 9)
    scores[0, 4, 0] = 1  # the middle of 3x3 looks like the top left corner
    spread = propagate(scores, (3, 3)).view(3, 3, 3, 3)
    found = {tuple(place) for place in spread.nonzero().tolist()}
    assert found == {(1 + r, 1 + c, r, c) for r in (0, 1) for c in (0, 1)}


# EdgeConnect --------------------------------------------------------------------------------------------------------


def test_edges_steer_the_fill():
    """Dark on the left, light on the right, and only an edge says where in the hole the one becomes the other."""
    model = EdgeConnectModel(EdgeConnectConfig(width=8, num_blocks=1))
    optimizer = torch.optim.Adam(model.completion_generator.parameters(), lr=0.01)
    hole, columns = torch.zeros(2, 1, 64, 64), torch.arange(64)
    hole[..., 16:48] = 1

    def photos_and_edges(borders):
        photos = torch.stack([torch.where(columns < border, -0.8, 0.8).expand(3, 64, 64) for border in borders])
        edges = torch.stack([(columns == border).float().expand(1, 64, 64) for border in borders])
        return photos, torch.where(hole > 0, edges, -1.0)

    for _ in range(40):
        photos, edges = photos_and_edges(torch.randint(20, 44, (2,)).tolist())
        loss = (model(photos, hole, edges).images[-1] - photos).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    photos, edges = photos_and_edges([24, 40])
    with torch.no_grad():
        output = model.eval()(photos[:1].expand(2, 3, 64, 64), hole, edges)
        undecided = model(photos, hole, edge_prompt=torch.full_like(hole, -1))
        assert torch.equal(undecided.composite, model(photos, hole).composite)
    assert torch.equal(output.edges[hole > 0], edges[hole > 0])
    between = output.composite[..., 26:38].mean(dim=(1, 2, 3))
    assert between[0] > 0.4 and between[1] < -0.4


@torch.no_grad()
def test_the_completion_sees_true_edges_outside_and_predicted_ones_inside():
    model = tiny("edgeconnect")
    photo, hole = torch.full((1, 3, 64, 64), -1.0), torch.zeros(1, 1, 64, 64)
    photo[..., 30:] = 1  # one edge, from top to bottom
    hole[..., 20:40, 20:40] = 1
    output = model(photo, hole)
    inside = hole > 0
    assert torch.equal(output.edges[inside], output.predicted_edges[inside])
    assert set(output.edges[~inside].tolist()) == {0.0, 1.0}
    assert output.edges[0, 0, :15, 28:32].sum() >= 15 and output.edges[0, 0, :, :15].sum() == 0
    whole = canny_edges(photo, torch.ones_like(hole), model.config.sigma)
    assert whole[0, 0, 20:40, 28:32].sum() >= 20, "a photo without a hole shows the edge everywhere"
    # Filling holes with white must not draw an outline around them.
    assert output.edges[0, 0, 16:44, 12:17].sum() == 0


def test_without_scikit_image_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        tiny("edgeconnect")(*photo_and_hole())


# SPG-Net ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_stage_two_depends_on_the_labels_of_stage_one():
    model, (photo, hole) = tiny("spgnet"), photo_and_hole()
    output = model(photo, hole)
    assert output.logits[-1].shape == (2, 4, 64, 64)
    assert torch.equal(output.labels, output.logits[-1].argmax(dim=1))
    assert len(output.labels.unique()) > 1
    model.prediction.head.bias[3] += 1000  # now stage one says 3 everywhere
    other = model(photo, hole)
    assert other.labels.unique().tolist() == [3]
    assert (other.images[-1] - output.images[-1]).abs().mean() > 1e-3
    prompted = model(photo, hole, torch.where(hole[:, 0] > 0, output.labels, -1))
    inside = hole[:, 0] > 0
    assert torch.equal(prompted.labels[inside], output.labels[inside]) and (prompted.labels[~inside] == 3).all()
    told = model(photo, hole, output.labels)
    assert torch.equal(told.images[-1], output.images[-1]), "labels are all that stage two takes from stage one"


# Training -----------------------------------------------------------------------------------------------------------


TINY_RUN = """
dataset: toy:4
crop_size: 64
resize_shorter: 64
mask_mix: [boxes=1]
preset: matched
width: 4
adversarial_weight: 0.1
adversarial_start: 0
feature_matching_weight: 1.0
discriminator_width: 4
batch_size: 2
warmup_samples: 1
decay_share: 0
learning_rate: 5.0e-3
ema_half_life_samples: 2
total_samples: 4
log_every_samples: 2
save_every_samples: 2
validation_split: dev
validation_samples: 1
validate_every_samples: 4
validation_mask: centre-24
cpu: true
"""


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_trains_every_system_and_resumes_it_exactly(system, tmp_path):
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(TINY_RUN)
    (tmp_path / "child.yaml").write_text(f"extends: tiny.yaml\nsystem: {system}\n")
    options = [str(tmp_path / "child.yaml"), "--output_dir", str(tmp_path / "run")]
    main(options)
    kind, final = type(tiny(system)), tmp_path / "run" / "final"
    unbroken = kind.from_pretrained(final).state_dict()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"loss", "reconstruction", "adversarial", "discriminator"} <= lines[0].keys()
    assert "validation_hole_psnr" in lines[-1]
    assert ("segmentation" in lines[0]) == ("validation_hole_accuracy" in lines[-1]) == (system == "spgnet")
    assert ("edge_adversarial" in lines[0]) == (system == "edgeconnect")

    # The second half again, from the checkpoint in the middle.
    last = tmp_path / "run" / "checkpoints" / "samples-000000004"
    last.rename(tmp_path / "unused")
    middle = kind.from_pretrained(last.parent / "samples-000000002" / "averaged").state_dict()
    assert any(not torch.equal(value, unbroken[name]) for name, value in middle.items())
    main([*options, "--resume", "latest"])
    resumed = kind.from_pretrained(final).state_dict()
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())
    with pytest.raises(ValueError, match="width changed"):
        main([*options, "--resume", "latest", "--width", "8"])


@pytest.mark.parametrize("system", SYSTEMS)
def test_steps_on_one_batch_lower_its_loss(system, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    options = ["--system", system, "--output_dir", str(tmp_path), "--width", "8"]
    arguments = parse_arguments([str(tmp_path / "tiny.yaml"), *options])
    torch.manual_seed(0)
    trainer = TRAINERS[system](arguments, Accelerator(cpu=True))
    photo, hole = photo_and_hole()
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 30:] = 1
    labels[:, :4] = 255
    batch = {"pixel_values": photo / 4 + 0.5, "mask": hole, "labels": labels, "has_labels": torch.ones(2)}
    batch["semantic_prompt"] = torch.full((2, 64, 64), 2)  # prompts are SGE-Net's own: they must not matter
    steps = [trainer.train_step(batch) for _ in range(12)]
    for name in ("reconstruction", "segmentation") if system == "spgnet" else ("reconstruction",):
        assert steps[-1][name] < 0.7 * steps[0][name], [step[name] for step in steps]
    assert steps[0]["discriminator"] != steps[-1]["discriminator"]


@pytest.mark.parametrize("system", ["edgeconnect", "spgnet"])
def test_the_second_stage_sees_the_truth_first_and_then_the_first_stages_word(system, tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    arguments = parse_arguments([str(tmp_path / "tiny.yaml"), "--system", system, "--output_dir", str(tmp_path)])
    trainer = TRAINERS[system](arguments, Accelerator(cpu=True))
    photo, hole = photo_and_hole()
    labels = torch.full((2, 64, 64), 3)
    labels[:, 30:] = 255  # nobody labelled it: there the network's own word counts from the start
    batch = {"pixel_values": photo, "mask": hole, "labels": labels, "has_labels": torch.ones(2)}
    batch = trainer.prepare(batch | {"semantic_prompt": torch.full_like(labels, -1)})
    inside = hole > 0
    first = trainer.run_generator(batch)
    trainer.progress.samples = arguments.run.total_samples // 2
    second = trainer.run_generator(batch)
    if system == "edgeconnect":
        assert torch.equal(first.edges[inside], batch["edges"][inside])
        assert torch.equal(second.edges[inside], second.predicted_edges[inside])
        second.images[-1].mean().backward()
        assert trainer.generator.edge_generator.head.weight.grad.abs().max() > 0, "the second half is end to end"
    else:
        own = first.logits[-1].argmax(dim=1)
        assert (first.labels[:, :30] == 3).all() and torch.equal(first.labels[:, 30:], own[:, 30:])
        assert torch.equal(second.labels, second.logits[-1].argmax(dim=1))


def test_discriminators_load_as_they_were_saved(tmp_path):
    photo, hole = photo_and_hole()
    for kind, planes in ((GatedConvTrainer, photo), (EdgeConnectTrainer, torch.cat([photo, photo], dim=1))):
        network = kind.discriminator_kind(kind.discriminator_kind.config_class(width=4)).eval()
        network.save_pretrained(tmp_path)
        loaded = load_whole(type(network), tmp_path)
        logits, features = network(planes, hole)
        assert len(logits) == len(features) == (2 if kind is EdgeConnectTrainer else 1)
        assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    with torch.device("meta"):
        published = GatedConvTrainer.discriminator_kind(GatedConvTrainer.discriminator_kind.config_class())
    assert sum(parameter.numel() for parameter in published.parameters()) == 5_946_816


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--system", "gatedconv"], "gatedconv has no preset small: choose matched or published"),
        (["--preset", "matched"], "sgenet has no preset matched"),
        (["--width", "8"], "width is no option of sgenet"),
        (["--system", "spgnet", "--preset", "matched", "--tau_reading", "max"], "tau_reading is no option of spgnet"),
        (["--system", "edgeconnect", "--preset", "matched"], "give both adversarial weights"),
        (
            ["--system", "gatedconv", "--preset", "matched", "--push_to_hub", "me/mine", "--license_file", "LICENSE"],
            "publish other systems with model.push_to_hub",
        ),
    ],
)
def test_options_that_do_not_fit_the_system_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--dataset", "toy:8", "--output_dir", "x", *options])
