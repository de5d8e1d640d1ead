"""The paper's numbers agree with each other, and our tables hold what the result files say."""

import json
from pathlib import Path

import pytest

from eval.paper_tables import PAPER_FILE, main


PAPER = json.loads(PAPER_FILE.read_text())["tables"]
BUNDLED = Path(__file__).resolve().parent.parent / "sgenet_hf" / "checkpoints" / "street" / "evaluation.json"
PLACE = {"data": "cityscapes-small", "split": "dev", "masks": "centre-96", "domain": "city"}


def line(system: str, **scores) -> dict:
    return PLACE | {"system": system, "n": 9, "num_groups": 6, "intervals": {}} | scores


@pytest.fixture
def result(tmp_path) -> Path:
    """Three systems: one with an interval and a difference, a control, one segmented after filling."""
    ours = line("sge_net", psnr=20.126, ssim=0.8, hole_mean_iou=0.5, mean_iou=0.9, hole_class_iou=[0.25, None])
    ours["intervals"] = {"psnr": [19.0, 21.5]}
    control = line("ones:sge_net", psnr=19.0, ssim=0.7, hole_mean_iou=0.4, mean_iou=0.8)
    difference = {"psnr": {"value": -1.126, "interval": [-2.0, -0.25]}}
    control["difference"] = {"reference": "sge_net", "scores": difference}
    edges = line("EdgeConnect", psnr=18.0, ssim=0.6, segmenter_hole_mean_iou=0.3, segmenter_mean_iou=0.7)
    wins = [{"system": "sge_net", "against": "EdgeConnect", "by": "psnr", "share": 0.75, "interval": None}]
    wins.append({"system": "EdgeConnect", "against": "sge_net", "by": "psnr", "share": 0.25, "interval": None})
    record = {
        "provenance": {"commit": {"sha": "abc", "dirty": False}},
        "finished": "today",
        "sets": [PLACE | {"n": 9, "class_names": ["sky", "road"], "segmenter": "deeplab"}],
        "results": [ours, control, edges],
        "complexity": [PLACE | {"level": "high", "n": 4, "wins": wins}],
    }
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    return path


def tables(result: Path, out: Path, *options: str) -> dict[str, list[list[str]]]:
    """Rows of each page, split into cells."""
    assert main([str(result), "--out", str(out), *options]) == 0
    pages = {}
    for page in out.glob("*.md"):
        rows = [row for row in page.read_text().splitlines() if row.startswith("|")]
        pages[page.stem] = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return pages


def test_the_papers_numbers_agree_with_each_other():
    first = PAPER["1"]["rows"]
    for row in ("SG-Net", "SGE-Net"):
        assert PAPER["3"]["rows"][row][2:] == first[row][:3]
    assert PAPER["5"]["rows"]["Label-segs"] == [first["SGE-Net"][0], first["SGE-Net"][6]]
    names = list(PAPER["2"]["rows"])
    for row, one in enumerate(names):
        for column, other in enumerate(names[:row]):
            pairs = zip(
                PAPER["2"]["rows"][one][column].split("/"), PAPER["2"]["rows"][other][row].split("/"), strict=True
            )
            assert all(float(mine) + float(theirs) == pytest.approx(100) for mine, theirs in pairs), (one, other)
    for table in PAPER.values():
        assert all(len(cells) == len(table["columns"]) for cells in table["rows"].values())


def test_rows_find_their_place_and_the_paper_stands_beside(result, tmp_path):
    pages = tables(result, tmp_path / "out")
    head, _, *rows = pages["table_1"]
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    ours = by_name["SGE-Net (`sge_net`)"]
    assert ours["PSNR, dB"] == "20.13 [19.00, 21.50]"
    assert ours["paper, Cityscapes, centre: PSNR"] == "23.41"
    assert by_name["EdgeConnect"]["PSNR, dB"] == "18.00"
    assert by_name["GatedConv"]["PSNR, dB"] == "" and by_name["GatedConv"]["paper, Cityscapes, centre: FID"] == "20.03"
    assert not [title for title in head if "Outdoor" in title or "irregular" in title], "other data, other holes"


