"""Tables and sentences in Markdown come from result files and agree with them."""

import json
import re

import jinja2
import pytest

from eval.tables import PAGES, ROOT, Scores, correlates, main, orders_nothing, page, with_tables


RESULTS = [
    {"split": "dev", "domain": "toy", "n": 3, "system": "telea", "hole_psnr": 14.126, "FD-tiny": 2.04},
    {"split": "dev", "domain": "toy", "n": 3, "system": "ours", "hole_psnr": 15.0, "hole_mean_iou": 0.5},
    {
        "split": "report",
        "domain": "toy",
        "n": 9,
        "system": "ours",
        "hole_psnr": 99.0,
        "difference": {
            "reference": "theirs",
            "scores": {
                "hole_psnr": {"value": 0.5, "interval": [0.25, 0.75]},
                "hole_mean_iou": {"value": -0.015, "interval": None},
            },
        },
        "hole_mean_iou": 0.25,
    },
]


def test_a_table_holds_what_was_asked_for_and_leaves_gaps_empty():
    lines = Scores(RESULTS, split="dev").table().splitlines()
    assert lines[0].startswith("| photos | N | fill | hole PSNR, dB |") and "FD-tiny" in lines[0]
    assert lines[2] == "| toy | 3 | telea | 14.13 |  |  | 2.0 |  |"
    assert lines[3] == "| toy | 3 | ours | 15.00 |  |  |  | 50.0 |"
    assert len(lines) == 4
    named = Scores(RESULTS, split="dev,report").table("ours,telea").splitlines()
    assert [line.split(" | ")[2] for line in named[2:]] == ["ours", "ours", "telea"], "in the order of the names"
    with pytest.raises(ValueError, match=r"run eval\.run"):
        Scores(RESULTS, split="train").table()


def test_only_what_stands_between_the_marks_is_rewritten(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"results": RESULTS}))
    text = "before\n<!-- results: r.json | split=report -->\n| stale |\n<!-- end of results -->\nafter\n"
    fresh = with_tables(text, tmp_path)
    assert fresh.startswith("before\n<!-- results: r.json | split=report -->\n| photos |")
    assert fresh.endswith("<!-- end of results -->\nafter\n")
    assert "stale" not in fresh and "99.00" in fresh
    assert with_tables(fresh, tmp_path) == fresh


def test_sentences_ask_for_their_numbers():
    dev, report = Scores(RESULTS, split="dev"), Scores(RESULTS, split="report")
    assert dev.value("telea", "hole_psnr") == "14.13"
    assert dev.value("telea", "hole_psnr", 1) == "14.1"
    assert dev.value("telea", "FD-") == "2.0"
    assert dev.value("ours", "hole_mean_iou") == "50.0", "in percent, as in the tables"
    assert dev.difference("ours", "hole_psnr", "telea") == "+0.87"
    assert dev.ratio("telea", "hole_psnr", "ours") == "0.94"
    assert dev.over_seeds("telea,ours", "hole_psnr") == "14.56 (14.13 to 15.00)"
    assert report.lead("theirs", "hole_psnr", "ours") == "-0.50 [-0.75, -0.25]", "the file has it the other way round"
    assert report.lead("theirs", "hole_mean_iou", "ours") == "+1.5"
    with pytest.raises(ValueError, match="ours is compared with theirs, not telea"):
        report.lead("telea", "hole_psnr", "ours")
    assert dev.claim("ours", "hole_psnr", "telea") == ""
    with pytest.raises(ValueError, match="telea is not better than ours in hole_psnr .*change the sentence"):
        dev.claim("telea", "hole_psnr", "ours")
    assert dev.not_behind("ours", ["hole_psnr", "FD-"], "telea") == "", "ahead in one of them"
    with pytest.raises(ValueError, match="telea is behind ours in hole_psnr .*change the sentence"):
        dev.not_behind("telea", ["hole_psnr"], "ours")
    assert correlates(0.4) == ""
    for weak in (0.39, float("nan")):
        with pytest.raises(ValueError, match="orders nothing: change the sentence"):
            correlates(weak)
    assert orders_nothing(0.39) == orders_nothing(-0.9) == ""
    with pytest.raises(ValueError, match="orders photos: change the sentence"):
        orders_nothing(0.4)
    three = Scores(
        [
            {"system": "ours", "hole_psnr": 15.0, "hole_ssim": 0.3, "FD-tiny": 2.0},
            {"system": "worse", "hole_psnr": 14.0, "hole_ssim": 0.2, "FD-tiny": 3.0},
            {"system": "smooth", "hole_psnr": 14.0, "hole_ssim": 0.4, "FD-tiny": 4.0},
        ]
    )
    scores = ["hole_psnr", "hole_ssim", "FD-"]
    assert three.ahead("ours", scores, ["worse", "smooth"], 2) == ""
    with pytest.raises(ValueError, match="ours is ahead in hole_psnr, FD- with .*change the sentence"):
        three.ahead("ours", scores, ["worse", "smooth"], 3)
    with pytest.raises(ValueError, match="worse is ahead in nothing .*change the sentence"):
        three.ahead("worse", ["hole_psnr"], ["smooth"], 1)
    with pytest.raises(ValueError, match="telea has no hole_mean_iou"):
        dev.value("telea", "hole_mean_iou")
    with pytest.raises(ValueError, match="2 results of ours"):
        Scores(RESULTS).value("ours", "hole_psnr")


