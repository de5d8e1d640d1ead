"""Data sets: published layouts made up in a few pixels, preparation, loading, samples."""

import hashlib
import io
import json
import multiprocessing
import os
import signal
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from sgenet_hf import prepare as prepare_module
from sgenet_hf.data import (
    DATASETS,
    InpaintingDataset,
    IterableInpaintingDataset,
    class_counts,
    class_textures,
    collate,
    dataset_spec,
    decode_image,
    load_inpainting_dataset,
    recolor,
    relight,
)
from sgenet_hf.layouts import list_items
from sgenet_hf.prepare import BrokenFilesError, encode_labels, prepare


FACADE_COLORS = dict(zip(DATASETS["labelmefacade"].classes, DATASETS["labelmefacade"].colors, strict=True))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def photo(seed, height=40, width=60):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def numbers(*values, height=40, width=60):
    """A label picture of equal columns, one per value."""
    return np.repeat(np.array(values, np.uint8), width // len(values))[None].repeat(height, axis=0)


def colours(*names, height=40, width=60):
    table = {**FACADE_COLORS, "void": (0, 0, 0)}
    return np.repeat(np.array([table[name] for name in names], np.uint8), width // len(names), 0)[None].repeat(
        height, 0
    )


@pytest.fixture
def street(tmp_path):
    """CamVid and LabelMeFacade with two photos each, and lists that put one drive and one run in each split."""
    source = tmp_path / "street"
    for stem in ("0006R0_f1", "0016E5_2"):
        save(source / "camvid/train" / f"{stem}.jpg", photo(len(stem)))
        save(source / "camvid/trainannot" / f"{stem}.png", numbers(0, 1, 8, 11))
    for stem in ("album__p10", "album__p12", "album__p17"):
        save(source / "labelmefacade/images" / f"{stem}.jpg", photo(3))
        save(source / "labelmefacade/labels" / f"{stem}.png", colours("window", "door", "vegetation", "void"))
    lists = source / "street_splits"
    lists.mkdir()
    (lists / "train.txt").write_text(
        "camvid/train/0006R0_f1\nlabelmefacade/album__p10\nlabelmefacade/album__p12\nlabelmefacade/album__p17\n"
    )
    (lists / "dev.txt").write_text("camvid/train/0016E5_2\n")
    (lists / "report.txt").write_text("")
    return source


def make_cityscapes(source):
    for folder, city in (("train", "aachen"), ("val", "ulm"), ("test", "berlin")):
        save(source / "leftImg8bit" / folder / city / f"{city}_000_leftImg8bit.png", photo(1))
        label = source / "gtFine" / folder / city / f"{city}_000_gtFine_labelIds.png"
        save(label, numbers(7, 4, 0, 33) if folder != "test" else numbers(3, height=4, width=4))


def make_camvid(source):
    for split in ("train", "val", "test"):
        save(source / split / f"0001TP_{split}.png", photo(2))
        save(source / f"{split}annot" / f"0001TP_{split}.png", numbers(0, 10, 11))


def make_labelmefacade(source):
    for stem in ("a__p1", "a__p2", "b__p1"):
        save(source / "images" / f"{stem}.jpg", photo(4))
        save(source / "labels" / f"{stem}.png", colours("sky", "window", "void"))
    (source / "train.txt").write_text("images/a__p1.jpg\nimages/a__p2.jpg\n")
    (source / "test.txt").write_text("images/b__p1.jpg\n")


def make_outdoor_scenes(source):
    for split in ("train", "test"):
        save(source / split / "images" / "one.png", photo(5))
        save(source / split / "labels" / "one.png", numbers(0, 7, 8, 255))
    save(source / "train" / "images" / "unlabelled.png", photo(6))


def make_places2(source):
    save(source / "data_256" / "a" / "abbey" / "001.jpg", photo(7))
    save(source / "val_256" / "002.jpg", photo(8))


def make_folders(source):
    for split in ("train", "val"):
        save(source / split / "images" / "deep" / "x.png", photo(9))
        save(source / split / "labels" / "deep" / "x.png", numbers(0, 1, 255))
    (source / "classes.txt").write_text("cat 255:0:10\nvery large dog\n")


# Source maker, photos per split, and the class ids of the first training label, column by column.
LAYOUTS = {
    "cityscapes": (make_cityscapes, {"train": 2, "val": 1}, [0, 19, 255, 18]),
    "camvid": (make_camvid, {"train": 1, "val": 1, "test": 1}, [0, 10, 255]),
    "labelmefacade": (make_labelmefacade, {"train": 2, "test": 1}, [5, 7, 255]),
    "outdoor_scenes": (make_outdoor_scenes, {"train": 2, "test": 1}, [0, 7, 255, 255]),
    "places2": (make_places2, {"train": 1, "val": 1}, None),
    "folders": (make_folders, {"train": 1, "val": 1}, [0, 1, 255]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts_become_rows_with_exact_labels(name, tmp_path):
    make, counts, columns = LAYOUTS[name]
    make(tmp_path / "source")
    assert prepare(name, tmp_path / "source", tmp_path / "out", progress=False) == counts
    rows = load_inpainting_dataset(str(tmp_path / "out"), "train")
    assert len(rows) == counts["train"]
    assert set(rows.column_names) == {"image", "label", "id", "group"}
    assert all(row["id"] and row["group"] for row in rows)
    if columns is None:
        assert rows[0]["label"] is None
    else:
        assert np.array_equal(np.array(rows[0]["label"]), numbers(*columns))
    spec = dataset_spec(tmp_path / "out")
    assert spec.id2label == (DATASETS[name].id2label or {0: "cat", 1: "very large dog"})
    same = ("name", "license_note", "resize_shorter", "ignore_index", "homepage")
    assert [getattr(spec, field) for field in same] == [getattr(DATASETS[name], field) for field in same]


def test_cityscapes_test_photos_train_without_labels(tmp_path):
    make_cityscapes(tmp_path / "source")
    prepare("cityscapes", tmp_path / "source", tmp_path / "out", progress=False)
    rows = load_inpainting_dataset(str(tmp_path / "out"), "train")
    assert [row["label"] is None for row in rows] == [False, True]
    samples = InpaintingDataset(rows, size=32, resize_shorter=40, num_labels=20)
    assert [float(samples[index]["has_labels"]) for index in (0, 1)] == [1.0, 0.0]
    assert (samples[1]["labels"] == 255).all()


def test_street_maps_both_sources_to_camvid_classes(street, tmp_path):
    assert prepare("street", street, tmp_path / "out", progress=False) == {"train": 4, "dev": 1, "report": 0}
    rows = load_inpainting_dataset(str(tmp_path / "out"), "train")
    names = DATASETS["street"].classes
    assert np.array_equal(np.array(rows[0]["label"]), numbers(0, 1, 8, 255))
    building, tree = names.index("building"), names.index("tree")
    assert np.array_equal(np.array(rows[1]["label"]), numbers(building, building, tree, 255))
    groups = [row["group"] for row in rows]
    assert groups[0] == "camvid/0006R0"
    assert groups[1] == groups[2] == "labelmefacade/album__p10"  # shots 10 and 12 are one run, 17 is another
    assert groups[3] == "labelmefacade/album__p17"


def test_our_street_lists_split_by_drive_and_by_run(tmp_path):
    (tmp_path / "camvid").mkdir()
    splits = list_items("street", tmp_path, None, DATASETS["street"])
    assert {split: len(items) for split, items in splits.items()} == {"train": 1053, "dev": 82, "report": 173}
    groups = {split: {item.group for item in items} for split, items in splits.items()}
    assert not groups["train"] & groups["dev"]
    assert not groups["train"] & groups["report"]
    assert not groups["dev"] & groups["report"]
    assert len({item.id for items in splits.values() for item in items}) == 1308


def test_prepared_photos_have_the_papers_shorter_side(tmp_path):
    source = tmp_path / "source"
    for name, (height, width) in {"large": (300, 500), "fitting": (256, 300), "small": (100, 120)}.items():
        save(source / "train" / "images" / f"{name}.png", photo(1, height, width))
        save(source / "train" / "labels" / f"{name}.png", numbers(1, 2, height=height, width=width))
    prepare("outdoor_scenes", source, tmp_path / "out", progress=False)
    rows = {row["id"]: row for row in load_inpainting_dataset(str(tmp_path / "out"), "train")}
    assert {name: row["image"].size for name, row in rows.items()} == {
        "train/large": (427, 256),
        "train/fitting": (300, 256),
        "train/small": (120, 100),
    }
    assert all(row["label"].size == row["image"].size for row in rows.values())
    assert set(np.unique(np.array(rows["train/large"]["label"]))) == {1, 2}


def test_photos_that_fit_keep_their_bytes(tmp_path):
    make_outdoor_scenes(tmp_path / "source")
    prepare("outdoor_scenes", tmp_path / "source", tmp_path / "out", progress=False)
    table = pyarrow.parquet.read_table(next((tmp_path / "out").glob("train-*.parquet")))
    stored = table["image"][0].as_py()["bytes"]
    assert stored == (tmp_path / "source/train/images/one.png").read_bytes()


def test_turned_photos_are_stored_upright(tmp_path):
    make_outdoor_scenes(tmp_path / "source")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:20] = 255
    Image.fromarray(pixels).save(tmp_path / "source/train/images/one.png", exif=exif)
    prepare("outdoor_scenes", tmp_path / "source", tmp_path / "out", progress=False)
    table = pyarrow.parquet.read_table(next((tmp_path / "out").glob("train-*.parquet")))
    stored = Image.open(io.BytesIO(table["image"][0].as_py()["bytes"]))
    assert stored.size == (60, 40)
    assert stored.getexif().get(0x0112, 1) == 1
    assert np.array(stored)[:, -10:].mean() > 250 > 5 > np.array(stored)[:, :30].mean()


def test_broken_files_are_refused_by_name(street, tmp_path):
    (street / "camvid/train/0006R0_f1.jpg").write_bytes(b"not a photo")
    (street / "labelmefacade/images/album__p10.jpg").unlink()
    save(street / "labelmefacade/labels/album__p12.png", colours("sky", height=10, width=20))
    unknown = colours("sky", "road")
    unknown[0, 0] = (1, 2, 3)
    save(street / "labelmefacade/labels/album__p17.png", unknown)
    with pytest.raises(BrokenFilesError) as caught:
        prepare("street", street, tmp_path / "out", progress=False)
    message = str(caught.value)
    assert len(caught.value.problems) == 4
    for reason in (
        "0006R0_f1.jpg: not a readable photo",
        "album__p10.jpg: photo is missing",
        "album__p12.png: label of 20x10 for a photo of 60x40",
        "album__p17.png: unknown label colours 1:2:3",
    ):
        assert reason in message
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["dev-00000-of-00001.parquet"]


def test_a_truncated_photo_is_refused(street, tmp_path):
    path = street / "camvid/train/0006R0_f1.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(BrokenFilesError, match=r"0006R0_f1\.jpg: not a readable photo"):
        prepare("street", street, tmp_path / "out", progress=False)


def test_sixteen_bit_photos_are_refused(tmp_path):
    make_outdoor_scenes(tmp_path / "source")
    Image.fromarray(np.full((40, 60), 40000, np.uint16)).save(tmp_path / "source/train/images/one.png")
    with pytest.raises(BrokenFilesError, match=r"one\.png: a photo of more than 8 bits"):
        prepare("outdoor_scenes", tmp_path / "source", tmp_path / "out", progress=False)


def test_unknown_grey_values_are_refused():
    code = {0: 0, 1: 1, 255: 255}
    assert np.array_equal(encode_labels(numbers(0, 1, 255), code), numbers(0, 1, 255))
    with pytest.raises(ValueError, match="unknown label values 7, 9"):
        encode_labels(numbers(0, 7, 9), code)
    with pytest.raises(ValueError, match="class numbers"):
        encode_labels(colours("sky"), code)


def test_a_restart_keeps_finished_shards(street, tmp_path):
    out = tmp_path / "out"
    broken = street / "labelmefacade/images/album__p17.jpg"
    content = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(BrokenFilesError):
        prepare("street", street, out, shard_rows=2, progress=False)
    first = out / "train-00000-of-00002.parquet"
    kept = first.stat()
    assert not (out / "train-00001-of-00002.parquet").exists()

    broken.write_bytes(content)
    assert prepare("street", street, out, shard_rows=2, progress=False)["train"] == 4
    assert first.stat().st_ino == kept.st_ino
    assert first.stat().st_mtime_ns == kept.st_mtime_ns
    assert len(load_inpainting_dataset(str(out), "train")) == 4


def test_a_restart_writes_again_what_changed_or_was_damaged(street, tmp_path):
    out = tmp_path / "out"
    prepare("street", street, out, shard_rows=2, progress=False)
    names = sorted(path.name for path in out.glob("*.parquet"))
    before = {name: (out / name).stat().st_mtime_ns for name in names}
    save(street / "camvid/train/0006R0_f1.jpg", photo(99))
    damaged = out / "dev-00000-of-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    prepare("street", street, out, shard_rows=2, progress=False)
    changed = {name for name in names if (out / name).stat().st_mtime_ns != before[name]}
    assert changed == {"train-00000-of-00002.parquet", "dev-00000-of-00001.parquet"}
    assert len(load_inpainting_dataset(str(out), "dev")) == 1


def test_other_shard_sizes_leave_no_stale_shards(street, tmp_path):
    out = tmp_path / "out"
    prepare("street", street, out, shard_rows=1, progress=False)
    prepare("street", street, out, shard_rows=9, progress=False)
    assert len(load_inpainting_dataset(str(out), "train")) == 4
    assert len(list(out.glob("train-*.parquet"))) == 1


def test_a_folder_with_nothing_of_a_data_set_is_told_its_layout(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No photos found in .*expected as: camvid/\{train,val\}/"):
        prepare("street", tmp_path, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_foreign_parquet_files_are_left_alone(street, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train-mine.parquet").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"train-mine\.parquet"):
        prepare("street", street, out, progress=False)
    assert (out / "train-mine.parquet").read_bytes() == b"mine"


def killed_in_the_second_shard(source, out):
    write = prepare_module._write_file

    def write_half(path, content):
        if path.name.startswith("train-00001"):
            path.with_name(f".{path.name}.1.partial").write_bytes(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    prepare_module._write_file = write_half
    prepare("street", source, out, shard_rows=2, progress=False)


def test_a_kill_leaves_no_half_written_file(street, tmp_path):
    """Killed in the middle of the second shard: the first is whole, the second absent, and a restart finishes."""
    out = tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=killed_in_the_second_shard, args=(street, out))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    first = out / "train-00000-of-00002.parquet"
    assert list(out.glob("*.parquet")) == [first]
    assert pyarrow.parquet.read_table(first).num_rows == 2
    written = first.stat().st_mtime_ns
    prepare("street", street, out, shard_rows=2, progress=False)
    assert first.stat().st_mtime_ns == written
    assert not list(out.glob(".*.partial"))
    assert len(load_inpainting_dataset(str(out), "train")) == 4


def test_the_same_source_gives_the_same_bytes(street, tmp_path):
    for name in ("one", "other"):
        prepare("street", street, tmp_path / name, progress=False)
    hashes = {
        name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).glob("[!.]*")}
        for name in ("one", "other")
    }
    assert hashes["one"] == hashes["other"]


def test_the_card_tells_datasets_the_splits(street, tmp_path):
    prepare("street", street, tmp_path / "out", progress=False)
    card = (tmp_path / "out/README.md").read_text()
    assert "| 8 | car | 64:0:128 |" in card
    assert DATASETS["street"].license_note in card
    rows = datasets.load_dataset(str(tmp_path / "out"), split="dev")
    assert rows.num_rows == 1
    assert json.loads((tmp_path / "out/dataset.json").read_text())["splits"] == {"train": 4, "dev": 1, "report": 0}


def test_own_photos_need_no_labels_but_every_label_needs_a_photo(tmp_path):
    make_folders(tmp_path / "source")
    save(tmp_path / "source/train/images/y.png", photo(9))
    assert prepare("folders", tmp_path / "source", tmp_path / "out") == {"train": 2, "val": 1}
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labelled"] == {"train": 1, "val": 1}
    assert "| train | 2 | 1 |" in (tmp_path / "out/README.md").read_text()
    assert [row["label"] is None for row in load_inpainting_dataset(str(tmp_path / "out"), "train")] == [False, True]
    save(tmp_path / "source/train/images/y.10.jpg", photo(9))
    save(tmp_path / "source/train/labels/y.10.png", numbers(0, 1, 255))
    prepare("folders", tmp_path / "source", tmp_path / "out")
    assert json.loads((tmp_path / "out/dataset.json").read_text())["labelled"] == {"train": 2, "val": 1}
    for name in ("Y.png", "y.tif"):
        save(tmp_path / "source/train/labels" / name, numbers(0, 1, 255))
        with pytest.raises(ValueError, match=f"{name} is the label of no photo"):
            prepare("folders", tmp_path / "source", tmp_path / "again")
        (tmp_path / "source/train/labels" / name).unlink()


def test_wrong_sources_say_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="Unknown data set 'ade20k'"):
        prepare("ade20k", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="nothing to prepare for 'toy'"):
        prepare("toy", tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="leftImg8bit"):
        prepare("cityscapes", tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"classes\.txt"):
        prepare("folders", tmp_path, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"train\.txt"):
        prepare("labelmefacade", tmp_path, tmp_path / "out")


# Loading


@pytest.fixture(scope="module")
def toy_rows():
    return load_inpainting_dataset("toy:6", "train")


def test_toy_splits_are_different_scenes(toy_rows):
    assert len(toy_rows) == 6
    dev = load_inpainting_dataset("toy:6", "dev")
    assert len(dev) == 2
    assert not set(toy_rows["id"]) & set(dev["id"])
    labels = np.array(toy_rows[0]["label"])
    assert labels.shape == (256, 256)
    assert set(np.unique(labels)) <= set(dataset_spec("toy:6").id2label)
    with pytest.raises(ValueError, match="toy has the splits"):
        load_inpainting_dataset("toy:6", "val")
    with pytest.raises(ValueError, match="COUNT"):
        load_inpainting_dataset("toy:many", "train")


def test_folders_are_paired_by_name(tmp_path):
    save(tmp_path / "photos/b.jpg", photo(1))
    save(tmp_path / "photos/a.png", photo(2))
    save(tmp_path / "labels/a.png", numbers(0, 1))
    name = f"folders:{tmp_path / 'photos'}:{tmp_path / 'labels'}"
    with pytest.raises(FileNotFoundError, match=r"b\.png"):
        load_inpainting_dataset(name, "train")
    save(tmp_path / "labels/b.png", numbers(1, 0))
    rows = load_inpainting_dataset(name, "train")
    assert rows["id"][:] == ["a", "b"]
    assert np.array_equal(np.array(rows[1]["label"]), numbers(1, 0))
    (tmp_path / "classes.txt").write_text("wall\nroof\n")
    assert dataset_spec(name).id2label == {0: "wall", 1: "roof"}
    unlabelled = load_inpainting_dataset(f"folders:{tmp_path / 'photos'}", "train")
    assert unlabelled[0]["label"] is None


def test_other_data_sets_get_ids_and_lose_categories(tmp_path):
    """An image folder without metadata calls its sub-folders `label`; those are no label pictures."""
    for category in ("cats", "dogs"):
        save(tmp_path / "set/train" / category / "one.png", photo(1))
    rows = load_inpainting_dataset(str(tmp_path / "set"), "train")
    assert set(rows.column_names) == {"image", "id", "group"}
    assert rows["id"][:] == rows["group"][:] == ["0", "1"]
    sample = InpaintingDataset(rows, size=32, resize_shorter=32, num_labels=1)[0]
    assert float(sample["has_labels"]) == 0.0


def test_what_cannot_be_loaded_is_explained(street, tmp_path):
    prepare("street", street, tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match="no split 'val', but dev, train"):
        load_inpainting_dataset(str(tmp_path / "out"), "val")
    with pytest.raises(FileNotFoundError, match="sgenet prepare"):
        load_inpainting_dataset(str(tmp_path / "nowhere"), "train")
    with pytest.raises(ValueError, match="one split"):
        load_inpainting_dataset("folders:a:b", "dev")
    with pytest.raises(ValueError, match=r"dataset\.json"):
        dataset_spec(str(tmp_path))


@pytest.mark.parametrize("read", [lambda name: load_inpainting_dataset(name, "train"), dataset_spec])
def test_a_folder_that_is_not_there_is_not_only_sought_on_the_hub(read):
    with pytest.raises(FileNotFoundError, match="No folder data/nowhere here, and no data set of that name"):
        read("data/nowhere")


# Samples


def digest(sample):
    return hashlib.sha256(b"".join(sample[name].numpy().tobytes() for name in sorted(sample))).hexdigest()


def make_samples(rows, **options):
    options = {"size": 64, "resize_shorter": 128, "scale_range": (0.5, 1.0), "num_labels": 7, "seed": 5} | options
    return InpaintingDataset(rows, prompt_share=0.5, **options)


def test_samples_have_the_promised_tensors(toy_rows):
    batch = collate([make_samples(toy_rows)[index] for index in range(3)])
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "pixel_values": ((3, 3, 64, 64), torch.float32),
        "mask": ((3, 1, 64, 64), torch.float32),
        "labels": ((3, 64, 64), torch.int64),
        "has_labels": ((3,), torch.float32),
        "semantic_prompt": ((3, 64, 64), torch.int64),
        "index": ((3,), torch.int64),
    }
    assert batch["pixel_values"].min() >= -1
    assert batch["pixel_values"].max() <= 1
    assert batch["pixel_values"].std() > 0.2
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    assert batch["index"].tolist() == [0, 1, 2]


def test_a_sample_depends_on_seed_epoch_and_index_only(toy_rows):
    samples = make_samples(toy_rows)
    first = [digest(samples[index]) for index in range(6)]
    assert [digest(samples[index]) for index in reversed(range(6))] == first[::-1]
    assert [digest(make_samples(toy_rows)[index]) for index in range(6)] == first
    samples.set_epoch(1)
    second = [digest(samples[index]) for index in range(6)]
    assert not set(first) & set(second)
    samples.set_epoch(0)
    assert [digest(samples[index]) for index in range(6)] == first
    assert digest(make_samples(toy_rows, seed=6)[0]) != first[0]
    assert digest(samples[-1]) == first[-1]
    with pytest.raises(IndexError):
        samples[6]


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_give_the_same_samples_in_every_epoch(toy_rows, context):
    """Persistent workers hold copies of the data set: a new epoch must reach them."""
    samples = make_samples(toy_rows)
    loader = torch.utils.data.DataLoader(
        samples,
        batch_size=2,
        num_workers=2,
        collate_fn=collate,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for epoch in (0, 3):
        samples.set_epoch(epoch)
        batches = [digest(batch) for batch in loader]
        assert batches == [digest(collate([samples[2 * n], samples[2 * n + 1]])) for n in range(3)]


def gradient_rows(height, width):
    """A photo whose colours are its coordinates, with labels that repeat them."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    labels = ((rows // 16 + columns // 16) % 4).astype(np.uint8)
    return [{"image": Image.fromarray(picture), "label": Image.fromarray(labels), "id": "x", "group": "x"}]


def test_crops_of_unscaled_photos_are_exact():
    rows = gradient_rows(128, 160)
    source, labels = np.array(rows[0]["image"]), np.array(rows[0]["label"])
    samples = InpaintingDataset(rows, size=64, resize_shorter=128, num_labels=4)
    mirrored = 0
    for epoch in range(12):
        samples.set_epoch(epoch)
        sample = samples[0]
        pixels = ((sample["pixel_values"].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        if pixels[0, 0, 1] > pixels[0, -1, 1]:
            mirrored += 1
            pixels, sample["labels"] = pixels[:, ::-1], sample["labels"].flip(-1)
        top, left = pixels[0, 0, :2]
        window = slice(top, top + 64), slice(left, left + 64)
        assert np.array_equal(pixels, source[window])
        assert np.array_equal(sample["labels"].numpy(), labels[window])
    assert 2 <= mirrored <= 10


def test_scaled_crops_keep_photo_and_labels_together():
    rows = gradient_rows(200, 240)
    rows[0]["image"] = Image.fromarray((np.array(rows[0]["label"]) * 60).astype(np.uint8)).convert("RGB")
    samples = InpaintingDataset(rows, size=64, resize_shorter=128, scale_range=(0.5, 1.0), num_labels=4)
    for epoch in range(6):
        samples.set_epoch(epoch)
        sample = samples[0]
        shown = (sample["pixel_values"][0] + 1) * 127.5 / 60
        assert (shown - sample["labels"]).abs().median() < 0.1
        assert (shown.round() == sample["labels"]).float().mean() > 0.75


def test_photos_come_nearer_and_are_stretched_together_with_their_labels():
    rows = gradient_rows(200, 240)
    label = np.array(rows[0]["label"])
    rows[0]["image"] = Image.fromarray((label * 60).astype(np.uint8)).convert("RGB")
    samples = InpaintingDataset(
        rows, size=64, resize_shorter=100, scale_range=(1.0, 2.0), stretch=0.5, num_labels=4, mask_mix={"boxes": 1}
    )
    widths, heights = [], []
    for epoch in range(24):
        samples.set_epoch(epoch)
        sample = samples[0]
        shown = ((sample["pixel_values"][0] + 1) * 127.5 / 60).round()
        assert (shown == sample["labels"]).float().mean() > 0.75
        for sizes, steps in ((widths, sample["labels"].diff(dim=1)), (heights, sample["labels"].diff(dim=0))):
            changes = (steps != 0).float().mean().item()  # a cell of 16 px in 200 makes one change every 8 to 16 px
            sizes.append(1 / changes)
    assert 6 < min(widths + heights) < 8, "stretched, and never shrunk below scale 1 by more than that"
    assert 14 < max(widths + heights) < 22, "enlarged beyond scale 1"
    ratios = np.array(widths) / heights
    assert ratios.min() > 0.5 and ratios.max() < 2 and ratios.std() > 0.1


def test_photos_stay_larger_than_the_crop_however_they_are_stretched():
    samples = InpaintingDataset(gradient_rows(64, 64), size=64, resize_shorter=64, stretch=0.9, num_labels=4)
    for epoch in range(8):
        samples.set_epoch(epoch)
        assert samples[0]["pixel_values"].shape == (3, 64, 64)


def test_paint_changes_hue_and_saturation_but_not_luma():
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 180, (8, 8, 3)).astype(np.uint8)
    assert np.array_equal(recolor(pixels, np.random.default_rng(0), 0.0), pixels)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(10):
        painted = recolor(pixels, np.random.default_rng(seed), 1.0)
        unclipped = ((painted > 0) & (painted < 255)).all(axis=-1)
        assert np.abs(painted @ luma - pixels @ luma)[unclipped].max() < 1.0
        assert np.abs(painted.astype(int) - pixels).mean() > 1
        assert np.abs(recolor(grey, np.random.default_rng(seed), 1.0).astype(int) - grey).max() <= 1


@pytest.mark.parametrize("option", ["stretch", "recoloring"])
def test_judged_photos_are_as_they_are(toy_rows, option):
    options = {"size": 64, "num_labels": 7, "train": False}
    judged = InpaintingDataset(toy_rows, **{option: 0.9}, **options)[0]
    assert torch.equal(judged["pixel_values"], InpaintingDataset(toy_rows, **options)[0]["pixel_values"])


def test_light_changes_the_photo_and_nothing_else(toy_rows):
    options = {"size": 64, "num_labels": 7, "mask_mix": {"boxes": 1}}
    plain = InpaintingDataset(toy_rows, **options)[0]
    relit = InpaintingDataset(toy_rows, photometric=1.0, **options)[0]
    assert (plain["pixel_values"] - relit["pixel_values"]).abs().mean() > 0.02
    for name in ("labels", "mask"):
        assert torch.equal(plain[name], relit[name])
    judged = InpaintingDataset(toy_rows, photometric=1.0, train=False, **options)[0]
    assert torch.equal(judged["pixel_values"], InpaintingDataset(toy_rows, train=False, **options)[0]["pixel_values"])


def test_relit_photos_keep_their_order_of_brightness():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(20):
        relit = relight(ramp, np.random.default_rng(seed), 1.0)[0].astype(int)
        assert (np.diff(relit, axis=0) >= 0).all()
    assert np.array_equal(relight(ramp, np.random.default_rng(0), 0.0), ramp)


def test_classes_are_counted_without_void(toy_rows):
    label = Image.new("L", (64, 64), 1)
    label.paste(3, (0, 0, 32, 32))
    label.paste(255, (32, 32, 64, 64))
    row = {"image": Image.new("RGB", (64, 64)), "label": label, "id": "a", "group": "a"}
    samples = InpaintingDataset([row, row], size=64, resize_shorter=64, num_labels=4)
    assert class_counts(samples).tolist() == [0, 4096, 0, 2048]
    assert (
        class_counts(InpaintingDataset([row], size=64, resize_shorter=64, num_labels=4, ignore_index=3)).sum() == 2048
    )
    unlabelled = InpaintingDataset([{**row, "label": None}], size=64, resize_shorter=64, num_labels=4)
    with pytest.raises(ValueError, match="class_balance"):
        class_counts(unlabelled)
    labeller = lambda photos: torch.full((len(photos), *photos.shape[-2:]), 2)  # noqa: E731
    assert class_counts(unlabelled, labeller=labeller).tolist() == [0, 0, 4096, 0]
    assert class_counts(samples, labeller=labeller).tolist() == [0, 4096, 0, 2048]
    assert class_counts(samples, labeller=labeller, labeller_only=True).tolist() == [0, 0, 8192, 0]
    smaller = InpaintingDataset([row], size=32, resize_shorter=64, num_labels=4)  # stored labels are whole photos
    assert class_counts(smaller, labeller=labeller, labeller_only=True).tolist() == [0, 0, 4096, 0]


def test_missing_shards_are_noticed(street, tmp_path):
    out = tmp_path / "street"
    prepare("street", street, out, shard_rows=2, progress=False)
    (out / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ValueError, match=r"1 of 2 shards of 'train'"):
        load_inpainting_dataset(str(out), "train")


def test_labels_beyond_the_classes_are_refused_by_id():
    row = {"image": Image.new("RGB", (32, 32)), "label": Image.new("L", (32, 32), 9), "id": "odd", "group": "a"}
    with pytest.raises(ValueError, match="'odd' holds class 9, but there are 4"):
        InpaintingDataset([row], size=32, resize_shorter=32, num_labels=4)[0]


def test_a_description_of_another_version_says_to_prepare_again(street, tmp_path):
    out = tmp_path / "street"
    prepare("street", street, out, progress=False)
    facts = json.loads((out / "dataset.json").read_text())
    del facts["classes"]
    (out / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="prepare it again"):
        dataset_spec(str(out))


def test_evaluation_takes_the_centre_of_the_whole_photo():
    rows = gradient_rows(128, 160)
    options = {"size": 64, "resize_shorter": 128, "num_labels": 4, "train": False, "scale_range": (0.5, 1.0)}
    samples = InpaintingDataset(rows, evaluation_mask="centre-24", **options)
    sample = samples[0]
    pixels = ((sample["pixel_values"].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    assert np.array_equal(pixels, np.array(rows[0]["image"])[32:96, 48:112])
    assert sample["mask"].sum() == 24 * 24
    assert sample["mask"][0, 20:44, 20:44].all()
    assert (sample["semantic_prompt"] == -1).all()
    samples.set_epoch(4)
    assert digest(samples[0]) == digest(sample)


def test_prompts_come_in_the_asked_share_and_agree_with_the_labels(toy_rows):
    samples = make_samples(toy_rows)
    prompted = []
    for epoch in range(10):
        samples.set_epoch(epoch)
        for index in range(6):
            sample = samples[index]
            given = sample["semantic_prompt"] >= 0
            prompted.append(bool(given.any()))
            assert torch.equal(sample["semantic_prompt"][given], sample["labels"][given])
            assert (sample["mask"][0][given] == 1).all()
    assert 0.3 < np.mean(prompted) < 0.7
    plain = InpaintingDataset(toy_rows, size=64, resize_shorter=128, num_labels=7)
    assert all((plain[index]["semantic_prompt"] == -1).all() for index in range(6))


def test_a_counterfactual_prompt_names_one_of_the_classes_in_the_hole(toy_rows):
    options = {"size": 64, "resize_shorter": 128, "num_labels": 7}
    samples = InpaintingDataset(toy_rows, **options, counterfactual_share=0.5, counterfactual_classes=[2, 5])
    plain = InpaintingDataset(toy_rows, **options)
    asked, whole = [], []
    for epoch in range(10):
        samples.set_epoch(epoch)
        for index in range(6):
            sample = samples[index]
            prompt, hole = sample["semantic_prompt"], sample["mask"][0] > 0
            given = prompt >= 0
            asked.append(set(prompt[given].tolist()))
            assert len(asked[-1]) <= 1 and asked[-1] <= {2, 5}
            assert not (given & ~hole).any()
            if asked[-1]:
                whole.append(torch.equal(given, hole))
    assert 0.3 < np.mean([bool(classes) for classes in asked]) < 0.7
    assert {2} in asked and {5} in asked and {True, False} == set(whole)
    samples.set_epoch(0)
    assert torch.equal(samples[0]["pixel_values"], plain[0]["pixel_values"]), "only the prompt is another one"
    with pytest.raises(ValueError, match="counterfactual_share is a share"):
        InpaintingDataset(toy_rows, **options, counterfactual_share=1.5)


def test_windows_show_their_class():
    """Photos whose colour is their label; class 3 is nowhere, class 2 only in strips too narrow for a window."""
    rows = []
    for index in range(4):
        label = np.zeros((64, 96), np.uint8)
        label[:, 48:] = 1
        label[:6] = 2
        photo = np.stack([40 * label] * 3, axis=2)
        rows.append({"image": Image.fromarray(photo), "label": Image.fromarray(label), "id": str(index)})
    samples = InpaintingDataset(rows, size=64, resize_shorter=64, num_labels=4)
    windows = class_textures(samples, [0, 1, 2, 3], side=24, each=3)
    assert {index: tuple(of_class.shape) for index, of_class in windows.items()} == {
        index: (3, 3, 24, 24) for index in (0, 1)
    }
    for index, of_class in windows.items():
        right = (of_class.add(1).mul(127.5).round() == 40 * index).float().mean(dim=(1, 2, 3))
        assert (right >= 0.9).all()


def test_classes_are_named_not_numbered():
    spec = dataset_spec("toy:4")
    assert spec.ids_of(None) is None
    assert spec.ids_of([spec.classes[3], spec.classes[0]]) == [3, 0]
    with pytest.raises(ValueError, match="has no class dragon; it has"):
        spec.ids_of(["dragon"])


def test_another_ignore_index_becomes_255():
    rows = gradient_rows(64, 64)
    sample = InpaintingDataset(rows, size=64, resize_shorter=64, num_labels=4, ignore_index=3)[0]
    assert set(sample["labels"].unique().tolist()) == {0, 1, 2, 255}


def test_colour_labels_and_labels_of_another_size_are_refused_by_id():
    rows = gradient_rows(64, 64)
    rows[0]["label"] = rows[0]["image"]
    with pytest.raises(ValueError, match="'x' is a colour image"):
        InpaintingDataset(rows, size=64, resize_shorter=64, num_labels=4)[0]
    rows[0]["label"] = Image.new("L", (32, 64))
    with pytest.raises(ValueError, match=r"'x' is \(32, 64\), its photo \(64, 64\)"):
        InpaintingDataset(rows, size=64, resize_shorter=64, num_labels=4)[0]


def test_impossible_settings_are_refused():
    rows = gradient_rows(64, 64)
    with pytest.raises(ValueError, match="Crops of 256"):
        InpaintingDataset(rows, size=256, resize_shorter=128, num_labels=4)
    with pytest.raises(ValueError, match="scale_range"):
        InpaintingDataset(rows, scale_range=(1.0, 0.5), num_labels=4)
    with pytest.raises(ValueError, match="prompt_share"):
        InpaintingDataset(rows, prompt_share=15, num_labels=4)
    with pytest.raises(ValueError, match="stretch is 0 or more"):
        InpaintingDataset(rows, stretch=1.0, num_labels=4)
    with pytest.raises(ValueError, match="recoloring is a strength"):
        InpaintingDataset(rows, recoloring=-1, num_labels=4)
    with pytest.raises(ValueError, match="Unknown kinds of mask"):
        InpaintingDataset(rows, mask_mix={"squares": 1}, num_labels=4)


# Streams


def stream_ids(loader):
    return [number for batch in loader for number in batch["index"].tolist()]


def test_streams_give_every_row_once_shared_out_among_workers(street, tmp_path):
    prepare("street", street, tmp_path / "out", shard_rows=1, progress=False)
    rows = load_inpainting_dataset(str(tmp_path / "out"), "train", streaming=True)
    # Without shuffling: `datasets` waits five seconds at the end of a shuffled parquet stream.
    samples = IterableInpaintingDataset(rows, size=32, resize_shorter=40, num_labels=11, shuffle_buffer=0)
    options = {"batch_size": 1, "collate_fn": collate}
    alone = stream_ids(torch.utils.data.DataLoader(samples, **options))
    shared = stream_ids(torch.utils.data.DataLoader(samples, num_workers=2, **options))
    assert len(set(alone)) == len(alone) == 4
    assert sorted(shared) == sorted(alone)


def test_streamed_samples_depend_on_row_and_epoch_not_on_their_place(toy_rows):
    rows = toy_rows.to_iterable_dataset()
    options = {"size": 32, "resize_shorter": 64, "num_labels": 7}
    plain = IterableInpaintingDataset(rows, shuffle_buffer=0, **options)
    shuffled = IterableInpaintingDataset(rows, shuffle_buffer=6, **options)
    first = {int(sample["index"]): digest(sample) for sample in plain}
    assert {int(sample["index"]): digest(sample) for sample in shuffled} == first
    assert len(first) == 6
    orders = []
    for epoch in range(4):
        shuffled.set_epoch(epoch)
        orders.append(tuple(int(sample["index"]) for sample in shuffled))
    assert len(set(orders)) > 1
    assert digest(next(iter(shuffled))) not in first.values()


def test_toy_streams_are_the_same_scenes(toy_rows):
    streamed = next(iter(load_inpainting_dataset("toy:6", "train", streaming=True)))
    assert np.array_equal(np.array(streamed["image"]), np.array(toy_rows[0]["image"]))
    assert streamed["id"] == toy_rows[0]["id"]


def test_streams_without_ids_get_them(tmp_path):
    save(tmp_path / "set/train/a.png", photo(1))
    save(tmp_path / "set/train/b.png", photo(2))
    rows = load_inpainting_dataset(str(tmp_path / "set"), "train", streaming=True)
    assert sorted(row["id"] for row in rows) == ["0", "1"]


# The real street data, where they are


def test_the_real_street_data(test_data_folder, tmp_path):
    """Counts and sizes of the whole set; bytes of three photos."""
    source = Path(test_data_folder) / "data"
    if not (source / "camvid").is_dir():
        pytest.skip(f"{source} holds no street data")
    splits = list_items("street", source, source / "street_splits", DATASETS["street"])
    ours = list_items("street", source, None, DATASETS["street"])
    assert splits == ours
    items = [item for split in splits.values() for item in split]
    assert all(item.image.is_file() and item.label.is_file() for item in items)
    for item in (items[0], items[500], items[-1]):
        row, problem = prepare_module._row(item, DATASETS["street"], 256)
        assert not problem
        assert min(decode_image(row["image"]).size) == 256
        assert decode_image(row["label"]).size == decode_image(row["image"]).size
        labels = np.array(decode_image(row["label"]))
        assert set(np.unique(labels)) <= {*range(11), 255}
