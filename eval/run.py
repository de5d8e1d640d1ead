r"""Scores fills on held-out photos, by one protocol and from one command.

    python -m eval.run telea navier_stokes nearest_label street \
        --data PREPARED_FOLDER --splits dev report --masks centre-96 \
        --features google/mobilenet_v2_1.0_224 --out runs/eval
    torchrun --standalone --nproc_per_node 2 -m eval.run ...        # the same numbers from two processes

Systems are classical methods, checkpoints (bundled name, folder or Hub id), a checkpoint looked at in another way
(`oracle:`, `ones:`, `known:`, `nearest_predicted:`, see `eval/systems.py`), or `redrawn:SYSTEM`: any that paints,
redrawn with the photo's patches; `NAME=SYSTEM` gives one a name. Data are folders written by `sgenet prepare`, Hub ids
or `toy:COUNT`; `--masks published` stands for all sets of `eval/mask_sets.json`.

Written to `--out`: `result.json` (numbers, 95 % intervals, protocol, hashes, provenance), `result.md` (the table that
is printed) and `images/*.parquet` with one row per photo. The rows of finished pieces are kept: the same command,
started again after it was stopped, computes only what is missing. A row is reused only for the same code, weights,
photos, masks, device and threads.

Numbers: on the uint8 composite, RGB, mean over photos (`eval/metrics` spells each one out); hole and whole photo
apart; domains (what stands before the `/` in the column `group`) apart and together; distances of features on the
whole composite. Intervals: `eval/intervals.py`. Who beats whom by scene complexity is asked of systems alone, not of
other looks at them or of variants (`sgnet_wide`, `sgenet_seed1`).
"""

import argparse
import json
import sys
import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from eval.columns import columns_for, is_aside, is_variant, markdown_rows, system_name
from eval.commands import said_in_a_sentence
from eval.complexity import win_rates
from eval.evaluation_set import EvaluationSet, name_of_data
from eval.files import write_whole
from eval.intervals import draw
from eval.judges import Judges, load_judges
from eval.mask_sets import PUBLISHED
from eval.processes import Processes
from eval.provenance import code_sha256, now, provenance
from eval.rows import rows_of_unit, score, truth_row
from eval.scores import Summary, class_ious, distances_of, scores_of
from eval.systems import CLASSICAL, System, for_classes, load_systems, reference_of


def evaluate_set(
    folder: Path,
    samples: EvaluationSet,
    systems: list[System],
    judges: Judges,
    processes: Processes,
    reference: str | None,
    resamples: int,
) -> tuple[dict, list[dict], list[dict]]:
    """All systems on one set.

    Args:
        folder: Where rows are kept.
        samples: The set.
        systems: The systems.
        judges: What looks at the fills.
        processes: The processes of this run; all but the first get no results.
        reference: Name of the system that the others are compared with.
        resamples: Draws for the intervals, 0 for none.

    Returns:
        Fingerprint of the set, one result for each system and domain, and the split by complexity.
    """
    facts = processes.from_first(samples.fingerprint() if processes.is_first else None)
    with said_in_a_sentence("eval.run"):
        adapted = [for_classes(system, facts["class_names"]) for system in systems]
    foreign = [system.name for system, same in zip(systems, adapted, strict=True) if same is not system]
    if foreign and processes.is_first:
        said = "labels are not scored, the network's classes are not the data's."
        print(f"{', '.join(foreign)} on {samples.data}: {said}", file=sys.stderr)
    systems = adapted
    # A network may predict a class that this split does not hold: that must count as wrong, not vanish.
    num_labels = max([facts["num_labels"], *(system.num_labels or 0 for system in systems)])
    class_ids = None
    if judges.segmenter is not None:
        class_ids = judges.segmenter.class_ids(facts["class_names"] or [])
        facts |= {"segmenter": judges.segmenter.name}
        num_labels = max(num_labels, int(class_ids.max()) + 1)
    if judges.networks:
        facts |= {"feature_network": judges.networks[0].name, "photo_distance": judges.photo_distance}
        facts |= {"feature_network_sha256": judges.hashes[f"features:{judges.networks[0].name}"]}
    facts |= {"judges_sha256": judges.hashes}

    common = {"code": code_sha256(), "judges": judges.hashes, "threads": processes.threads}
    common |= {"device": processes.device.split(":")[0], "crops": facts["crops_sha256"]}
    place = f"{samples.data} {samples.split}"
    truth: dict[str, dict] = {}
    if judges.networks:
        make_row = partial(truth_row, judges)
        for row in rows_of_unit(folder, f"{place} truths", common, samples, judges, make_row, processes):
            truth[row["id"]] = row

    rows: dict[str, list[dict]] = {}
    for system in systems:
        identity = common | {"system": system.identity, "num_labels": num_labels, "masks": facts["mask_set_sha256"]}

        def make_system_row(sample, system=system):
            return score(system, sample, num_labels, judges, class_ids, truth.get(sample.id))

        unit = f"{place} {samples.masks} {system.name}"
        rows[system.name] = rows_of_unit(folder, unit, identity, samples, judges, make_system_row, processes)
    if not processes.is_first:
        return facts, [], []
    return facts, *summarise(samples, facts["domains"], systems, rows, truth, judges, num_labels, reference, resamples)


