"""A blind user study as behind the paper's Table 2: people rank the fills of several systems, best to worst.

    python -m eval.user_study prepare GatedConv=FOLDER EdgeConnect=FOLDER SPG-Net=FOLDER SGE-Net=street \\
        --data PREPARED_FOLDER --split report --masks centre-96 --count 80 --out runs/study
    python -m eval.user_study serve runs/study --port 7861      # needs the extra `demo`
    python -m eval.user_study tables runs/study

`prepare` draws photos at random, fills them and writes PNGs whose names tell nothing, and `study.json`, which says
whose each one is; stopped and started again, it goes on where it was. `serve` shows one photo with its hole and its
fills in an order of each participant's own, and adds each ranking to `votes.jsonl`. `tables` writes `preference.json`
and `preference.md`: the share of votes where the row's fill was ranked above the column's, with exact 95 % intervals
(Clopper and Pearson), overall and by the number of classes in the scene, beside the paper's numbers. Pictures of
photos that may not be passed on must not enter the project: choose `--out` outside of it.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from eval.commands import said_in_a_sentence
from eval.evaluation_set import EvaluationSet, Sample
from eval.files import write_picture, write_whole
from eval.paper_tables import PAPER_FILE
from eval.provenance import code_sha256, now, provenance
from eval.rows import count_classes
from eval.systems import System, answer, load_system
from eval.votes import VOTES_FILE, preference_table, preferences, read_votes


STUDY_FILE = "study.json"
PAPERS_PHOTOS = 80  # in the study behind Table 2
IDENTITY = ("seed", "systems", "photos")  # what votes depend on


def draw_photos(samples: EvaluationSet, count: int, seed: int) -> None:
    """Leaves `count` photos of a set, drawn at random as in the paper, in the order of their ids.

    Raises:
        ValueError: If there are not so many.
    """
    if not 1 <= count <= len(samples):
        raise ValueError(f"--count {count}: choose 1 to {len(samples)}, the photos of {samples.data} {samples.split}.")
    drawn = np.random.default_rng(seed).choice(len(samples), count, replace=False)
    samples.indices = [samples.indices[position] for position in sorted(drawn)]


def plan_photo(sample: Sample, systems: Sequence[System], code: str, seed: int) -> dict:
    """What `study.json` says of a photo.

    File names are hashes of all that decides the pixels, so that a file that exists is the file that is wanted.

    Args:
        sample: Photo and hole.
        systems: What fills it.
        code: Hash of the code that does.
        seed: Of the study.
    """
    pixels = sample.photo.tobytes() + sample.mask.tobytes()

    def opaque(*parts: str) -> str:
        key = json.dumps([seed, sample.id, *parts]).encode()
        return hashlib.sha256(key + b"\0" + pixels).hexdigest()[:20]

    return {
        "name": opaque("photo"),
        "id": sample.id,
        "group": sample.group,
        "num_classes": count_classes(sample.labels),
        "hole": f"{opaque('hole')}.png",
        "fills": {system.name: f"{opaque('fill', code, system.name, system.identity)}.png" for system in systems},
    }


def write_pictures(folder: Path, sample: Sample, plan: dict, systems: Sequence[System]) -> None:
    """Writes what is missing of one photo's pictures.

    Raises:
        ValueError: If a system paints nothing, or changes known pixels.
    """
    hole = folder / plan["hole"]
    if not hole.exists():
        write_picture(hole, Image.fromarray(sample.emptied(255)))
    for system in systems:
        path = folder / plan["fills"][system.name]
        if not path.exists():
            image = answer(system, sample).image
            if image is None:
                raise ValueError(f"{system.name} only labels: people have nothing to look at. Leave it out.")
            write_picture(path, Image.fromarray(image))


def prepare(arguments: argparse.Namespace, command: list[str]) -> None:
    """Draws and fills the photos; `study.json` comes last, so that a study that has one is whole.

    Raises:
        ImportError: If a classical method's package is missing.
        OSError: If a checkpoint or the data cannot be found.
        ValueError: If the systems or photos cannot make a study, or people have voted on another one here.
    """
    systems = [load_system(specification, arguments.device) for specification in arguments.systems]
    names = [system.name for system in systems]
    if len(set(names)) < len(names) or len(names) < 2:
        raise ValueError(f"A study compares two systems or more, each with a name of its own; these are {names}.")
    samples = EvaluationSet(arguments.data, arguments.split, arguments.masks, size=arguments.size, seed=arguments.seed)
    count = min(PAPERS_PHOTOS, len(samples)) if arguments.count is None else arguments.count
    draw_photos(samples, count, arguments.seed)
    code = code_sha256()
    record = {
        "seed": arguments.seed,
        "systems": [{"name": system.name, "identity": system.identity} for system in systems],
        "photos": [plan_photo(sample, systems, code, arguments.seed) for sample in samples],
    }
    out: Path = arguments.out
    before = json.loads((out / STUDY_FILE).read_text(encoding="utf-8")) if (out / STUDY_FILE).exists() else {}
    if (out / VOTES_FILE).exists() and any(before.get(key) != record[key] for key in IDENTITY):
        raise ValueError(f"{out} holds votes on other fills, photos or code. Prepare this study in another folder.")
    out.mkdir(parents=True, exist_ok=True)
    for sample, plan in zip(tqdm(samples, desc="study", unit="photo"), record["photos"], strict=True):
        write_pictures(out, sample, plan, systems)
    record |= {"set": samples.fingerprint(), "provenance": provenance(command), "finished": now()}
    write_whole(out / STUDY_FILE, json.dumps(record, indent=2) + "\n")
    print(out / STUDY_FILE)


def load_study(folder: Path) -> dict:
    """Reads `study.json`.

    Raises:
        FileNotFoundError: If there is none, or one of its pictures is missing.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no whole study; start `prepare` again with the same arguments.")
    study = json.loads(path.read_text(encoding="utf-8"))
    files = [file for photo in study["photos"] for file in (photo["hole"], *photo["fills"].values())]
    missing = [file for file in files if not (folder / file).exists()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} pictures of its study; start `prepare` again.")
    return study


