"""The training script, run as a user runs it: one process and two, killed and resumed, and with bad arguments."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sgenet_hf import SGENetConfig, SGENetModel, losses
from sgenet_hf.data import DATASET_FILE, DATASETS, collate, dataset_spec, row_features
from sgenet_hf.perceptual import PerceptualFeatures
from sgenet_hf.pipeline import load_model
from sgenet_hf.trainer import (
    Progress,
    Trainer,
    build_generator,
    classes_of,
    commonest_id,
    cut_windows,
    hole_windows,
    learning_rate_factor,
    load_reader,
)
from sgenet_hf.training_arguments import RunArguments, parse_arguments
from sgenet_hf.validation import validate
from train_accelerate import (
    EpochBatches,
    Run,
    Waiting,
    compare_processes,
    endless,
    how_to_go_on,
    load_data,
    main,
    make_loader,
)


ROOT = Path(__file__).resolve().parent.parent
TINY_RUN = """
dataset: toy:24
crop_size: 64
resize_shorter: 64
mask_mix: [boxes=1, free_form=1]
prompt_share: 0.5
noise_channels: 2
error_estimation: true
contextual_attention: true
pasted_weight: 0.5
widths: [4, 8, 8, 16, 16]
adversarial_weight: 0.05
feature_matching_weight: 1.0
adversarial_start: 0.0
discriminator_width: 4
texture_window: 32
batch_size: 2
warmup_samples: 8
ema_half_life_samples: 8
total_samples: 40
log_every_samples: 4
save_every_samples: 12
keep_checkpoints: 100
cpu: true
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_RUN)
    return path


def start(processes: int, recipe: Path, out: Path, *options: str) -> subprocess.Popen:
    """The script in processes of its own, in a process group that can be killed at once."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "train_accelerate.py", str(recipe)]
    return subprocess.Popen(
        [*command, "--output_dir", str(out), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )


def hear_interrupts() -> None:
    """A shell's background jobs, and what these start, would ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run(processes: int, recipe: Path, out: Path, *options: str) -> str:
    """Runs the script to its end and returns what it printed."""
    process = start(processes, recipe, out, *options)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    return text


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return SGENetModel.from_pretrained(folder).state_dict()


def first_moments(checkpoint: Path, name: str) -> list[torch.Tensor]:
    """Adam's first moment after one step is the gradient, but for a factor."""
    state = torch.load(checkpoint / name, weights_only=True)["state"]
    return [values["exp_avg"] for _, values in sorted(state.items())]


def test_an_interrupted_run_says_where_it_would_go_on(recipe, tmp_path):
    process = start(1, recipe, tmp_path / "run", "--total_samples", "100000", "--save_every_samples", "4")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("run/checkpoints/samples-*[0-9]")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in text
    newest = sorted(tmp_path.glob("run/checkpoints/samples-*[0-9]"))[-1].name
    assert f"train_accelerate.py: stopped. `--resume latest` goes on from {newest}." in text


def test_an_interrupted_run_promises_no_more_than_there_is(recipe, tmp_path):
    arguments = [str(recipe), "--output_dir", str(tmp_path / "run")]
    assert how_to_go_on(None) == "Nothing was trained yet."
    begun = Run(parse_arguments(arguments), None, None, None, None, None)
    assert how_to_go_on(begun) == "Nothing was saved yet."
    (tmp_path / "run/checkpoints/samples-000000012").mkdir(parents=True)
    (tmp_path / "run/checkpoints/samples-000000024.partial").mkdir()
    assert how_to_go_on(begun) == "`--resume latest` goes on from samples-000000012."
    stream = Run(parse_arguments([*arguments, "--streaming", "true"]), None, None, None, None, None)
    assert "cannot be resumed" in how_to_go_on(stream)


