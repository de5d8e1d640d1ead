"""The command line: files in, files out, exit codes, what is said to whom."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils import logging as transformers_logging

import sgenet_hf
from sgenet_hf import (
    EdgeConnectConfig,
    EdgeConnectModel,
    GatedConvConfig,
    GatedConvModel,
    Inpainter,
    SGENetConfig,
    SGENetImageProcessor,
    SGENetModel,
)
from sgenet_hf.catalog import DATASETS
from sgenet_hf.cli import main
from sgenet_hf.layouts import PREPARABLE
from sgenet_hf.masks import evaluation_mask, mask_set_sha256
from sgenet_hf.thoughts import hole_at


@pytest.fixture
def run(tiny_checkpoint, capsys):
    """Runs `sgenet inpaint` with the tiny network on the CPU; gives exit status, standard output and error."""

    def inpaint(*arguments):
        status = main(["inpaint", *map(str, arguments), "--model", str(tiny_checkpoint), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out, said.err

    return inpaint


@pytest.fixture
def folder(tmp_path, photo, mask):
    """`photos` with a.png, b.jpg and c.png; `masks` for all of them, by stem."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    masks.mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        photo.save(photos / name)
        mask.save(masks / f"{name[0]}.png")
    (photos / "notes.txt").write_text("not a photo")
    (photos / "._a.png").write_bytes(b"what a Mac leaves behind")
    return tmp_path


@pytest.fixture
def hole(mask):
    return np.asarray(mask) == 255


def files(path):
    return sorted(file.name for file in path.iterdir())


# One photo


def test_one_photo(run, folder, photo, hole, tiny_checkpoint):
    status, out, err = run(folder / "photos/a.png", folder / "masks/a.png", "-o", folder / "filled.png")
    assert status == 0
    filled = np.asarray(Image.open(folder / "filled.png"))
    np.testing.assert_array_equal(filled[~hole], np.asarray(photo)[~hole])
    expected = Inpainter(tiny_checkpoint, device="cpu")(photo, hole)
    np.testing.assert_array_equal(filled, np.asarray(expected.image))  # one path for Python and the command line
    assert f"{expected.score:.3f}" in out and "filled.png" in out and "original" in out
    assert f"hole {hole.mean():.2%}" in out
    assert "warning" not in err and "failed" not in err


def test_a_folder_as_target(run, folder):
    assert run(folder / "photos/b.jpg", folder / "masks", "-o", folder / "out")[0] == 0
    assert files(folder / "out") == ["b.jpg"]


def test_options_reach_the_pipeline(run, folder, photo, hole):
    inverted = folder / "inverted.png"
    small = Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)).resize((48, 40), Image.Resampling.NEAREST)
    small.save(inverted)
    arguments = [folder / "photos/a.png", inverted, "-o", folder / "out.png", "--strategy", "resize"]
    assert run(*arguments)[0] == 2  # the mask's size
    status, out, err = run(
        *arguments, "--resize-mask", "--invert-mask", "--grow", 2, "--feather", 3, "--dtype", "bfloat16"
    )
    assert status == 0 and "resize" in out and "warning" not in err
    changed = (np.asarray(Image.open(folder / "out.png")) != np.asarray(photo)).any(axis=-1)
    assert changed[28:52, 33:63].mean() > 0.9
    changed[28 - 6 : 52 + 6, 33 - 6 : 63 + 6] = False  # the halved mask starts on an even pixel
    assert not changed.any()


def test_warnings_are_said_on_standard_error(run, folder):
    Image.new("L", (96, 80)).save(folder / "empty.png")
    status, out, err = run(folder / "photos/a.png", folder / "empty.png", "-o", folder / "out.png")
    assert status == 0
    assert (
        "a.png: warning: Nothing to fill, the photo is returned unchanged: the mask is empty" in err
        and "nothing to fill" in out
    )


def test_photos_with_nothing_to_fill_are_not_counted_as_filled(run, folder):
    Image.new("L", (96, 80)).save(folder / "masks/b.png")
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "out")
    assert status == 0 and "2 of 3 photos filled, 1 with nothing to fill." in err


