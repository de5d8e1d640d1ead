"""The user study: what people see, that no vote is lost, and the matrix that the votes make."""

import json
import re
import sys

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from eval import user_study
from eval.paper_tables import PAPER_FILE
from eval.study_page import StudyPage, build_page
from eval.systems import answer
from eval.votes import (
    VOTES_FILE,
    Vote,
    append_vote,
    exact_interval,
    fill_order,
    participant_name,
    photo_order,
    preference_table,
    preferences,
    rank,
    read_votes,
)
from sgenet_hf import SGENetConfig, SGENetModel
from sgenet_hf.catalog import DATASETS


NAMES = ("telea", "flow", "SG-Net", "SGE-Net")


def vote(participant: str, photo: str, ranking: str) -> Vote:
    """A vote on one of `study`'s photos; the letters of the ranking are systems, best first."""
    files = [f"{photo}-{letter}.png" for letter in ranking]
    return Vote(participant, photo, sorted(files), files, "2020-01-01T00:00:00+00:00")


@pytest.fixture
def study() -> dict:
    """Four photos of 0, 2, 3 and 5 classes, with the fills of systems a, b and c."""
    photos = [
        {"name": name, "num_classes": classes, "fills": {letter: f"{name}-{letter}.png" for letter in "abc"}}
        for name, classes in (("none", 0), ("low", 2), ("mid", 3), ("high", 5))
    ]
    return {"seed": 0, "systems": [{"name": letter} for letter in "abc"], "photos": photos}


