"""PSNR against the distance of features: which dots are drawn, and names that do not cover each other."""

import json

import pytest
from PIL import Image, ImageDraw

from eval.front import dots_of, main
from eval.plots import free_place


def line(system, psnr, distance, **more):
    place = {"data": "toy", "split": "report", "masks": "centre-24", "domain": "all"}
    return place | {"system": system, "hole_psnr": psnr, "FD-tiny": distance} | more


RESULTS = [
    line("telea", 15.0, 200.0),
    line("street", 14.0, 90.0),
    line("street{noise_strength: 0}", 15.5, 120.0),
    line("truth", 99.0, 0.0),
    line("nearest_label", None, None),
    line("street", 16.0, 95.0, masks="irregular-30-40"),
]


def test_dots_are_systems_with_both_scores():
    centre = ("toy", "report", "centre-24", "all", "FD-tiny")
    assert dots_of(RESULTS)[centre] == {"telea": (200.0, 15.0), "street": (90.0, 14.0)}
    assert dots_of(RESULTS, asides=True)[centre].keys() == {"telea", "street", "street{noise_strength: 0}"}
    assert len(dots_of(RESULTS)) == 2


def test_one_place_of_several_files_is_drawn(tmp_path, capsys):
    files = []
    for number, line_of_file in enumerate(RESULTS):
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps({"results": [line_of_file]}))
    names = [str(path) for path in files]
    out = tmp_path / "front.png"
    assert main([*names, "--masks", "centre-24", "--domain", "all", "--out", str(out)]) == 0
    colours = Image.open(out).convert("RGB").getcolors(maxcolors=10**6)
    assert len(colours) >= 4, "white, black and a colour for each dot"
    with pytest.raises(SystemExit):
        main([*names, "--masks", "centre-99", "--domain", "all", "--out", str(tmp_path / "none.png")])
    assert "report centre-24 all, report irregular-30-40 all" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_names_at_one_spot_do_not_cover_each_other():
    pen = ImageDraw.Draw(Image.new("RGB", (200, 200)))
    taken = []
    for name in ("sgenet_seed1", "sgenet_seed2", "sgnet", "telea"):
        taken.append(free_place(pen, (100, 100), name, "lm", taken))
    for number, one in enumerate(taken):
        for other in taken[:number]:
            assert one[3] <= other[1] or other[3] <= one[1]
    assert abs(taken[1][1] - taken[0][1]) < 20, "no farther away than needed"