def test_a_run_killed_in_an_epoch_and_resumed_equals_an_unbroken_one(recipe, tmp_path):
    """Two processes; epochs of 24 samples, checkpoints after 12, 24 and 36: the kill comes in the middle of one."""
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    run(2, recipe, unbroken)

    process = start(2, recipe, broken)
    checkpoint = broken / "checkpoints" / "samples-000000012"
    deadline = time.monotonic() + 200
    while not checkpoint.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for later in checkpoint.parent.glob("*"):  # whatever was saved before the signal arrived
        if later != checkpoint:
            later.rename(broken / f"{later.name}-unused")

    text = run(2, recipe, broken, "--resume", "latest")
    assert "at 12 samples" in text
    for part in ("final", "checkpoints/samples-000000036/generator", "checkpoints/samples-000000036/averaged"):
        expected = weights(unbroken / part)
        assert all(torch.equal(value, expected[name]) for name, value in weights(broken / part).items()), part
    lines = [json.loads(line) for line in (broken / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["samples"] == 40 and "bias_ratio_0" in lines[-1] and "feature_matching" in lines[-1]
    assert not list(broken.glob("checkpoints/*.partial"))


def write_rows(folder: Path, labelled: set[int], classes: tuple[str, ...] | None = None) -> None:
    """Four small scenes as a prepared folder; only some have labels."""
    spec = dataclasses.asdict(DATASETS["toy"])
    if classes is not None:
        spec |= {"classes": classes, "colors": [(0, 0, 0)] * len(classes)}
    rng = np.random.default_rng(0)
    rows = []
    for index in range(4):
        image = Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        label = Image.fromarray(rng.integers(0, 7, (64, 64), dtype=np.uint8)) if index in labelled else None
        rows.append({"image": image, "label": label, "id": str(index), "group": "toy"})
    folder.mkdir()
    (folder / DATASET_FILE).write_text(json.dumps(spec))
    datasets.Dataset.from_list(rows, features=row_features()).to_parquet(folder / "train-00000-of-00001.parquet")


def test_two_processes_with_half_the_batch_give_one_processs_gradients(recipe, tmp_path):
    """Also when only one of the two ranks has labels."""
    order = np.random.default_rng([0, 0]).permutation(4).tolist()
    write_rows(tmp_path / "rows", labelled=set(order[:2]))
    options = ["--dataset", str(tmp_path / "rows"), "--total_samples", "4", "--save_every_samples", "4"]
    run(1, recipe, tmp_path / "one", *options, "--batch_size", "4")
    run(2, recipe, tmp_path / "two", *options, "--batch_size", "2")
    for name in ("optimizer.bin", "optimizer_1.bin"):  # discriminator, generator
        one, two = (first_moments(tmp_path / run / "checkpoints/samples-000000004", name) for run in ("one", "two"))
        assert len(one) == len(two) > 10
        scale = max(moment.abs().max() for moment in one)
        assert scale > 0
        for ours, theirs in zip(one, two, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * scale.item())
    one, two = (json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[0]) for run in ("one", "two"))
    for name in ("loss", "reconstruction", "discriminator", "gradient"):  # means over all processes
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


def test_training_lowers_the_loss_and_refuses_to_overwrite_a_run(recipe, tmp_path):
    out = tmp_path / "run"
    options = [str(recipe), "--output_dir", str(out), "--adversarial_weight", "0", "--total_samples", "160"]
    options += ["--learning_rate", "2e-3", "--validation_split", "dev", "--validation_samples", "2"]
    options += ["--validate_every_samples", "160", "--validation_mask", "centre-24", "--tracker", "tensorboard"]
    main(options)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    assert any("validation_hole_psnr" in line for line in lines)
    assert Image.open(out / "samples" / "000000160.png").width > 1000
    assert SGENetModel.from_pretrained(out / "final").config.id2label[0] == "sky"
    events = EventAccumulator(str(next(out.rglob("events.out.*")).parent)).Reload()
    assert [event.step for event in events.Images("validation")] == [160]
    assert len(events.Scalars("loss")) == len(losses)

    with pytest.raises(FileExistsError, match="--resume latest"):
        main(options)
    with pytest.raises(ValueError, match="hole_weight, seed changed"):
        main([*options, "--resume", "latest", "--seed", "1", "--hole_weight", "2"])
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        main([*options, "--resume", str(tmp_path)])


def test_resuming_an_older_checkpoint_sets_the_later_ones_aside(recipe, tmp_path):
    out = tmp_path / "run"
    options = [str(recipe), "--output_dir", str(out), "--adversarial_weight", "0", "--log_every_samples", "2"]
    main([*options, "--total_samples", "24"])
    checkpoints = out / "checkpoints"
    last = weights(checkpoints / "samples-000000024" / "generator")
    log_file = out / "log.jsonl"
    log_file.write_text(log_file.read_text() + '{"samples": 26, "lo')  # killed in the middle of a line
    (checkpoints / "samples-000000024" / "generator" / "config.json").unlink()

    main([*options, "--total_samples", "24", "--resume", str(checkpoints / "samples-000000012")])
    assert (checkpoints / "samples-000000024.superseded").is_dir()
    again = weights(checkpoints / "samples-000000024" / "generator")
    assert all(torch.equal(value, again[name]) for name, value in last.items())
    assert [json.loads(line)["samples"] for line in log_file.read_text().splitlines()] == list(range(2, 25, 2))
    assert not (out / "final.partial").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("batch_size: 2.5", "batch_size is 2.5, but must be int"),
        ("mask_mix: boxes=1", "mask_mix is 'boxes=1', but must be list"),
        ("mask_mix: [boxes]", "kind=weight"),
        ("keep_checkpoints: [2]", "keep_checkpoints is [2], but must be int"),
        ("dataset: folders:$NOWHERE/images", "environment variable NOWHERE"),
    ],
)
def test_a_recipe_of_wrong_values_is_refused_by_name(line, message, tmp_path):
    path = tmp_path / "recipe.yaml"
    dataset = "" if line.startswith("dataset") else "dataset: toy:8\n"
    path.write_text(f"{dataset}output_dir: {tmp_path}\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_arguments([str(path)])


def test_a_recipe_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "street.yaml").write_text("dataset: toy:8\noutput_dir: x\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\n")
    for missing, asked in (("stret.yaml", "stret.yaml"), ("base.yaml", "child.yaml")):
        with pytest.raises(FileNotFoundError, match=rf"No recipe \S*{missing}; .* lie: child\.yaml, street\.yaml"):
            parse_arguments([str(tmp_path / asked)])
    with pytest.raises(FileNotFoundError, match="lie: none"):
        parse_arguments([str(tmp_path / "nowhere" / "street.yaml")])