def summarise(
    samples: EvaluationSet,
    domains: list[str],
    systems: list[System],
    rows: dict[str, list[dict]],
    truth: dict[str, dict],
    judges: Judges,
    num_labels: int,
    reference: str | None,
    resamples: int,
) -> tuple[list[dict], list[dict]]:
    """Results of each system and domain, and the split by complexity of each domain, from all rows of a set."""
    results: dict[tuple[str, str], dict] = {}
    complexity = []
    shown = [*domains, "all"] if len(domains) > 1 else domains
    for domain in shown:
        place = {"data": samples.data, "split": samples.split, "masks": samples.masks, "domain": domain}
        chosen = {
            name: [row for row in own if domain in ("all", row["group"].split("/")[0])] for name, own in rows.items()
        }
        groups = [row["group"] for row in chosen[systems[0].name]]
        # The same draws for every system, and for every mask set: its photos are the same.
        rng = np.random.default_rng([samples.seed, zlib.crc32(domain.encode())])
        draws = draw(groups, rng, resamples, max(resamples // 5, 1)) if resamples else None
        summaries = {}
        for system in systems:
            own = chosen[system.name]
            distances = distances_of(own, truth, judges.networks, samples.seed)
            summaries[system.name] = Summary(scores_of(own, num_labels), distances, len(own), draws)
        for system in systems:
            summary, own = summaries[system.name], chosen[system.name]
            line = place | {"system": system.name, "identity": system.identity}
            line |= {"n": len(own), "num_groups": len(set(groups)), **summary.values, **class_ious(own, num_labels)}
            line |= {"intervals": summary.intervals()}
            if reference is not None and system.name != reference:
                difference = summary.difference(summaries[reference])
                line |= {"difference": {"reference": reference, "scores": difference}}
            results[system.name, domain] = line
        contestants = {name: own for name, own in chosen.items() if not (is_aside(name) or is_variant(name))}
        complexity += [place | entry for entry in win_rates(contestants, judges.photo_distance, draws)]
    ordered = [results[system.name, domain] for system in systems for domain in shown]
    return ordered, complexity


def markdown(results: Iterable[dict]) -> str:
    """The results as a table with every score that any of them has."""
    ordered = sorted(results, key=lambda r: (r["data"], r["split"], r["masks"], r["domain"] == "all", r["domain"]))
    columns = columns_for(name for result in ordered for name in result)
    return markdown_rows(
        ["split", "masks", "domain", "N", "system", *(column.heading for column in columns)],
        (
            [*(str(result[key]) for key in ("split", "masks", "domain", "n")), system_name(result["system"])]
            + [column.cell(result.get(column.name)) for column in columns]
            for result in ordered
        ),
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM", help=f"{', '.join(CLASSICAL)}, CHECKPOINT")
    parser.add_argument("--data", nargs="+", required=True, help="prepared folders, Hub ids, toy:COUNT")
    parser.add_argument("--splits", nargs="+", default=["report"], help="splits of each data set")
    parser.add_argument("--masks", nargs="+", default=["centre-96"], help="mask sets, or published for all of them")
    parser.add_argument("--mask-files", help="folder of irregular mask files (white = hole); generated without it")
    parser.add_argument("--features", nargs="+", default=[], help="Hub ids or folders of networks for distances")
    parser.add_argument(
        "--fid", nargs="?", const="", metavar="WEIGHTS", help="the published FID; needs torch-fidelity"
    )
    parser.add_argument("--lpips", metavar="WEIGHTS", help="file or Hub id of LPIPS weights, see eval/metrics/lpips")
    parser.add_argument("--segmenter", help="Hub id or folder of a network that segments the filled photos")
    parser.add_argument("--reference", help="system to compare with, by name (default: the first checkpoint)")
    parser.add_argument("--resamples", type=int, default=1000, help="draws for the intervals; 0 for none")
    parser.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random mask sets and of the intervals")
    parser.add_argument("--limit", type=int, help="photos of each split, evenly spread (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where the networks run")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process; another number, other digits")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    return parser.parse_args(argv)


def refuse_alike(data: Sequence[str]) -> None:
    """Results go by the names of their folders.

    Raises:
        ValueError: If two have one name.
    """
    names = [name_of_data(each) for each in data]
    if len(set(names)) < len(names):
        raise ValueError(f"Two data sets would have one name in {', '.join(names)}: rename a folder.")


def main(argv: list[str] | None = None) -> int:
    """Evaluates, writes the results and prints the table."""
    arguments = parse_arguments(argv)
    processes = Processes(arguments.device, arguments.threads)
    with said_in_a_sentence("eval.run"):
        refuse_alike(arguments.data)
        systems = load_systems(arguments.systems, processes.device)
        reference = reference_of(arguments.reference, systems)
        judges = load_judges(arguments.features, arguments.fid, arguments.lpips, arguments.segmenter, processes.device)
        folder = arguments.out / "images"
        folder.mkdir(parents=True, exist_ok=True)

    sets, results, complexity = [], [], []
    mask_sets = [name for wanted in arguments.masks for name in (PUBLISHED if wanted == "published" else [wanted])]
    for data in arguments.data:
        for split in arguments.splits:
            for masks in mask_sets:
                with said_in_a_sentence("eval.run"):
                    samples = EvaluationSet(
                        data,
                        split,
                        masks,
                        size=arguments.size,
                        seed=arguments.seed,
                        limit=arguments.limit,
                        mask_files=arguments.mask_files,
                    )
                facts, lines, entries = evaluate_set(
                    folder, samples, systems, judges, processes, reference, arguments.resamples
                )
                sets.append(facts)
                results += lines
                complexity += entries

    if processes.is_first:
        command = ["python", "-m", "eval.run", *(sys.argv[1:] if argv is None else argv)]
        record = {"provenance": provenance(command, processes.count), "sets": sets, "results": results}
        record |= {"complexity": complexity, "finished": now()}
        write_whole(arguments.out / "result.json", json.dumps(record, indent=2) + "\n")
        table = markdown(results)
        write_whole(arguments.out / "result.md", table)
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