def prepare_command(folder, out, *more: str) -> list[str]:
    systems = ["telea=telea", "flow=navier_stokes", f"SG-Net={folder / 'sg'}", f"SGE-Net={folder / 'sge'}"]
    return [
        *("prepare", *systems, "--data", "toy:12", "--split", "train", "--masks", "centre-24", "--size", "64"),
        *("--count", "3", "--out", str(out), *more),
    ]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name, options in (("sg", {"confidence_evaluation": False}), ("sge", {})):
        torch.manual_seed(0)
        config = SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=DATASETS["toy"].num_labels, **options)
        SGENetModel(config).save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def prepared(checkpoints, tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    assert user_study.main(prepare_command(checkpoints, out)) == 0
    return out


@pytest.fixture
def page(prepared):
    yield StudyPage(prepared, user_study.load_study(prepared))
    (prepared / VOTES_FILE).unlink(missing_ok=True)


# --- Votes -----------------------------------------------------------------------------------------------------------


def test_known_votes_give_the_known_matrix(study):
    votes = [vote("p", "low", "abc"), vote("q", "low", "acb"), vote("p", "high", "cba"), vote("p", "none", "abc")]
    entries = {entry["level"]: entry for entry in preferences(study, votes)}
    assert entries.keys() == {"overall", "low", "high"}, "nobody voted on a scene of 3 or 4 classes"
    assert [entries[level]["votes"] for level in entries] == [4, 2, 1]
    assert [entries[level]["photos"] for level in entries] == [3, 1, 1]
    wins = {(p["system"], p["against"]): p["wins"] for p in entries["overall"]["pairs"]}
    assert wins == {("a", "b"): 3, ("b", "a"): 1, ("a", "c"): 3, ("c", "a"): 1, ("b", "c"): 2, ("c", "b"): 2}
    low = {(p["system"], p["against"]): p["share"] for p in entries["low"]["pairs"]}
    assert (low["a", "b"], low["b", "a"], low["b", "c"], low["c", "b"]) == (1, 0, 0.5, 0.5)


def test_intervals_are_those_of_clopper_and_pearson():
    # Without wins the upper end is 1 - 0.025^(1/n); 8 of 10 stands in tables; the last is the paper's 67.4 %.
    assert exact_interval(0, 10) == pytest.approx([0, 1 - 0.025 ** (1 / 10)])
    assert exact_interval(8, 10) == pytest.approx([0.4439, 0.9748], abs=5e-5)
    assert exact_interval(1295, 1920) == pytest.approx([0.653, 0.695], abs=1e-3)


def test_orders_differ_between_participants_and_can_be_made_again(study):
    people = [f"p{number}" for number in range(60)]
    low = study["photos"][1]
    orders = [tuple(fill_order(study, name, low)) for name in people]
    assert len(set(orders)) == 6, "all orders of three fills come up among sixty people"
    places = np.array([[order.index("low-a.png") == place for place in range(3)] for order in orders]).sum(axis=0)
    assert places.min() >= 10, "a system stands in every place about equally often"
    other_way = low | {"fills": dict(reversed(low["fills"].items()))}
    assert orders == [tuple(fill_order(study, name, other_way)) for name in people]
    assert orders != [tuple(fill_order(study | {"seed": 1}, name, low)) for name in people]
    assert len({tuple(photo_order(study, name)) for name in people}) > 10
    assert sorted(photo_order(study, "p")) == ["high", "low", "mid", "none"]


def test_ranks_are_turned_into_an_order_without_ties():
    assert rank(["x", "y", "z"], [2, 3, 1]) == ["z", "x", "y"]
    for ranks, message in (([1, 1, 2], "same rank"), ([1, None, 2], "every fill"), ([1, 2, 4], "same rank")):
        with pytest.raises(ValueError, match=message):
            rank(["x", "y", "z"], ranks)


def test_a_name_is_known_again():
    assert participant_name("  Ada  Lovelace ") == participant_name("ada lovelace")
    for name in ("", "   ", None, "a" * 61):
        with pytest.raises(ValueError):
            participant_name(name)


def test_a_vote_that_a_kill_cut_is_reported_and_takes_no_other_with_it(study, tmp_path):
    path = tmp_path / VOTES_FILE
    first, second, third = vote("p", "low", "abc"), vote("é", "mid", "cab"), vote("p", "mid", "bca")
    append_vote(path, first)
    append_vote(path, second)
    path.write_bytes(path.read_bytes()[:-20])
    ballot = read_votes(path, study)
    assert list(ballot.votes.values()) == [first]
    assert ballot.remarks == [f"line 2 of {VOTES_FILE} is damaged and was passed over"]
    append_vote(path, third)
    append_vote(path, second)
    ballot = read_votes(path, study)
    assert list(ballot.votes.values()) == [first, third, second] and len(ballot.remarks) == 1
    path.write_bytes(path.read_bytes()[:-1])  # whole but for its line break
    assert list(read_votes(path, study).votes.values()) == [first, third, second]


def test_votes_of_another_study_are_refused_and_second_ones_passed_over(study, tmp_path):
    path = tmp_path / VOTES_FILE
    assert read_votes(path, study).votes == {}
    append_vote(path, vote("p", "low", "abc"))
    append_vote(path, vote("p", "low", "cba"))
    ballot = read_votes(path, study)
    assert ballot.votes["p", "low"].ranking[0] == "low-a.png" and "second vote" in ballot.remarks[0]
    append_vote(path, vote("p", "low", "abd"))
    with pytest.raises(ValueError, match="does not show"):
        read_votes(path, study)
    path.write_text('{"participant": "p"}\n')
    with pytest.raises(ValueError, match="no vote"):
        read_votes(path, study)


# --- Pictures --------------------------------------------------------------------------------------------------------


def test_a_study_holds_the_fills_under_names_that_tell_nothing(prepared, checkpoints):
    record = user_study.load_study(prepared)
    assert [system["name"] for system in record["systems"]] == list(NAMES)
    assert record["set"]["n"] == 3 and record["provenance"]["command"][3] == "prepare"
    names = [path.name for path in prepared.glob("*.png")]
    assert len(names) == 3 * 5
    assert all(re.fullmatch(r"[0-9a-f]{20}\.png", name) for name in names)
    samples = user_study.EvaluationSet("toy:12", "train", "centre-24", size=64)
    user_study.draw_photos(samples, 3, 0)
    assert len({photo["num_classes"] for photo in record["photos"]} - {0}) >= 1
    for sample, photo in zip(samples, record["photos"], strict=True):
        assert photo["id"] == sample.id
        hole = np.asarray(Image.open(prepared / photo["hole"]))
        assert (hole[sample.mask] == 255).all()
        assert np.array_equal(hole[~sample.mask], sample.photo[~sample.mask])
        for name, source in zip(
            NAMES, ("telea", "navier_stokes", checkpoints / "sg", checkpoints / "sge"), strict=True
        ):
            wanted = answer(user_study.load_system(str(source)), sample).image
            with Image.open(prepared / photo["fills"][name]) as picture:
                assert np.array_equal(np.asarray(picture), wanted), name
                assert not picture.info, "nothing beside the pixels"


def test_preparing_again_makes_only_what_is_missing(prepared, checkpoints):
    before = {path: path.stat().st_mtime_ns for path in prepared.glob("*.png")}
    lost, *kept = sorted(before)
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(SystemExit, match="lacks 1 picture"):
        user_study.main(["tables", str(prepared)])
    user_study.main(prepare_command(checkpoints, prepared))
    assert lost.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in kept] == [before[path] for path in kept]
    assert not list(prepared.glob("*.partial"))


