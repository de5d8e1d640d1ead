"""Tables in Markdown come from result files and agree with them."""

import json

import pytest

from eval.tables import main, markdown_table, with_tables


RESULTS = [
    {"split": "dev", "domain": "toy", "n": 3, "system": "telea", "hole_psnr": 14.126, "FD-tiny": 2.04},
    {"split": "dev", "domain": "toy", "n": 3, "system": "ours", "hole_psnr": 15.0, "hole_mean_iou": 0.5},
    {"split": "report", "domain": "toy", "n": 9, "system": "ours", "hole_psnr": 99.0},
]


def test_a_table_holds_what_was_asked_for_and_leaves_gaps_empty():
    lines = markdown_table(RESULTS, {"split": "dev"}).splitlines()
    assert lines[0].startswith("| photos | N | fill | hole PSNR, dB |") and "FD-tiny" in lines[0]
    assert lines[2] == "| toy | 3 | telea | 14.13 |  |  | 2.0 |  |"
    assert lines[3] == "| toy | 3 | ours | 15.00 |  |  |  | 50.0 |"
    assert len(lines) == 4
    named = markdown_table(RESULTS, {"split": "dev,report", "system": "ours,telea"}).splitlines()
    assert [line.split(" | ")[2] for line in named[2:]] == ["ours", "ours", "telea"], "in the order of the names"
    with pytest.raises(ValueError, match=r"run eval\.run"):
        markdown_table(RESULTS, {"split": "train"})


def test_only_what_stands_between_the_marks_is_rewritten(tmp_path):
    (tmp_path / "r.json").write_text(json.dumps({"results": RESULTS}))
    text = "before\n<!-- results: r.json | split=report -->\n| stale |\n<!-- end of results -->\nafter\n"
    fresh = with_tables(text, tmp_path)
    assert fresh.startswith("before\n<!-- results: r.json | split=report -->\n| photos |")
    assert fresh.endswith("<!-- end of results -->\nafter\n")
    assert "stale" not in fresh and "99.00" in fresh
    assert with_tables(fresh, tmp_path) == fresh


def test_the_readme_agrees_with_its_result_files(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out
