"""PSNR against the distance of features: which dots are drawn, and names that do not cover each other."""

import json

import pytest
from PIL import Image, ImageDraw

from eval.front import Dot, Place, dots_of, main
from eval.plots import COLOURS, free_place, scatter


def line(system, psnr, distance, masks="centre-24"):
    place = {"data": "toy", "split": "report", "masks": masks, "domain": "all"}
    return place | {"system": system, "hole_psnr": psnr, "FD-tiny": distance}


def record(*lines, size=64):
    masks = {entry["masks"] for entry in lines}
    return {
        "results": list(lines),
        "sets": [{"data": "toy", "split": "report", "masks": name, "size": size} for name in masks],
    }


TELEA, STREET = line("telea", 15.0, 200.0), line("street", 14.0, 90.0)
SMOOTH = line("street{noise_strength: 0}", 15.5, 120.0)
CENTRE = Place("toy", "report", "centre-24", 64, "all", "FD-tiny")


def test_dots_are_systems_with_both_scores():
    labels_only = line("nearest_label", None, None)
    results = record(TELEA, STREET, SMOOTH, line("truth", 99.0, 0.0), labels_only, line("street", 16.0, 95.0, "boxes"))
    assert dots_of([results])[CENTRE] == {"telea": Dot(200.0, 15.0), "street": Dot(90.0, 14.0)}
    assert dots_of([results], asides=True)[CENTRE].keys() == {"telea", "street", "street{noise_strength: 0}"}
    assert len(dots_of([results])) == 2


def test_two_networks_of_one_name_are_refused_and_sizes_kept_apart():
    again = record(line("telea", 15.0001, 200.0), line("mine", 13.0, 80.0))
    assert dots_of([record(TELEA, STREET), again])[CENTRE].keys() == {"telea", "street", "mine"}
    with pytest.raises(ValueError, match="street is 14.00 dB in one file and 14.30 dB in another"):
        dots_of([record(STREET), record(line("street", 14.3, 90.0))])
    assert len(dots_of([record(STREET), record(line("street", 14.3, 90.0), size=128)])) == 2
    others = record(TELEA, STREET), record(line("street", 14.3, 90.0))
    assert dots_of(others, systems=["telea"]) == {CENTRE: {"telea": Dot(200.0, 15.0)}}


def test_one_place_of_several_files_is_drawn(tmp_path, capsys):
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    for path, entry in zip(files, (TELEA, STREET), strict=True):
        with open(path, "w") as file:
            json.dump(record(entry), file)
    out = tmp_path / "front.png"
    assert main([*files, "--masks", "centre-24", "--domain", "all", "--out", str(out)]) == 0
    colours = {colour for _, colour in Image.open(out).convert("RGB").getcolors(maxcolors=10**6)}
    assert {*COLOURS[:2]} <= colours and COLOURS[2] not in colours, "a dot for each of two systems"
    with pytest.raises(SystemExit):
        main([*files, "--masks", "centre-99", "--domain", "all", "--out", str(tmp_path / "none.png")])
    assert "hold: toy report centre-24 at 64 px all (FD-tiny)" in capsys.readouterr().err
    wrong = ["--masks", "centre-24", "--domain", "all", "--out", str(tmp_path / "none.png"), "--systems"]
    with pytest.raises(SystemExit):
        main([*files, *wrong, "telea", "bogus"])
    assert "There is no bogus there, but telea" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_names_at_one_spot_do_not_cover_each_other():
    pen = ImageDraw.Draw(Image.new("RGB", (200, 200)))
    taken = [(94.0, 96.0, 102.0, 104.0)]  # the dot
    shifts = []
    for name in ("sgenet_seed1", "sgenet_seed2", "sgnet", "telea"):
        shift, box = free_place(pen, (106, 100), name, "lm", taken)
        assert box == pytest.approx(
            [value + shift * (place % 2) for place, value in enumerate(pen.textbbox((106, 100), name, anchor="lm"))]
        )
        shifts.append(abs(shift))
        taken.append(box)
    for number, one in enumerate(taken):
        for other in taken[:number]:
            assert one[3] <= other[1] or other[3] <= one[1] or one[0] >= other[2]
    assert shifts[0] == 0 and max(shifts[1:3]) < 20, "no farther away than needed"


def test_no_name_hides_a_dot():
    dots = {f"system_{number}": [(50.0 + number, 50.0)] for number in range(6)}
    picture = scatter(dots, "x", "y", x_range=(0, 100), y_range=(0, 100), side=400, names_at_points=True)
    for number in range(6):
        column = round(64 + (50 + number) / 100 * 400)
        assert picture.getpixel((column, 264)) == COLOURS[number]