def test_photos_are_drawn_by_the_seed():
    def drawn(seed: int) -> list[str]:
        samples = user_study.EvaluationSet("toy:12", "train", "centre-24", size=64)
        user_study.draw_photos(samples, 5, seed)
        return [samples.names[index]["id"] for index in samples.indices]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 5


def test_a_set_with_fewer_photos_than_the_papers_study_is_shown_whole(tmp_path):
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    toy = ["--data", "toy:12", "--split", "dev", "--masks", "centre-24", "--size", "64", "--out", str(tmp_path)]
    assert user_study.main(["prepare", "telea", "navier_stokes", *toy]) == 0
    photos = json.loads((tmp_path / "study.json").read_text())["photos"]
    assert len(photos) == len(user_study.EvaluationSet("toy:12", "dev", "centre-24", size=64))


def test_what_cannot_be_a_study_is_refused_in_a_line(checkpoints, prepared, tmp_path, page):
    toy = ["--data", "toy:12", "--split", "train", "--masks", "centre-24", "--size", "64", "--out", str(tmp_path)]
    for arguments, message in (
        (["telea", *toy], "two systems or more"),
        (["telea", "telea", *toy], "name of its own"),
        (["telea", "navier_stokes", "--count", "500", *toy], "choose 1 to"),
        (["telea", "nearest_label", "--count", "1", *toy], "only labels"),
    ):
        with pytest.raises(SystemExit, match=message):
            user_study.main(["prepare", *arguments])
    for command in ("tables", "serve"):
        with pytest.raises(SystemExit, match="no whole study"):
            user_study.main([command, str(tmp_path)])
    with pytest.raises(SystemExit, match="no votes yet"):
        user_study.main(["tables", str(prepared)])
    submit(page, "p", [1, 2, 3, 4])
    with pytest.raises(SystemExit, match="in another folder"):
        user_study.main(prepare_command(checkpoints, prepared, "--seed", "1"))


def test_the_page_says_which_package_it_needs(prepared, monkeypatch):
    monkeypatch.delitem(sys.modules, "eval.study_page")
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match="pip install"):
        user_study.main(["serve", str(prepared)])


# --- The page --------------------------------------------------------------------------------------------------------


def submit(page: StudyPage, name: str, ranks: list[int | None]) -> tuple:
    """Starts or goes on, and ranks the photo that is shown."""
    participant, photo, *_ = page.start(name)
    return page.submit(participant, photo, *ranks)


def test_a_participant_ranks_stops_and_goes_on(page, prepared):
    participant, photo, welcome, ranking, progress, *shown = page.start(" Ada ")
    assert (participant, welcome["visible"], ranking["visible"], progress) == ("ada", False, True, "### Photo 1 of 3")
    assert len(shown) == 1 + 2 * 4
    following = page.submit(participant, photo, 2, 1, 4, 3)
    assert following[1] != photo and following[4] == "### Photo 2 of 3"
    line = json.loads((prepared / VOTES_FILE).read_text())
    order = fill_order(page.study, "ada", page.photos[photo])
    assert line["shown"] == order and line["ranking"] == [order[1], order[0], order[3], order[2]]
    assert not any(name in json.dumps(line) for name in NAMES), "whoever reads votes is blind too"

    again = StudyPage(prepared, page.study)  # the server was stopped
    assert again.start("ADA")[1] == following[1]
    assert again.start("bob")[4] == "### Photo 1 of 3"
    submit(again, "ada", [1, 2, 3, 4])
    last = submit(again, "ada", [1, 2, 3, 4])
    assert last[1] is None and "Thank you" in last[4] and len(last) == len(following)
    assert len((prepared / VOTES_FILE).read_text().splitlines()) == 3