def test_a_page_is_its_template_with_the_numbers_of_the_files(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"results": RESULTS, "share": 0.256}))
    text = page(
        '{% set dev = scores("r.json", split="dev") %}\nTelea {{ dev.value("telea", "hole_psnr") }}, '
        '{{ record("r.json").share | percent }}\n',
        tmp_path,
    )
    assert text == "Telea 14.13, 26 %\n"
    with pytest.raises(jinja2.UndefinedError):
        page('{{ record("r.json").shares | percent }}', tmp_path)


def test_files_are_read_together_where_they_looked_at_the_same_photos(tmp_path):
    def write(name, masks_sha256, *systems):
        hashes = {"crops_sha256": "c", "mask_set_sha256": masks_sha256}
        sets = [{"data": "toy", "split": "dev", "masks": "m"} | hashes]
        rows = [{"system": system, "identity": identity, "hole_psnr": value} for system, identity, value in systems]
        (tmp_path / name).write_text(json.dumps({"sets": sets, "results": rows}))

    write("a.json", "m", ("telea", "t", 14.0), ("ours", "o", 15.0))
    write("b.json", "m", ("telea", "t", 14.0), ("later", "l", 16.0))
    text = '{{ scores(FILES).difference("later", "hole_psnr", "ours") }}'
    assert page(text.replace("FILES", "'a.json,b.json'"), tmp_path) == "+1.00"
    write("other_holes.json", "n", ("later", "l", 16.0))
    with pytest.raises(ValueError, match=r"other_holes\.json has other photos, holes or features in toy dev m"):
        page(text.replace("FILES", "'a.json,other_holes.json'"), tmp_path)
    write("other_weights.json", "m", ("ours", "p", 16.0))
    with pytest.raises(ValueError, match=r"ours of other_weights\.json is not that of the files before it"):
        page(text.replace("FILES", "'a.json,other_weights.json'"), tmp_path)


# What the protocol is and which of the paper's tables are meant: all digits that a template may type.
NO_RESULTS = re.compile(
    r"MobileNetV2|FD-mobilenet_v2|L1 error|1 is as sharp as the photo|M = 1 - mask|M = 1|hole of 96|holes of 48|"
    r"side at (256|128)|crop of 256|at 128 px|30 to 40 %|10,000 samples|Tables? \d|Fig\. 6( and 8)?|"
    r"section 4\.5|(sgenet)?_seed1|sgenet_(ones|known)_20k|at 256 px|At 256 pixels|2,500 samples|"
    r"[1-4]0(-| to )[2-5]0 %"
)


@pytest.mark.parametrize("template", PAGES.values())
def test_no_number_of_a_result_is_typed_into_a_page(template):
    prose = re.sub(r"{[{%#].*?[}%#]}|```.*?```", "", (ROOT / template).read_text(encoding="utf-8"), flags=re.S)
    prose = NO_RESULTS.sub("", re.sub(r"\[[\w-]+\]\([^)]*\)|\]\([^)]*\)", "", prose))
    assert [line for line in prose.splitlines() if re.search(r"\d", line)] == []


def test_the_readme_agrees_with_its_result_files(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out