def test_a_prompt_may_be_the_name_of_a_class(run, folder):
    given = folder / "photos/a.png", folder / "masks/a.png", "-o", folder / "a.png"
    assert run(*given, "--semantic-prompt", "label_2")[0] == 0
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "out", "--semantic-prompt", "unicorn")
    assert status == 2 and err.count("'unicorn' is no file, no folder and no class") == 1 and "LABEL_3" in err
    assert not (folder / "out").exists()


def test_all_scales(run, folder, tiny_checkpoint, photo, hole):
    status, out, _ = run(
        folder / "photos/a.png", folder / "masks", "-o", folder / "out.png", "--all-scales", folder / "all"
    )
    assert status == 0
    kinds = ("confidence", "image", "reliability", "segmentation")
    names = [f"scale-{level}-{kind}.png" for level in range(5) for kind in kinds]
    assert files(folder / "all" / "a") == sorted(
        [*names, "scale-2-expected-error.png", "scale-3-pasted.png", "scales.json"]
    )
    facts = json.loads((folder / "all/a/scales.json").read_text())
    assert facts["region"] == [0, 0, 96, 80] and facts["classes"]["3"] == "LABEL_3"
    assert facts["redrawn_share"] == 0
    result = Inpainter(tiny_checkpoint, device="cpu")(photo, hole)
    assert facts["expected_error"] == result.expected_error
    assert f"expected error {result.expected_error:.1f} of 255" in out
    error = np.asarray(Image.open(folder / "all/a/scale-2-expected-error.png"))
    cells = hole_at(result, error.shape[::-1])
    np.testing.assert_allclose(error[cells], result.scales[2].expected_error[cells], atol=0.51)
    assert cells.any() and not error[~cells].any()
    for view in result.scales:
        start = folder / "all" / "a" / f"scale-{view.level}"
        segmentation = Image.open(f"{start}-segmentation.png")
        assert segmentation.mode == "P"
        np.testing.assert_array_equal(np.asarray(segmentation), view.labels)
        unreliable = np.asarray(Image.open(f"{start}-reliability.png")) == 255
        np.testing.assert_array_equal(unreliable, ~view.reliability)
        confidence = np.asarray(Image.open(f"{start}-confidence.png")) / 255
        np.testing.assert_allclose(confidence, view.confidence, atol=0.51 / 255)


def test_a_written_segmentation_is_a_semantic_prompt(run, folder, capsys):
    prompt = np.full((80, 96), 255, np.uint8)
    prompt[30:50, 35:60] = 2
    Image.fromarray(prompt).save(folder / "prompt.png")
    arguments = [folder / "photos/a.png", folder / "masks", "-o"]
    assert run(*arguments, folder / "plain.png")[0] == 0
    assert run(*arguments, folder / "prompted.png", "--semantic-prompt", folder / "prompt.png")[0] == 0
    assert (folder / "plain.png").read_bytes() != (folder / "prompted.png").read_bytes()
    assert run(*arguments, folder / "redrawn.png", "--redrawn-share", 1)[0] == 0
    assert (folder / "redrawn.png").read_bytes() != (folder / "plain.png").read_bytes()
    far = ["--semantic-prompt", folder / "prompt.png", "--guidance-scale"]
    assert run(*arguments, folder / "far.png", *far, 3)[0] == 0
    assert (folder / "far.png").read_bytes() != (folder / "prompted.png").read_bytes()
    for options, message in (
        ([*far, "much"], "argument --guidance-scale: invalid float value: 'much'"),
        (["--guidance-scale", 3], "name one with --semantic-prompt"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(*arguments, folder / "never.png", *options)
        assert message in capsys.readouterr().err
    for options, message in (
        ([*far, 9], "`guidance_scale` must be a number from 0 to 4, got 9.0"),
        (["--redrawn-share", 2], "`redrawn_share` must be a number from 0 to 1, got 2.0"),
        (["--redrawn-share", "nan"], "`redrawn_share` must be a number from 0 to 1, got nan"),
    ):
        status, _, err = run(*arguments, folder / "never.png", *options)
        assert status == 2 and err.startswith(f"sgenet inpaint: {message}")
    prompt[0, 0] = 9
    Image.fromarray(prompt).save(folder / "prompt.png")
    status, _, err = run(*arguments, folder / "never.png", "--semantic-prompt", folder / "prompt.png")
    assert status == 2 and "class 9" in err and not (folder / "never.png").exists()


def test_remove_by_name(run, folder, tiny_checkpoint, photo):
    network = Inpainter(tiny_checkpoint, device="cpu")
    name = network.classes[int(network.segment(photo).labels[40, 48])]
    status, out, _ = run(folder / "photos/a.png", "--remove", f"{name.lower()},", "-o", folder / "out.png")
    expected = network(photo, remove=[name])
    assert status == 0 and f"(found, before it grew: {name} {expected.removed[name]:.2%})" in out
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "out.png")), np.asarray(expected.image))
    status, _, err = run(folder / "photos/a.png", "--remove", "unicorn", "-o", folder / "never.png")
    assert status == 2 and "unicorn" in err and "LABEL_0" in err