def test_ablations_show_controls_and_differences(result, tmp_path):
    head, _, *rows = tables(result, tmp_path / "out")["table_3"]
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert list(by_name)[:2] == ["Base-Net", "SG-Net"]
    assert by_name["sge_net (M = 1)"]["PSNR, dB: less reference"] == "-1.13 [-2.00, -0.25]"
    assert "EdgeConnect" not in by_name


def test_variants_and_seeds_stand_in_table_3_alone(result, tmp_path):
    record = json.loads(result.read_text())
    scores = [("sgnet", 20.0), ("sgnet_seed1", 21.0), ("sgnet_seed2", 23.0), ("sgnet_wide", 30.0)]
    record["results"] += [line(name, psnr=psnr, mean_iou=0.5) for name, psnr in scores]
    result.write_text(json.dumps(record))
    pages = tables(result, tmp_path / "out")
    mean = next(row for row in pages["table_3"] if row[1:2] == ["3"])
    assert mean[:3] == ["SG-Net", "3", "21.33 (20.00 to 23.00)"]
    for name, _ in scores[1:]:
        assert any(row[0] == name for row in pages["table_3"])
        assert not any(row[0].startswith(name) for page in ("table_1", "table_2", "table_4") for row in pages[page])
    assert any(row[0].startswith("SG-Net") and row[1] == "20.00" for row in pages["table_1"])


def test_segmentation_after_inpainting_stands_apart_from_a_networks_own(result, tmp_path):
    head, _, *rows = tables(result, tmp_path / "out")["table_4"]
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    printed = "paper, Cityscapes (Deeplab v3+): mIoU"
    assert by_name["EdgeConnect + deeplab"]["hole mIoU, %"] == "30.0"
    assert by_name["EdgeConnect + deeplab"][printed] == "0.61"
    assert (by_name["SGE-Net"]["mIoU, %"], by_name["SGE-Net"][printed]) == ("90.0", "0.71")
    assert by_name["SPG-Net"][printed] == "0.57"


def test_wins_and_classes(result, tmp_path):
    pages = tables(result, tmp_path / "out")
    assert ["sge_net", "", "- / - / - / 75.0"] in pages["table_2"]
    assert pages["section_4_6"][0] == ["hole IoU, %", "sky", "road"]
    assert pages["section_4_6"][2] == ["sge_net", "25.0", "-"]


def test_a_system_can_stand_in_several_rows(result, tmp_path):
    given = ("--rows", "SGE-Net=sge_net", "Label-segs=sge_net")
    pages = tables(result, tmp_path / "out", *given)
    assert any(row[0] == "SGE-Net (`sge_net`)" for row in pages["table_1"])
    assert any(row[0] == "Label-segs (`sge_net`)" and row[-1] == "23.41" for row in pages["table_5"])
    with pytest.raises(SystemExit, match="expected ROW=SYSTEM"):
        main([str(result), "--out", str(tmp_path), "--rows", "SGE-Net=nobody"])
    with pytest.raises(SystemExit, match="a second time"):
        main([str(result), str(result), "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"eval\.paper_tables: .*nowhere\.json"):
        main([str(tmp_path / "nowhere.json"), "--out", str(tmp_path)])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(SystemExit, match=r"other\.json is no result\.json of eval\.run"):
        main([str(tmp_path / "other.json"), "--out", str(tmp_path)])


def test_results_of_the_first_version_are_still_read(tmp_path):
    record = json.loads(BUNDLED.read_text())
    for row in record["results"]:  # which had no intervals and named no groups
        for name in ("intervals", "difference", "num_groups"):
            row.pop(name, None)
    first_version = tmp_path / "result.json"
    first_version.write_text(json.dumps(record))
    expected = next(row for row in record["results"] if row["system"] == "street")
    pages = tables(first_version, tmp_path / "out", "--rows", "SGE-Net=street")
    assert any(f"{expected['psnr']:.2f}" in row for row in pages["table_1"])
    assert "not the paper's data" in (tmp_path / "out" / "table_1.md").read_text()
