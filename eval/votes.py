"""What people answered in a user study: order of what they see, votes in a file, shares with exact intervals.

A vote is one line of JSON: participant, photo, the fills' files as they were shown and as they were ranked, best
first. It names no system; `study.json` says whose a file is. Ranks have no ties: the paper's subjects ranked four
fills, and the two sides of each pair in its Table 2 sum to 100 %.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.stats import binomtest

from eval.columns import markdown_rows, plain
from eval.complexity import LEVELS


VOTES_FILE = "votes.jsonl"
CONFIDENCE = 0.95
LONGEST_NAME = 60  # letters of a participant's name or code


@dataclass(frozen=True)
class Vote:
    """One participant's ranking of one photo's fills.

    Attributes:
        participant: As `participant_name` gives it.
        photo: Opaque name of the photo.
        shown: Files of the fills, from left to right.
        ranking: The same files, best first.
        time: When, in UTC.
    """

    participant: str
    photo: str
    shown: list[str]
    ranking: list[str]
    time: str


@dataclass
class Ballot:
    """What a file of votes holds.

    Attributes:
        votes: By participant and photo.
        remarks: What was passed over, and why.
    """

    votes: dict[tuple[str, str], Vote] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def participant_name(given: str | None) -> str:
    """The name or code that somebody gave, with capitals and spaces made alike so that they are known again.

    Raises:
        ValueError: If nothing is left, or it is too long.
    """
    name = " ".join((given or "").split()).casefold()
    if not name:
        raise ValueError("Give a name or a code first, so that you can stop and go on later.")
    if len(name) > LONGEST_NAME:
        raise ValueError(f"The name has {len(name)} letters; at most {LONGEST_NAME} are kept. Give a shorter one.")
    return name


def shuffled(items: Sequence[str], *key: object) -> list[str]:
    """The items in an order that only the key decides, whatever order they came in."""
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    generator = np.random.default_rng(list(digest))
    return [sorted(items)[index] for index in generator.permutation(len(items))]


def photo_order(study: Mapping, participant: str) -> list[str]:
    """Names of the study's photos in this participant's order: what tires people must not hit the same photos."""
    return shuffled([photo["name"] for photo in study["photos"]], study["seed"], participant)


def fill_order(study: Mapping, participant: str, photo: Mapping) -> list[str]:
    """Files of a photo's fills in this participant's order from left to right."""
    return shuffled(list(photo["fills"].values()), study["seed"], participant, photo["name"])


def rank(shown: Sequence[str], ranks: Sequence[int | None]) -> list[str]:
    """Files from best to worst.

    Args:
        shown: Files from left to right.
        ranks: What was chosen for each, 1 = best; None where nothing was.

    Raises:
        ValueError: If a fill has no rank, or two have one.
    """
    if None in ranks:
        raise ValueError("Give every fill a rank first.")
    if sorted(ranks) != list(range(1, len(shown) + 1)):
        raise ValueError("Two fills have the same rank. Give each a rank of its own, even where it is close.")
    return [shown[ranks.index(place)] for place in range(1, len(shown) + 1)]


def append_vote(path: Path, vote: Vote) -> None:
    """Adds one line; when this returns, the vote is on the disk.

    Raises:
        OSError: If it cannot be written.
    """
    line = json.dumps(asdict(vote)) + "\n"
    with path.open("a+b") as file:
        # A line that a kill has cut must not take this vote with it.
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            line = line if file.read(1) == b"\n" else "\n" + line
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def read_votes(path: Path, study: Mapping) -> Ballot:
    """Reads every whole vote.

    A line that a kill cut is passed over with a remark: its participant was never told that it is saved. So is the
    second vote of a participant on one photo.

    Raises:
        ValueError: If a whole line is no vote of this study.
    """
    ballot = Ballot()
    if not path.exists():
        return ballot
    files = {photo["name"]: sorted(photo["fills"].values()) for photo in study["photos"]}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line:
            continue
        try:
            values = json.loads(line)
        except ValueError:  # not JSON, or cut within a letter; the beginning of an object is never a whole one
            ballot.remarks.append(f"line {number} of {path.name} is damaged and was passed over")
            continue
        try:
            vote = Vote(**values)
            fits = files.get(vote.photo) == sorted(vote.shown) == sorted(vote.ranking)
        except TypeError as error:
            raise ValueError(f"Line {number} of {path} is no vote: {error}. Take the line out.") from error
        if not fits:
            raise ValueError(
                f"Line {number} of {path} ranks fills that this study does not show. Votes belong to the study.json "
                "that they were given under: put that one back, or move the votes away."
            )
        if (vote.participant, vote.photo) in ballot.votes:
            ballot.remarks.append(f"line {number} of {path.name} is a second vote on one photo and was passed over")
        else:
            ballot.votes[vote.participant, vote.photo] = vote
    return ballot


def preferences(study: Mapping, votes: Sequence[Vote]) -> list[dict]:
    """How often each system was ranked above each other one, for each level of complexity that has votes.

    Args:
        study: From `study.json`.
        votes: Of that study.

    Returns:
        `level`, `classes` (smallest and largest number), `photos`, `votes`, and `pairs`: for every ordered pair
        `system`, `against`, `wins`, `share` in [0, 1], `interval`. Photos without labels count in `overall` alone.
    """
    photos = {photo["name"]: photo for photo in study["photos"]}
    systems = [system["name"] for system in study["systems"]]
    entries = []
    for level, (low, high) in LEVELS.items():
        chosen = [vote for vote in votes if level == "overall" or low <= photos[vote.photo]["num_classes"] <= high]
        if not chosen:
            continue
        wins = {(first, second): 0 for first in systems for second in systems if first != second}
        for vote in chosen:
            owners = {file: system for system, file in photos[vote.photo]["fills"].items()}
            for better, worse in combinations(vote.ranking, 2):
                wins[owners[better], owners[worse]] += 1
        entries.append(
            {
                "level": level,
                "classes": [low, high],
                "photos": len({vote.photo for vote in chosen}),
                "votes": len(chosen),
                "pairs": [
                    {"system": first, "against": second, "wins": count, "share": count / len(chosen)}
                    | {"interval": exact_interval(count, len(chosen))}
                    for (first, second), count in wins.items()
                ],
            }
        )
    return entries


def exact_interval(wins: int, votes: int) -> list[float]:
    """The 95 % interval of Clopper and Pearson (1934) for a share of independent votes, in [0, 1]."""
    ends = binomtest(wins, votes).proportion_ci(CONFIDENCE, method="exact")
    return [float(ends.low), float(ends.high)]


def preference_table(record: Mapping, paper: Mapping) -> str:
    """The shares as Markdown: one matrix for each level, the paper's number behind ours where it has the pair.

    Args:
        record: What `preference.json` holds.
        paper: Table 2 of `paper_tables.json`.
    """
    parts = ["# Preference of people (the paper's Table 2)\n", "".join(f"- {line}\n" for line in record["remarks"])]
    printed = paper_shares(paper)
    for entry in record["levels"]:
        low, high = entry["classes"]
        classes = f"{low} to {high} classes" if high < LEVELS["overall"][1] else f"{low} classes or more"
        title = entry["level"] if entry["level"] == "overall" else f"{entry['level']} complexity, {classes}"
        cells = {(pair["system"], pair["against"]): _cell(pair, entry["level"], printed) for pair in entry["pairs"]}
        names = list(dict.fromkeys(first for first, _ in cells))
        rows = [[first, *(cells.get((first, second), "") for second in names)] for first in names]
        parts.append(f"## {title}: photos {entry['photos']}, votes {entry['votes']}\n")
        parts.append(markdown_rows(["%", *(f"over {name}" for name in names)], rows))
    parts.append(f"## The paper: {paper['caption']}\n")
    parts.append(markdown_rows(["%", *paper["columns"]], [[name, *row] for name, row in paper["rows"].items()]))
    return "\n".join(parts)


def paper_shares(paper: Mapping) -> dict[tuple[str, str, str], str]:
    """(plain name of the row, of the column, level) -> the paper's percentage as printed."""
    columns = [plain(title.removeprefix("over ")) for title in paper["columns"]]
    return {
        (plain(row), column, level): share
        for row, cells in paper["rows"].items()
        for column, text in zip(columns, cells, strict=True)
        if text
        for level, share in zip(LEVELS, text.split(" / "), strict=True)
    }


def _cell(pair: Mapping, level: str, printed: Mapping[tuple[str, str, str], str]) -> str:
    low, high = pair["interval"]
    text = f"{100 * pair['share']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    paper = printed.get((plain(pair["system"]), plain(pair["against"]), level))
    return text if paper is None else f"{text}; paper {paper}"