# A folder


def test_a_compared_system_fills_and_says_what_it_cannot(folder, tmp_path, capsys, photo, hole):
    torch.manual_seed(0)
    gated = tmp_path / "gated"
    GatedConvModel(GatedConvConfig(width=8)).save_pretrained(gated)
    SGENetImageProcessor().save_pretrained(gated)
    command = ["inpaint", str(folder / "photos/a.png"), str(folder / "masks"), "-o", str(folder / "out.png")]
    command += ["--model", str(gated), "--device", "cpu"]
    assert main([*command, "--all-scales", str(folder / "all")]) == 2
    assert "names no classes" in capsys.readouterr().err and not (folder / "out.png").exists()
    assert main([*command, "--remove", "car"]) == 2
    assert "name a segmenter" in capsys.readouterr().err
    EdgeConnectModel(EdgeConnectConfig(width=4, num_blocks=1)).save_pretrained(tmp_path / "edges")
    for name, other in (("GatedConv", gated), ("EdgeConnect", tmp_path / "edges")):
        assert main(["info", str(other)]) == 0
        assert name in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "filled" in said and "nothing to fill" not in said and "confidence" not in said
    assert np.array_equal(np.asarray(Image.open(folder / "out.png"))[~hole], np.asarray(photo)[~hole])


def test_a_folder_with_masks_by_stem(run, folder, photo, hole):
    status, out, err = run(folder / "photos", folder / "masks", "-o", folder / "out")
    assert status == 0
    assert files(folder / "out") == ["a.png", "b.jpg", "c.png"]
    assert "3 of 3 photos filled" in err and len(out.splitlines()) == 3
    filled = np.asarray(Image.open(folder / "out/c.png"))
    np.testing.assert_array_equal(filled[~hole], np.asarray(photo)[~hole])
    assert Image.open(folder / "out/b.jpg").quantization == Image.open(folder / "photos/b.jpg").quantization


def test_one_mask_for_all(run, folder):
    assert run(folder / "photos", folder / "masks/a.png", "-o", folder / "out")[0] == 0
    assert files(folder / "out") == ["a.png", "b.jpg", "c.png"]


def test_a_failed_file_is_reported_and_the_rest_goes_on(run, folder):
    (folder / "photos/a.png").write_bytes(b"broken")
    (folder / "masks/c.png").unlink()
    status, out, err = run(folder / "photos", folder / "masks", "-o", folder / "out")
    assert status == 1
    assert "a.png: failed" in err and "c.png: failed" in err and "1 of 3" in err
    assert files(folder / "out") == ["b.jpg"] and "b.jpg" in out


def test_nothing_done_is_status_two(run, folder):
    for file in (folder / "masks").iterdir():
        file.unlink()
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "out")
    assert status == 2 and "0 of 3" in err and not (folder / "out").exists()


def test_two_masks_of_one_stem_are_ambiguous(run, folder, mask):
    mask.save(folder / "masks/a.bmp")
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "out")
    assert status == 1 and "a.bmp, a.png" in err


def test_a_folder_is_not_written_into_a_photo(run, folder):
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "out.png")
    assert status == 2 and "out.png a file: name a folder with -o" in err and not (folder / "out.png").exists()


def test_doubtful_fills_are_listed(run, folder):
    status, _, err = run(folder / "photos", folder / "masks", "-o", folder / "never", "--min-confidence", 7)
    assert status == 2 and "--min-confidence is a share: 0 to 1, not 7" in err and not (folder / "never").exists()
    arguments = [folder / "photos", folder / "masks", "-o", folder / "out", "--min-confidence"]
    out = run(*arguments, 1)[1]
    listed = out.split("to be looked at:")[1].split()
    assert [name for name in listed if name.endswith(("png", "jpg"))] and len(listed) == 6
    assert (
        "looked at" not in run(folder / "photos", folder / "masks", "-o", folder / "out", "--min-confidence", 0.01)[1]
    )