def test_on_the_command_line_a_refusal_is_a_sentence(recipe, tmp_path):
    (tmp_path / "run/checkpoints/samples-000000002").mkdir(parents=True)
    asked = [sys.executable, ROOT / "train_accelerate.py", recipe, "--output_dir", tmp_path / "run"]
    refused = subprocess.run(asked, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert re.search(r"^train_accelerate\.py: \S*run holds a run: add `--resume latest`", refused.stderr, re.M)
    (tmp_path / "run/arguments.json").write_text("")  # killed while it was written, by a version that could be
    with pytest.raises(ValueError, match=r"arguments\.json is damaged .* --output_dir"):
        main([str(recipe), "--output_dir", str(tmp_path / "run"), "--resume", "latest"])


def test_a_command_line_of_wrong_names_is_refused_with_those_that_look_alike(recipe):
    for words, message in (
        ([str(recipe), "--output_dir", "x", "--bach_size", "3"], r"bach_size \(do you mean batch_size\?\)"),
        ([str(recipe), "--output_dir", "x", "--qqqq=3"], r"qqqq \(`--help` lists them all\)"),
        (["--dataset", "toy:4", "--output_dir", "x", "toy.yaml"], "A recipe comes first"),
        (["toy"], "toy is no recipe: .*recipes/toy.yaml"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_arguments(words)


def test_a_recipe_must_hold_options(tmp_path):
    for text, message in (("a: [1", "is no YAML"), ("- street", "one `name: value` a line")):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(ValueError, match=rf"recipe\.yaml .*{message}"):
            parse_arguments([str(tmp_path / "recipe.yaml")])


def test_fewer_processes_than_asked_for_are_refused(monkeypatch):
    launcher = SimpleNamespace(cmdline=lambda: ["accelerate", "launch", "--cpu", "--num_processes=2"])
    monkeypatch.setattr("train_accelerate.psutil.Process", lambda: SimpleNamespace(parent=lambda: launcher))
    accelerator = SimpleNamespace(num_processes=2, mixed_precision="no", device="cpu")
    compare_processes(accelerator)
    accelerator.num_processes = 1
    with pytest.raises(ValueError, match="2 processes were asked for, 1 started.*--nproc_per_node 2"):
        compare_processes(accelerator)


def test_a_new_run_starts_from_the_weights_and_settings_of_another(recipe, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--total_samples", "4", "--tau_reading", "max", "--tau_proportions", "0.9", "0.9", "0.8", "0.8", "0.8"]
    main([str(recipe), "--output_dir", str(first), *options])
    checkpoint = first / "checkpoints" / "samples-000000004"
    arguments = parse_arguments([str(recipe), "--output_dir", str(second), "--initialize_from", str(checkpoint)])
    generator = build_generator(arguments)
    assert generator.config.tau_reading == "max" and generator.config.tau_proportions[0] == 0.9
    assert all(torch.equal(v, weights(first / "final")[k]) for k, v in generator.state_dict().items())

    write_rows(tmp_path / "rows", labelled={0}, classes=("sky", "other"))
    arguments.data.dataset = str(tmp_path / "rows")
    other = build_generator(arguments)
    assert other.config.id2label == {0: "sky", 1: "other"}
    assert torch.equal(other.encoder.stem.weight, generator.encoder.stem.weight)

    (checkpoint / "discriminator" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="discriminator has no config"):
        main([str(recipe), "--output_dir", str(first), *options, "--resume", "latest"])


def test_terms_of_the_weights_that_a_run_starts_from_hold_for_its_own(recipe, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    main([str(recipe), "--output_dir", str(first), "--total_samples", "4"])
    assert not (first / "final/LICENSE").exists()
    (first / "final/LICENSE").write_text("For research.")
    main([str(recipe), "--output_dir", str(second), "--total_samples", "4", "--initialize_from", str(first / "final")])
    (checkpoint,) = (second / "checkpoints").iterdir()
    for weights in (second / "final", checkpoint / "generator", checkpoint / "averaged"):
        assert (weights / "LICENSE").read_text() == "For research."

    shutil.rmtree(first)  # what they were made of may be gone
    shutil.rmtree(second / "final")
    main([str(recipe), "--output_dir", str(second), "--total_samples", "4", "--resume", "latest"])
    third = tmp_path / "third"
    main([str(recipe), "--output_dir", str(third), "--total_samples", "4", "--initialize_from", str(checkpoint)])
    for weights in (second / "final", third / "final"):
        assert (weights / "LICENSE").read_text() == "For research."


def test_a_new_run_starts_from_the_bundled_weights_by_their_name(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no folder of that name here
    options = ["--output_dir", "run", "--initialize_from", "street", "--reader", "street", "--read_back_weight", "0.1"]
    arguments = parse_arguments([str(recipe), *options, "--noise_channels", "4"])
    with pytest.raises(ValueError, match=r"street has widths .*16, .*, not \[4, 8, 8, 16, 16\]: leave widths out"):
        build_generator(arguments)
    arguments.model.widths = [16, 32]
    with pytest.raises(ValueError, match="leave widths out"):
        build_generator(arguments)
    arguments.model.widths = None
    bundled, generator = load_model("street"), build_generator(arguments)
    assert generator.config.id2label != bundled.config.id2label
    assert torch.equal(generator.encoder.stem.weight, bundled.encoder.stem.weight)
    with pytest.raises(ValueError, match="The reader street knows other classes than the data"):
        load_reader(arguments, torch.device("cpu"))


def test_accumulated_gradients_resume_at_optimiser_steps_only(recipe, tmp_path):
    """Batches of 2 in fours: checkpoints fall due every 12 samples, and are saved at the multiples of 8 after that."""
    options = [str(recipe), "--gradient_accumulation_steps", "4", "--adversarial_weight", "0"]
    main([*options, "--output_dir", str(tmp_path / "unbroken")])
    main([*options, "--output_dir", str(tmp_path / "broken"), "--max_minutes", "0"])
    shutil.copytree(
        tmp_path / "unbroken/checkpoints/samples-000000016", tmp_path / "broken/checkpoints/samples-000000016"
    )
    main([*options, "--output_dir", str(tmp_path / "broken"), "--resume", "latest"])
    names = [folder.name for folder in sorted((tmp_path / "unbroken/checkpoints").iterdir())]
    assert names == ["samples-000000016", "samples-000000024", "samples-000000040"]
    expected = weights(tmp_path / "unbroken" / "final")
    assert all(torch.equal(v, expected[k]) for k, v in weights(tmp_path / "broken" / "final").items())


def test_a_checkpoint_holds_the_network_that_was_compiled(prompted):
    trainer, _ = prompted
    trainer.generator = torch.compile(trainer.generator)
    assert type(trainer.networks()["generator"]) is SGENetModel


def test_starting_over_when_there_is_nothing_to_resume_is_an_error(recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="start without --resume"):
        main([str(recipe), "--output_dir", str(tmp_path / "new"), "--resume", "latest"])
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="cannot be resumed exactly"):
        main([str(recipe), "--output_dir", str(tmp_path / "new"), "--resume", "latest", "--streaming", "true"])


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(recipe, tmp_path):
    options = [str(recipe), "--output_dir", str(tmp_path / "run"), "--learning_rate", "1e30", "--clip_gradient_norm"]
    with pytest.raises(FloatingPointError, match="reconstruction"):
        main([*options, "1e30", "--adversarial_weight", "0"])
    assert not (tmp_path / "run" / "final").exists()


def test_a_stream_trains_without_an_index(recipe, tmp_path):
    main([str(recipe), "--output_dir", str(tmp_path / "run"), "--streaming", "true", "--total_samples", "8"])
    assert (tmp_path / "run" / "final" / "model.safetensors").exists()


def test_command_line_overrules_the_recipe_and_typos_are_found(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_FOLDER", "/data")
    recipe.write_text(TINY_RUN + "irregular_masks: $SOME_FOLDER/masks\n")
    arguments = parse_arguments([str(recipe), "--output_dir", "x", "--batch_size", "16"])
    assert arguments.run.batch_size == 16 and arguments.run.total_samples == 40
    assert arguments.data.irregular_masks == "/data/masks"
    for line, message in (
        ("bach_size: 3", "bach_size"),
        ("adversarial_kind: vanila", "hinge, vanilla, lsgan"),
        ("texture_window: 65", "exceeds crop_size"),
        ("batch_size: 0", "batch_size is 0, but must be 1 or more"),
        ("irregular_masks: $NOT_SET_ANYWHERE/masks", "NOT_SET_ANYWHERE"),
        ("push_to_hub: me/mine", "license_file"),
    ):
        recipe.write_text(TINY_RUN.replace("texture_window: 32", "") + line + "\n")
        with pytest.raises(ValueError, match=message):
            parse_arguments([str(recipe), "--output_dir", "x"])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_understood(path, monkeypatch):
    monkeypatch.setenv("SGENET_DATA", "/data")
    monkeypatch.setenv("SGENET_WEIGHTS", "/weights")
    monkeypatch.setenv("SGENET_SEGMENTER", "/segmenter")
    arguments = parse_arguments([str(path)])
    assert arguments.run.total_samples % arguments.run.batch_size == 0
    assert arguments.run.output_dir == f"runs/{path.stem}"


# The parts ----------------------------------------------------------------------------------------------------------


def test_ranks_share_out_the_same_batches():
    whole = EpochBatches(11, 4, rank=0, num_processes=1, seed=3)
    halves = [EpochBatches(11, 2, rank=rank, num_processes=2, seed=3) for rank in (0, 1)]
    assert whole.batches_per_epoch == halves[0].batches_per_epoch == 2
    for batch, first, second in itertools.islice(zip(whole, *halves, strict=True), 5):
        assert batch == first + second
    first_batches = list(itertools.islice(whole, 4))
    assert [{epoch for epoch, _ in batch} for batch in first_batches] == [{0}, {0}, {1}, {1}]
    indices = [index for batch in first_batches for _, index in batch]
    assert len(set(indices[:8])) == len(set(indices[8:])) == 8 and indices[:8] != indices[8:]
    for epoch, first_batch, skipped in ((0, 1, 1), (1, 0, 2), (0, 2, 2), (1, 1, 3)):
        whole.epoch, whole.first_batch = epoch, first_batch
        assert next(iter(whole)) == first_batches[skipped]
    with pytest.raises(ValueError, match="lower --batch_size"):
        EpochBatches(3, 4, rank=0, num_processes=1, seed=0)


def test_layers_are_divided_by_means_that_were_measured_on_the_photos(recipe):
    options = ["--output_dir", "x", "--perceptual_scales", "measured"]
    trainer = Trainer(parse_arguments([str(recipe), *options]), Accelerator(cpu=True))
    train_set, _ = load_data(trainer.arguments)
    trainer.scale_features(train_set)  # no term asks for a VGG: nothing to measure
    torch.manual_seed(0)
    trainer.features = PerceptualFeatures(("relu1_1",), "vgg16")
    trainer.scale_features(train_set)
    means = [trainer.features(train_set.sample(place, 0)["pixel_values"][None])[0].mean() for place in range(8)]
    assert trainer.features.divisors != [1.0] and torch.stack(means).mean() == pytest.approx(1, rel=0.2)
    with pytest.raises(ValueError, match="perceptual_scales are measured .* not with streaming"):
        parse_arguments([str(recipe), *options, "--streaming", "true"])


def test_a_run_with_measured_means_goes_on_as_if_it_had_never_stopped(recipe, tmp_path, caplog):
    torch.manual_seed(0)
    vgg = {name: value.clone() for name, value in PerceptualFeatures(("relu1_2",), "vgg16").named_parameters()}
    save_file(vgg, tmp_path / "vgg.safetensors")
    options = [str(recipe), "--perceptual_weight", "0.5", "--perceptual_weights", str(tmp_path / "vgg.safetensors")]
    options += ["--perceptual_layers", "relu1_2", "--perceptual_scales", "measured", "--adversarial_weight", "0"]
    options += ["--total_samples", "12", "--save_every_samples", "4"]
    with caplog.at_level("INFO", "train"):
        main([*options, "--output_dir", str(tmp_path / "unbroken")])
    assert "Mean activations: relu1_2 " in caplog.text
    main([*options, "--output_dir", str(tmp_path / "broken")])
    again = [*options, "--output_dir", str(tmp_path / "broken"), "--resume"]
    with pytest.raises(ValueError, match="perceptual_scales changed"):
        main([*again, "latest", "--perceptual_scales", "elsewhere.json"])
    main([*again, str(tmp_path / "broken" / "checkpoints" / "samples-000000004")])
    finals = [weights(tmp_path / name / "final") for name in ("unbroken", "broken")]
    assert all(torch.equal(value, finals[1][name]) for name, value in finals[0].items())


def test_options_of_augmentation_reach_the_samples(recipe):
    def first(*options: str) -> torch.Tensor:
        samples, _ = load_data(parse_arguments([str(recipe), "--output_dir", "x", *options]))
        return samples[0]["pixel_values"]

    plain = first()
    for options in (["--stretch", "0.5"], ["--recoloring", "1"], ["--photometric", "1"], ["--smallest_scale", "0.6"]):
        assert not torch.equal(first(*options), plain), options
    samples, _ = load_data(
        parse_arguments([str(recipe), "--output_dir", "x", "--resize_shorter", "96", "--largest_scale", "2"])
    )
    assert samples.resize_shorter == 96 and samples._make.scale_range[1] == 2
    with pytest.raises(ValueError, match="side at 256, and largest_scale 1.5 shows them at 384: run `sgenet prepare`"):
        first("--resize_shorter", "256", "--largest_scale", "1.5")


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_go_on_across_epochs_and_from_any_place(recipe, workers):
    """Epochs of 12 batches; the loader goes on at 11, 12 and 13 of them as if it had never stopped."""
    arguments = parse_arguments([str(recipe), "--output_dir", "x", "--num_workers", str(workers)])
    train_set, _ = load_data(arguments)

    def batches(progress: Progress, count: int) -> tuple[list[torch.Tensor], list[dict]]:
        source = Waiting(endless(make_loader(arguments, train_set, Accelerator(cpu=True)), progress))
        seen, places = [], []
        for batch in itertools.islice(source, count):
            progress.batch += 1
            seen.append(batch["pixel_values"])
            places.append(progress.state_dict())
        assert source.waited > 0
        return seen, places

    seen, places = batches(Progress(), 15)
    assert [(place["epoch"], place["batch"]) for place in places[10:14]] == [(0, 11), (0, 12), (1, 1), (1, 2)]
    for done in (11, 12, 13):
        resumed = Progress()
        resumed.load_state_dict(places[done - 1])
        again, _ = batches(resumed, 2)
        assert all(torch.equal(one, other) for one, other in zip(again, seen[done:], strict=False)), done


def test_validation_shows_what_the_network_draws_and_not_what_patches_make_of_it(recipe, tmp_path):
    options = ["--output_dir", "x", "--validation_split", "dev", "--validation_samples", "2"]
    _, validation_set = load_data(parse_arguments([str(recipe), *options, "--validation_mask", "centre-24"]))
    torch.manual_seed(0)
    drawn, redrawn = (
        SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=8, redrawn_share=share)).eval()
        for share in (0, 1)
    )
    redrawn.load_state_dict(drawn.state_dict())
    scores = [
        validate(model, validation_set, torch.device("cpu"), tmp_path / name / "panel.png")
        for model, name in ((drawn, "drawn"), (redrawn, "redrawn"))
    ]
    assert scores[0] == scores[1]


def test_learning_rate_rises_stays_and_falls():
    run = RunArguments(output_dir="x", total_samples=1000, warmup_samples=100, decay_share=0.3)
    factors = [learning_rate_factor(samples, run) for samples in (0, 49, 100, 700, 850, 1000)]
    assert factors == pytest.approx([0.01, 0.5, 1, 1, 0.5, 0])


def test_windows_lie_inside_the_photo_and_on_the_hole():
    mask = torch.zeros(3, 1, 40, 60)
    mask[0, :, 0, 0] = 1
    mask[1, :, 20:30, 50:60] = 1
    for number in (0.0, 0.5, 0.999):
        corners = hole_windows(mask, 16, torch.full((3,), number))
        windows = cut_windows(mask, corners, 16)
        assert windows.shape == (3, 1, 16, 16)
        assert windows[0].sum() == 1 and windows[1].sum() > 0


def test_the_commonest_class_counts_and_nothing_where_there_is_none():
    ids = torch.tensor([[[2, 2, 1], [1, -1, -1]], [[-1, -1, -1], [-1, -1, -1]], [[0, 254, 254], [-1, -1, -1]]])
    assert commonest_id(ids).tolist() == [1, -1, 254], "the smaller of two; whatever else -1 outnumbers"


class Colours(torch.nn.Module):
    """Stands for the VGG: the colours themselves."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (image,)


@pytest.fixture
def prompted(tmp_path):
    """A trainer with a reader and an error head, started from a network without one, and a batch with prompts."""
    torch.manual_seed(0)
    spec = dataset_spec("toy:24")
    start_from = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), **classes_of(spec)))
    with torch.no_grad():
        for head in start_from.heads:
            head.segmentation.weight.normal_(std=0.2)  # a reader that says something
    start_from.save_pretrained(tmp_path / "start")
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    arguments = parse_arguments(
        [
            str(tmp_path / "tiny.yaml"),
            *("--output_dir", str(tmp_path), "--initialize_from", str(tmp_path / "start")),
            *(
                "--noise_channels",
                "2",
                "--error_estimation",
                "true",
                "--read_back_weight",
                "1",
                "--counterfactual_share",
                "1",
            ),
        ]
    )
    train_set, _ = load_data(arguments)
    trainer = Trainer(arguments, Accelerator(cpu=True))
    return trainer, trainer.prepare(collate([train_set[index] for index in range(2)]))


def test_what_is_asked_for_must_look_like_photos_of_it(prompted):
    trainer, batch = prompted
    output = trainer.run_generator(batch)
    assert trainer.prompt_style_term(output, batch) == {}, "no textures were collected"
    assert "textured" not in batch
    trainer.features = Colours()
    named = batch["semantic_prompt"].flatten(1).amax(dim=1).tolist()
    trainer.textures = {named[0]: torch.full((1, 3, 32, 32), 0.5)}
    batch = trainer.prepare(batch)
    term = trainer.prompt_style_term(output, batch)["prompt_style"]
    assert term.shape == (2,) and term[0] > 0
    assert term[1] == 0 or named[0] == named[1], "nobody knows what the other class looks like"
    (gradient,) = torch.autograd.grad(term.sum(), output.images[-1])
    assert gradient[0].any() and not gradient[0][:, batch["rewritten"][0, 0] == 0].any()


def test_a_texture_is_drawn_by_the_place_of_its_sample(prompted):
    """So that any number of processes draws the same, whatever the other samples of a batch are asked to be."""
    trainer, batch = prompted
    windows = torch.arange(64.0)[:, None, None, None].expand(-1, 3, 32, 32)
    trainer.textures = {index: windows for index in range(10)}
    both = trainer.prepare(batch)
    assert both["textured"].tolist() == [0, 1]
    prompt = batch["semantic_prompt"].clone()
    prompt[0] = -1
    alone = trainer.prepare(dict(batch, semantic_prompt=prompt))
    assert alone["textured"].tolist() == [1] and torch.equal(alone["textures"][0], both["textures"][1])
    assert not torch.equal(both["textures"][0], both["textures"][1])


def test_textures_are_collected_for_the_classes_that_may_be_named(prompted):
    trainer, _ = prompted
    train_set, _ = load_data(trainer.arguments)
    trainer.arguments.data.counterfactual_classes = list(dataset_spec("toy:24").classes[:1])
    trainer.arguments.loss.texture_window = 16
    trainer.collect_textures(train_set)
    assert set(trainer.textures) == {0}
    trainer.arguments.loss.texture_window = 60
    with pytest.raises(ValueError, match="set texture_window to less"):
        trainer.collect_textures(train_set)
    trainer.arguments.data.counterfactual_classes = ["dragon"]
    with pytest.raises(ValueError, match="no class dragon"):
        trainer.collect_textures(train_set)


def test_the_truth_is_no_target_of_any_term_where_a_prompt_contradicts_it(prompted):
    trainer, batch = prompted
    trainer.features = Colours()
    trainer.arguments.loss.perceptual_weight = trainer.arguments.loss.style_weight = 1.0
    output = trainer.run_generator(batch)
    for name, term in trainer.texture_terms(output, batch).items():
        (gradient,) = torch.autograd.grad(term.sum(), output.images[-1], retain_graph=True)
        assert not gradient[batch["rewritten"].expand_as(gradient) > 0].any(), name
    assert not trainer.adversarial_terms(output, batch)["feature_matching"].any()
    plain = dict(batch, rewritten=torch.zeros_like(batch["rewritten"]))
    assert trainer.adversarial_terms(output, plain)["feature_matching"].all()


def test_a_label_that_a_segmenter_gave_counts_as_the_truth(prompted):
    trainer, batch = prompted
    prompt = batch["semantic_prompt"]
    trainer.labeller = lambda photos: torch.full(photos.shape[:1] + photos.shape[2:], int(prompt.max()))
    again = trainer.prepare(dict(batch, has_labels=torch.zeros(2)))
    assert torch.equal(again["rewritten"][:, 0] > 0, (prompt >= 0) & (prompt != prompt.max()))


def test_prompts_for_a_network_that_takes_none_are_refused(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    options = ["--counterfactual_share", "1", "--semantic_guidance", "false", "--confidence_evaluation", "false"]
    arguments = parse_arguments([str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path), *options])
    with pytest.raises(ValueError, match="leave out counterfactual_share"):
        Trainer(arguments, Accelerator(cpu=True))


def test_prompts_of_true_classes_are_kept_from_a_network_that_takes_none(prompted, tmp_path):
    _, batch = prompted
    assert (batch["semantic_prompt"] >= 0).any()
    options = ["--semantic_guidance", "false", "--confidence_evaluation", "false"]
    arguments = parse_arguments([str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path), *options])
    prepared = Trainer(arguments, Accelerator(cpu=True)).prepare(batch)
    assert (prepared["semantic_prompt"] == -1).all() and not prepared["rewritten"].any()


def test_float16_gathers_no_gradients_beside_a_discriminator(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    monkeypatch.setattr(Accelerator, "mixed_precision", "fp16")
    arguments = parse_arguments([str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path)])
    with pytest.raises(ValueError, match="cannot gather gradients over several batches"):
        Trainer(arguments, Accelerator(cpu=True, gradient_accumulation_steps=2))


def test_dilated_convolutions_whose_gradients_a_cpu_gets_wrong_are_refused(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    odd = ["--output_dir", str(tmp_path), "--widths", "4", "8", "8", "16", "24"]
    monkeypatch.setattr(Accelerator, "mixed_precision", "bf16")
    accelerator = Accelerator(cpu=True)
    with pytest.raises(ValueError, match="context_inference.* give --channels_last false"):
        Trainer(parse_arguments([str(tmp_path / "tiny.yaml"), *odd]), accelerator)
    for well in ([*odd, "--channels_last", "false"], [*odd[:-1], "16", "--error_estimation", "false"]):
        Trainer(parse_arguments([str(tmp_path / "tiny.yaml"), *well]), accelerator)


def test_a_pasted_weight_without_anything_pasted_is_refused(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_RUN)
    options = ["--output_dir", str(tmp_path), "--contextual_attention", "false"]
    with pytest.raises(ValueError, match="give --contextual_attention true"):
        Trainer(parse_arguments([str(tmp_path / "tiny.yaml"), *options]), Accelerator(cpu=True))


def test_what_is_pasted_is_judged_in_the_hole_and_not_where_it_was_asked_to_differ(prompted):
    trainer, batch = prompted
    output = trainer.run_generator(batch)
    assert (trainer.pasted_term(output, batch)["pasted"] > 0).all()
    told = dict(batch, rewritten=batch["mask"])
    assert not trainer.pasted_term(output, told)["pasted"].any()
    output.pasted = batch["pixel_values"]
    assert not trainer.pasted_term(output, batch)["pasted"].any()


def test_attention_can_be_left_out_of_weights_that_have_a_share_of_it(prompted, tmp_path):
    trainer, _ = prompted
    trainer.generator.config.pasted_share = 0.5
    trainer.generator.save_pretrained(tmp_path / "shared")
    trainer.arguments.model.initialize_from = str(tmp_path / "shared")
    assert build_generator(trainer.arguments).config.pasted_share == 0.5
    trainer.arguments.model.contextual_attention = False
    assert build_generator(trainer.arguments).contextual_attention is None


def test_another_number_of_noise_planes_is_refused(prompted, tmp_path):
    trainer, _ = prompted
    trainer.generator.save_pretrained(tmp_path / "noisy")
    trainer.arguments.model.initialize_from = str(tmp_path / "noisy")
    assert torch.equal(
        build_generator(trainer.arguments).steps[0].noise.weight, trainer.generator.steps[0].noise.weight
    )
    trainer.arguments.model.noise_channels = 3
    with pytest.raises(ValueError, match="has 2 noise_channels"):
        build_generator(trainer.arguments)


def test_new_parts_join_the_weights_to_start_from(prompted, tmp_path):
    trainer, _ = prompted
    before, after = weights(tmp_path / "start"), trainer.generator.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    new = set(after) - set(before)
    assert {name.split(".")[-2] for name in new if name.startswith("steps.")} == {"noise"}
    assert all(name.startswith(("contextual_attention.", "error_head.", "steps.")) for name in new)
    assert trainer.reader is not trainer.generator and trainer.reader.error_head is None


def test_what_a_prompt_contradicts_is_asked_of_the_reader_alone(prompted):
    trainer, batch = prompted
    rewritten = batch["rewritten"] > 0
    assert rewritten.any()
    output = trainer.run_generator(batch)
    terms = trainer.loss_terms(output, batch)
    assert terms["read_back"].shape == terms["error"].shape == (2,)
    finest = output.images[-1]
    for name, blind in (("reconstruction", True), ("read_back", False)):
        (gradient,) = torch.autograd.grad(terms[name].sum(), finest, retain_graph=True)
        assert gradient[rewritten.expand_as(gradient)].any() != blind, name
    coarsest = output.images[0]  # made before any prompt enters: it goes on learning the truth
    (gradient,) = torch.autograd.grad(terms["reconstruction"].sum(), coarsest, retain_graph=True)
    assert gradient[losses.shrink_mask(batch["rewritten"], 4).expand_as(gradient) > 0].all()
    other = dict(batch, pixel_values=torch.where(rewritten, -batch["pixel_values"], batch["pixel_values"]))
    torch.testing.assert_close(trainer.error_term(output, other)["error"], terms["error"])
    free = trainer.prepare(dict(batch, semantic_prompt=torch.full_like(batch["semantic_prompt"], -1)))
    assert not trainer.read_back_term(output, free)["read_back"].any()


def test_reading_back_teaches_what_was_asked(prompted):
    trainer, batch = prompted
    trainer.progress.samples = 10  # past the warm-up
    first = trainer.train_step(batch)["read_back"]
    for _ in range(30):
        last = trainer.train_step(batch)["read_back"]
    assert last < 0.9 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--read_back_weight", "1"], "needs a trained reader"),
        (["--read_back_weight", "1", "--prompt_share", "0", "--reader", "street"], "give prompt_share"),
        (["--reader", "street"], "does nothing without read_back_weight"),
        (["--prompt_style_weight", "1"], "needs counterfactual_share"),
        (["--counterfactual_share", "0.5", "--reconstruction", "literal"], "not with counterfactual_share"),
        (["--counterfactual_share", "0.5", "--system", "gatedconv", "--preset", "matched"], "takes no prompts"),
    ],
)
def test_prompts_without_what_they_need_are_refused(options, message, tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        re.sub("(widths|noise_channels|error_estimation|contextual_attention|pasted_weight): .*\n", "", TINY_RUN)
    )
    with pytest.raises(ValueError, match=message):
        parse_arguments([str(tmp_path / "tiny.yaml"), "--output_dir", str(tmp_path), *options])