def summarise(folder: Path) -> dict:
    """What `preference.json` holds but for the command that made it.

    Raises:
        FileNotFoundError: If there is no whole study.
        ValueError: If nobody has voted, or a vote is of another study.
    """
    study = load_study(folder)
    ballot = read_votes(folder / VOTES_FILE, study)
    votes = list(ballot.votes.values())
    if not votes:
        raise ValueError(f"{folder} holds no votes yet; `serve` collects them.")
    levels = preferences(study, votes)
    participants, photos = len({vote.participant for vote in votes}), len({vote.photo for vote in votes})
    facts = study["set"]
    remarks = [
        f"Participants: {participants}; photos: {photos} of {len(study['photos'])}; votes: {len(votes)} (each ranks "
        f"all {len(study['systems'])} fills of a photo, without ties). The paper's: 24, 80 and 1920.",
        "Share of votes where the row was ranked above the column. In brackets: exact 95 % intervals (Clopper and "
        "Pearson), which treat votes as independent; votes of one participant or on one photo are not, so an "
        "honest one is likely wider. The paper prints none.",
        f"Photos: {facts['data']}, {facts['split']}, {facts['masks']}. The paper's numbers are of other people, on "
        "Outdoor Scenes and Cityscapes.",
        *ballot.remarks,
    ]
    unlabelled = sum(photo["num_classes"] == 0 for photo in study["photos"])
    if unlabelled:
        remarks.append(f"{unlabelled} photos have no labels and count in `overall` alone.")
    return {
        "participants": participants,
        "photos": photos,
        "votes": len(votes),
        "remarks": remarks,
        "levels": levels,
        "systems": study["systems"],
        "set": facts,
    }


def tables(folder: Path, command: list[str]) -> None:
    """Writes and prints the preference matrix.

    Raises:
        FileNotFoundError: If there is no whole study.
        ValueError: If nobody has voted, or a vote is of another study.
    """
    paper = json.loads(PAPER_FILE.read_text(encoding="utf-8"))["tables"]["2"]
    record = summarise(folder)
    page = preference_table(record, paper)
    record |= {"paper": paper, "provenance": provenance(command), "finished": now()}
    write_whole(folder / "preference.json", json.dumps(record, indent=2) + "\n")
    write_whole(folder / "preference.md", page)
    print(page)


def serve_study(folder: Path, port: int) -> None:
    """Serves the page until it is stopped.

    Raises:
        FileNotFoundError: If there is no whole study.
        ImportError: If Gradio is missing.
        ValueError: If a vote is of another study.
    """
    try:
        from eval.study_page import StudyPage, serve  # the other two commands do without Gradio
    except ModuleNotFoundError as error:
        raise ImportError(f"The page needs {error.name}: pip install -e .[demo,eval]") from error
    page = StudyPage(folder, load_study(folder))
    for remark in page.remarks:
        print(f"Note: {remark}.")
    serve(page, port)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.user_study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare", help="fill photos and write them under names that tell nothing")
    first.add_argument("systems", nargs="+", metavar="NAME=SYSTEM", help="as `eval.run` takes them")
    first.add_argument("--data", required=True, help="prepared folder, Hub id or toy:COUNT")
    first.add_argument("--split", default="report")
    first.add_argument("--masks", default="centre-96", help="mask set")
    first.add_argument(
        "--count",
        type=int,
        help=f"photos, drawn at random (default: {PAPERS_PHOTOS}, as in the paper, or all if fewer)",
    )
    first.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    first.add_argument("--seed", type=int, default=0, help="seed of the draw, the orders and random mask sets")
    first.add_argument("--device", default="cpu", help="where the networks run")
    first.add_argument("--out", type=Path, required=True, help="folder for the study")
    second = commands.add_parser("serve", help="let people rank")
    second.add_argument("folder", type=Path, help="what `prepare` wrote")
    second.add_argument("--port", type=int, default=7861)
    third = commands.add_parser("tables", help="write the preference matrix")
    third.add_argument("folder", type=Path, help="what `prepare` wrote, with votes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs one of the three commands; what is wrong with its input ends in one line."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments(words)
    command = ["python", "-m", "eval.user_study", *words]
    with said_in_a_sentence("eval.user_study"):
        if arguments.command == "prepare":
            prepare(arguments, command)
        elif arguments.command == "serve":
            serve_study(arguments.folder, arguments.port)
        else:
            tables(arguments.folder, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