def test_fills_that_may_be_far_from_the_truth_are_listed(run, folder, tmp_path, capsys):
    arguments = [folder / "photos", folder / "masks", "-o", folder / "out", "--max-expected-error"]
    listed = run(*arguments, 0)[1].split("Expected error above 0 of 255, to be looked at:")[1].split()
    errors = [float(number) for number in listed[::2]]
    assert len(errors) == 3 and errors == sorted(errors, reverse=True)
    assert "looked at" not in run(*arguments, 1000)[1]
    assert run(*arguments, -5)[0] == 2
    config = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4)
    SGENetModel(config).save_pretrained(tmp_path / "plain")
    SGENetImageProcessor().save_pretrained(tmp_path / "plain")
    assert main(["inpaint", *map(str, arguments), "10", "--model", str(tmp_path / "plain"), "--device", "cpu"]) == 2
    assert "leave out --max-expected-error" in capsys.readouterr().err


def test_photos_of_one_stem_keep_their_scales_apart(run, folder, photo):
    photo.save(folder / "photos/a.bmp")
    assert run(folder / "photos", folder / "masks", "-o", folder / "out", "--all-scales", folder / "all")[0] == 0
    assert files(folder / "all") == ["a.bmp", "a.png", "b", "c"]


def test_a_progress_bar_on_a_terminal(run, folder, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "3/3" in run(folder / "photos", folder / "masks", "-o", folder / "out")[2]


# What is refused


def test_inputs_are_never_replaced(run, folder):
    before = (folder / "photos/a.png").read_bytes()
    for target in (folder / "photos", folder / "photos/a.png", folder / "masks/a.png"):
        status, _, err = run(folder / "photos/a.png", folder / "masks/a.png", "-o", target)
        assert status == 2 and "would replace" in err
    assert (folder / "photos/a.png").read_bytes() == before


def test_an_output_inside_a_file_is_refused(run, folder):
    photo = folder / "photos/a.png"
    before = photo.read_bytes()
    status, _, err = run(photo, folder / "masks", "-o", photo / "x.png")
    assert status == 2 and f"{photo} is a file" in err and photo.read_bytes() == before


def test_a_format_that_cannot_hold_the_photo_leaves_nothing_behind(run, folder, photo):
    photo.convert("RGBA").save(folder / "photos/a.png")
    status, _, err = run(folder / "photos/a.png", folder / "masks", "-o", folder / "out.jpg")
    assert status == 2 and "JPEG cannot hold mode RGBA" in err
    assert "out.jpg" not in files(folder) and not [name for name in files(folder) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photo": "nowhere.png"}, "nowhere.png"),
        ({"mask": "nowhere.png"}, "nowhere.png"),
        ({"photo": "masks/empty"}, "No photos"),
        ({"photo": "photos", "out": "masks/a.png"}, "name a folder"),
        ({"out": "out.gif"}, "choose one of"),
    ],
    ids=str,
)
def test_wrong_paths_are_named_before_anything_runs(run, folder, change, message):
    (folder / "masks/empty").mkdir()
    paths = {"photo": "photos/a.png", "mask": "masks/a.png", "out": "out.png"} | change
    status, _, err = run(folder / paths["photo"], folder / paths["mask"], "-o", folder / paths["out"])
    assert status == 2 and message in err


