"""Many photos: every one gets a row, the doubtful ones first, and one bad file spoils nothing."""

import csv
import zipfile

import numpy as np
from PIL import Image

from sgenet_hf import Inpainter
from sgenet_hf.batches import COLUMNS, fill_each, sort_rows, write_scores, write_zip


def test_a_batch(tiny_model, photo, mask, tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for folder in (photos, masks, tmp_path / "out"):
        folder.mkdir()
    for name in ("a.png", "twice.png", "twice.bmp", "alone.png", "small.png"):
        photo.save(photos / name)
    photo.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(photos / "b.png")
    (photos / "text.png").write_text("no picture")
    for stem in ("a", "b", "twice", "text"):
        mask.save(masks / f"{stem}.png")
    Image.new("L", photo.size).save(masks / "a.png")
    mask.resize((40, 30)).save(masks / "small.png")

    inpainter = Inpainter(tiny_model)
    rows = sort_rows([*fill_each(inpainter, sorted(photos.iterdir()), sorted(masks.iterdir()), tmp_path / "out")])
    assert [row.photo for row in rows[:2]] == ["b.png", "a.png"], "what was filled, then what needed no filling"
    expected = inpainter(photos / "b.png", masks / "b.png")
    assert rows[0].confidence == expected.score and rows[1].confidence is None
    assert rows[0].expected_error == expected.expected_error and rows[0].cells()[2] == f"{expected.expected_error:.1f}"
    assert rows[1].cells()[2] == ""
    notes = {row.photo: row.note for row in rows[2:]}
    assert "needs one mask named alone.*" in notes["alone.png"] and "not an image" in notes["text.png"]
    assert "40x30" in notes["small.png"] and "resize" not in notes["small.png"]
    assert "share a name" in notes["twice.png"] and "share a name" in notes["twice.bmp"]

    scores = write_scores(rows, tmp_path / "scores.csv")
    with scores.open(newline="", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table == [list(COLUMNS), *(row.cells() for row in rows)]
    with zipfile.ZipFile(write_zip(rows, scores, tmp_path / "filled.zip")) as archive:
        assert archive.namelist() == ["scores.csv", f"001_{expected.score:.3f}_b.png", "002_unchanged_a.png"]
        filled = np.asarray(Image.open(archive.open(archive.namelist()[1])))
    assert np.array_equal(filled, np.asarray(expected.image))