def test_bad_input_ends_in_a_message_and_writes_nothing(page, prepared):
    participant, photo, *_ = page.start("ada")
    for call, message in (
        (lambda: page.start("  "), "name or a code"),
        (lambda: page.submit(participant, photo, 1, 1, 2, 3), "same rank"),
        (lambda: page.submit(participant, photo, 1, None, 2, 3), "every fill"),
        (lambda: page.submit(None, None, 1, 2, 3, 4), "asleep"),
    ):
        with pytest.raises(gr.Error, match=message) as error:
            call()
        assert not error.value.print_exception
    assert not (prepared / VOTES_FILE).exists()


def test_a_second_click_is_no_second_vote(page, prepared):
    participant, photo, *_ = page.start("ada")
    first = page.submit(participant, photo, 1, 2, 3, 4)
    assert page.submit(participant, photo, 4, 3, 2, 1)[1] == first[1]
    assert len((prepared / VOTES_FILE).read_text().splitlines()) == 1


def test_a_full_disk_is_a_message_and_the_photo_stays(page, prepared):
    participant, photo, *_ = page.start("ada")
    (prepared / VOTES_FILE).mkdir()
    try:
        with pytest.raises(gr.Error, match="could not be saved"):
            page.submit(participant, photo, 1, 2, 3, 4)
    finally:
        (prepared / VOTES_FILE).rmdir()
    assert page.start("ada")[1] == photo


def test_nothing_that_a_browser_gets_tells_whose_a_fill_is(page, prepared):
    shown = page.start("ada")
    pictures = shown[6:10]
    assert len(set(pictures)) == 4 and all("data:image/png;base64," in picture for picture in pictures)
    config = json.dumps(build_page(page).get_config_file(), default=str)
    secrets = [*NAMES, str(prepared), *(file for p in page.study["photos"] for file in p["fills"].values())]
    for secret in secrets:
        assert secret not in config and not any(secret in str(value) for value in (*shown[:1], *shown[4:]))
    events = json.loads(config)["dependencies"]
    assert len(events) == 2 and all(event["api_visibility"] == "private" for event in events)
    assert all(event["show_progress"] == "hidden" for event in events), "else a message blocks the boxes"


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_the_tables_hold_shares_intervals_and_the_papers_numbers(page, prepared, capsys):
    for name in ("ada", "bob"):
        for photo in photo_order(page.study, name)[: 2 if name == "bob" else 3]:
            fills = page.photos[photo]["fills"]
            order = fill_order(page.study, name, page.photos[photo])
            best_first = [fills[system] for system in reversed(NAMES)]
            page.submit(name, photo, *(best_first.index(file) + 1 for file in order))
    (prepared / VOTES_FILE).open("a").write('{"participant": "ada", "pho')
    capsys.readouterr()
    assert user_study.main(["tables", str(prepared)]) == 0
    record = json.loads((prepared / "preference.json").read_text())
    text = (prepared / "preference.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    assert (record["participants"], record["photos"], record["votes"]) == (2, 3, 5)
    pairs = {(p["system"], p["against"]): p for p in record["levels"][0]["pairs"]}
    assert pairs["SGE-Net", "telea"]["wins"] == 5 and pairs["telea", "SGE-Net"]["wins"] == 0
    assert "| SGE-Net | 100.0 [47.8, 100.0] | 100.0 [47.8, 100.0] | 100.0 [47.8, 100.0] |  |" in text
    assert "Participants: 2; photos: 3 of 3; votes: 5 " in text
    assert "treat votes as independent" in text and "line 6 of votes.jsonl is damaged" in text
    assert record["paper"] == json.loads(PAPER_FILE.read_text())["tables"]["2"]
    assert "| SGE-Net | 67.4 / 62.2 / 65.2 / 77.6 |" in text


def test_the_papers_share_stands_behind_ours_at_its_level(study):
    paper = json.loads(PAPER_FILE.read_text())["tables"]["2"]
    renamed = {"a": "sge-net", "b": "GatedConv", "c": "ours"}
    study["systems"] = [{"name": name} for name in renamed.values()]
    for photo in study["photos"]:
        photo["fills"] = {renamed[letter]: file for letter, file in photo["fills"].items()}
    levels = preferences(study, [vote("p", "high", "abc")])
    text = preference_table({"remarks": ["x"], "levels": levels}, paper)
    high = text.split("## high complexity, 5 classes or more: photos 1, votes 1")[1]
    assert "| sge-net |  | 100.0 [2.5, 100.0]; paper 77.6 | 100.0 [2.5, 100.0] |" in high
    assert "| GatedConv | 0.0 [0.0, 97.5]; paper 22.4 |" in high