def test_the_help_of_prepare_says_what_each_folder_must_hold(capsys):
    with pytest.raises(SystemExit):
        main(["prepare", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name in PREPARABLE:
        assert f"{name}: {DATASETS[name].layout}" in said


def test_wrong_arguments_end_with_status_two(folder, capsys):
    photo = str(folder / "photos/a.png")
    for arguments in (
        [],
        ["inpaint", photo],
        ["inpaint", photo, "-o", "x.png"],
        ["dance"],
        ["masks", "boxes", "x", "--size", "0"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "usage: sgenet" in capsys.readouterr().err


def test_a_damaged_checkpoint_is_one_line(folder, tiny_checkpoint, capsys):
    broken = folder / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    (broken / "config.json").unlink()
    arguments = ["inpaint", str(folder / "photos/a.png"), str(folder / "masks"), "-o", str(folder / "out.png")]
    assert main([*arguments, "--model", str(broken)]) == 2
    assert "config.json" in capsys.readouterr().err
    assert not (folder / "out.png").exists()


# The other commands


def test_masks_are_written_with_their_fingerprint(tmp_path, capsys):
    assert main(["masks", "boxes", str(tmp_path / "set"), "--count", "3", "--size", "60x40", "--seed", "5"]) == 0
    expected = [evaluation_mask("boxes", 5, index, 40, 60) for index in range(3)]
    assert files(tmp_path / "set") == ["0000.png", "0001.png", "0002.png", "masks.sha256"]
    for index, mask in enumerate(expected):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"set/000{index}.png")) > 0, mask)
    assert mask_set_sha256(expected) in (tmp_path / "set/masks.sha256").read_text().splitlines()[0]
    assert mask_set_sha256(expected) in capsys.readouterr().out
    assert main(["masks", "no-such-set", str(tmp_path / "other")]) == 2
    assert "no-such-set" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(tiny_checkpoint):
    command = f"{sys.executable} -m sgenet_hf.cli info {tiny_checkpoint} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""


def test_info_says_what_a_checkpoint_is(tiny_checkpoint, tmp_path, capsys):
    transformers_logging.enable_progress_bar()
    assert main(["info", str(tiny_checkpoint)]) == 0
    said, aside = capsys.readouterr()
    assert aside == ""
    assert main(["info", "--classes"]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == ["sky 128:128:128", "building 128:0:0"]
    parameters = sgenet_hf.load_model(tiny_checkpoint, device="cpu").num_parameters()
    for expected in (
        "SGE-Net",
        f"{parameters:,}",
        "GFLOP",
        "3 LABEL_3",
        "hole_quantile",
        "contextual attention, share 0; expected error; noise",
        "no LICENSE",
    ):
        assert expected in said
    licensed = tmp_path / "licensed"
    shutil.copytree(tiny_checkpoint, licensed)
    (licensed / "LICENSE").write_text("Terms\n=====\n\nThese weights were trained on\ndrawings.\n")
    assert main(["info", str(licensed)]) == 0
    assert "terms:             These weights were trained on drawings." in capsys.readouterr().out
    assert main(["info", "street"]) == 0
    assert "may be used for research and other non-commercial purposes only." in capsys.readouterr().out


def test_average_writes_the_weighted_mean_of_networks_of_one_kind(tiny_checkpoint, tmp_path, capsys):
    other = sgenet_hf.load_model(tiny_checkpoint, device="cpu")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.5)
    other.config.noise_strength = 0.25  # how it is used, not what it is
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "LICENSE").write_text("Only for looking at.")
    first, out = tmp_path / "first=1", tmp_path / "mean"  # a folder may have a = in its name
    shutil.copytree(tiny_checkpoint, first)
    sgenet_hf.SGENetImageProcessor(mask_threshold=0.25).save_pretrained(first)
    assert main(["average", str(first), f"{tmp_path / 'other'}=3", "--out", str(out)]) == 0
    assert (out / "LICENSE").read_text() == "Only for looking at."
    assert sgenet_hf.Inpainter(out, device="cpu").processor.mask_threshold == 0.25
    mean, first = (sgenet_hf.load_model(folder, device="cpu").state_dict() for folder in (out, tiny_checkpoint))
    for name, value in first.items():
        torch.testing.assert_close(mean[name], value + 0.375, atol=2e-3, rtol=2e-3)
    assert main(["average", str(tiny_checkpoint), "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert (out / "model.safetensors").stat().st_mode == (out / "config.json").stat().st_mode
    other.config.reliability_smoothing = 3
    other.save_pretrained(tmp_path / "other")
    assert main(["average", str(tiny_checkpoint), str(tmp_path / "other"), "--out", str(tmp_path / "none")]) == 2
    assert "differ in reliability_smoothing" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    other.config.reliability_smoothing = sgenet_hf.load_model(
        tiny_checkpoint, device="cpu"
    ).config.reliability_smoothing
    with torch.no_grad():
        next(iter(other.parameters())).fill_(1e6)
    other.save_pretrained(tmp_path / "other")
    assert main(["average", str(tiny_checkpoint), str(tmp_path / "other"), "--out", str(tmp_path / "none")]) == 2
    assert "numbers that float16 cannot" in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "none" in path.name]
    for weight in ("-1", "nan", "inf"):
        assert main(["average", "street", f"street={weight}", "--out", str(tmp_path / "none")]) == 2
        assert f"weight {weight}" in capsys.readouterr().err
    assert main(["average", "street", "--out", str(tmp_path / "none")]) == 2
    with pytest.raises(SystemExit):
        main(["average", "street=much", "--out", str(tmp_path / "none")])


def test_a_name_of_nothing_is_said_without_asking_the_hub(capsys):
    assert main(["info", "nosuch"]) == 2
    said = capsys.readouterr().err
    assert "No folder and no bundled weights of the name 'nosuch'" in said and "(street)" in said
    assert len(said.splitlines()) == 1


def test_flop_are_twice_the_multiplications(tiny_config):
    from sgenet_hf.cli import count_flop

    tiny_config.contextual_attention = False  # whose pairs of cells grow with the square of the area
    tiny_model = SGENetModel(tiny_config).eval()
    small, large = count_flop(tiny_model, 64), count_flop(tiny_model, 128)
    assert small > 2 * 64 * 64 * tiny_model.encoder.stem.weight.numel()  # the first layer alone
    assert large == 4 * small
    tiny_model.config.redrawn_share = 1  # by no layer of the network
    assert count_flop(tiny_model, 128) == large


def test_prepare_writes_what_it_is_told(tmp_path, capsys, photo):
    pytest.importorskip("datasets", reason="preparing data needs datasets")
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "images").mkdir(parents=True)
    (source / "classes.txt").write_text("sky 0:0:255\nroad 90:90:90\n")
    for index in range(3):
        Image.new("RGB", (90, 60), (index, 0, 0)).save(source / "images" / f"{index}.png")
    assert main(["prepare", "folders", str(source), str(out), "--shard-rows", "1", "--resize-shorter", "30"]) == 0
    assert "train: 3 photos" in capsys.readouterr().out
    assert len(list(out.glob("train-*-of-00003.parquet"))) == 3
    assert json.loads((out / "dataset.json").read_text())["resize_shorter"] == 30

    assert main(["prepare", "camvid", str(source), str(tmp_path / "camvid")]) == 2
    assert "CamVid" in capsys.readouterr().err
    assert main(["prepare", "no-such-set", str(source), str(tmp_path / "none")]) == 2
    assert "no-such-set" in capsys.readouterr().err


def test_masks_do_not_mix_with_other_pictures(tmp_path, capsys):
    assert main(["masks", "centre-8", str(tmp_path), "--count", "2", "--size", "16"]) == 0
    assert main(["masks", "centre-8", str(tmp_path), "--count", "1", "--size", "16"]) == 2
    assert "name a new folder" in capsys.readouterr().err


def test_a_device_that_is_not_there_does_nothing(tiny_checkpoint, tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    words = ["inpaint", str(tmp_path / "photo.png"), str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png")]
    assert main([*words, "--model", str(tiny_checkpoint), "--device", "nonsense"]) == 2
    assert "Cannot use device 'nonsense'" in capsys.readouterr().err


def test_serve_without_the_page_says_where_it_is(monkeypatch, tmp_path, capsys):
    from sgenet_hf import cli

    monkeypatch.setattr(cli, "__file__", str(tmp_path / "site-packages" / "sgenet_hf" / "cli.py"))
    assert main(["serve"]) == 2
    assert "clone the project" in capsys.readouterr().err


def test_serve_runs_the_page_with_its_settings(monkeypatch, tmp_path, capsys):
    from sgenet_hf import cli

    (tmp_path / "sgenet_hf").mkdir()
    (tmp_path / "app.py").write_text("import os\nprint(__name__, os.environ['SGENET_MODEL'], os.environ['PORT'])\n")
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "sgenet_hf" / "cli.py"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("SGENET_MODEL", "before")
    monkeypatch.setenv("PORT", "1")
    assert main(["serve", "--model", "street", "--port", "7999"]) == 0
    assert capsys.readouterr().out.strip() == "__main__ street 7999"
