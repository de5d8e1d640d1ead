"""Scores fills on held-out photos, by one protocol and from one command.

    python -m eval.run telea navier_stokes nearest_label street \
        --data PREPARED_FOLDER --splits dev report --masks centre-96 \
        --features google/mobilenet_v2_1.0_224 --out runs/eval

Systems are classical methods, checkpoints (bundled name, folder or Hub id), or `oracle:CHECKPOINT`, which is guided by
the true labels; `NAME=SYSTEM` gives one a name. Data is a folder written by `sgenet prepare`, a Hub id or `toy:COUNT`.

Written to `--out`: `result.json` (numbers, protocol, hashes, provenance), `result.md` (the table that is printed) and
`images/*.parquet` with one row per photo. The rows of finished pieces are kept: the same command, started again after
it was stopped, computes only what is missing. A row is reused only for the same code, weights, photos and masks.

Numbers: on the uint8 composite, RGB, mean over photos (`eval/metrics` spells each one out); hole and whole photo
apart; domains (what stands before the `/` in the column `group`) apart and together.
"""

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from eval.columns import columns_for, markdown_rows
from eval.evaluation_set import EvaluationSet, Sample
from eval.metrics.feature_distance.feature_distance import FeatureNetwork, frechet_distance
from eval.metrics.l1.l1 import l1
from eval.metrics.mean_iou.mean_iou import class_iou, confusion_matrix, mean_iou
from eval.metrics.psnr.psnr import psnr
from eval.metrics.sharpness_ratio.sharpness_ratio import gradient_sum
from eval.metrics.ssim.ssim import ssim
from eval.provenance import code_sha256, now, provenance, weights_sha256
from eval.systems import System, load_system


ROWS_PER_FILE = 32  # how much work a kill can cost

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("group", pa.string()),
        ("hole_pixels", pa.int64()),
        ("hole_psnr", pa.float64()),
        ("hole_ssim", pa.float64()),
        ("hole_l1", pa.float64()),
        ("psnr", pa.float64()),
        ("ssim", pa.float64()),
        ("l1", pa.float64()),
        ("hole_gradient", pa.float64()),
        ("true_hole_gradient", pa.float64()),
        ("hole_confusion", pa.list_(pa.int64())),
        ("features", pa.list_(pa.float64())),
    ]
)
MEANS = ("hole_psnr", "hole_ssim", "hole_l1", "psnr", "ssim", "l1")


def score(system: System, sample: Sample, num_labels: int, network: FeatureNetwork | None) -> dict:
    """One row: everything that the tables need to know about one fill."""
    emptied = np.where(sample.mask[..., None], np.uint8(0), sample.photo)  # nobody gets to see the answer
    filled = system.fill(emptied, sample.labels, sample.mask)
    row: dict = {"id": sample.id, "group": sample.group, "hole_pixels": int(sample.mask.sum())}
    if filled.image is not None:
        if not np.array_equal(filled.image[~sample.mask], sample.photo[~sample.mask]):
            raise ValueError(f"{system.name} changed known pixels of {sample.id}; a composite must keep them.")
        for metric in (psnr, ssim, l1):
            row[f"hole_{metric.__name__}"] = metric(filled.image, sample.photo, sample.mask)
            row[metric.__name__] = metric(filled.image, sample.photo)
        row["hole_gradient"] = gradient_sum(filled.image, sample.mask)
        row["true_hole_gradient"] = gradient_sum(sample.photo, sample.mask)
        if network is not None:
            row["features"] = network([filled.image])[0]
    if filled.labels is not None:
        row["hole_confusion"] = confusion_matrix(filled.labels, sample.labels, num_labels, sample.mask).ravel()
    return row


def truth_row(network: FeatureNetwork, sample: Sample) -> dict:
    """The true photo's features, the other side of the feature distance."""
    return {"id": sample.id, "group": sample.group, "features": network([sample.photo])[0]}


def rows_of_unit(
    folder: Path, unit: str, identity: dict, samples: EvaluationSet, make_row: Callable[[Sample], dict]
) -> list[dict]:
    """Rows of one system on one set, from finished files where their identity is the same, else computed and kept."""
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    rows: list[dict] = []
    with tqdm(total=len(samples), desc=unit, unit="photo") as progress:
        for start in range(0, len(samples), ROWS_PER_FILE):
            path = folder / f"{slug(unit)}-{start:06d}.parquet"
            count = min(ROWS_PER_FILE, len(samples) - start)
            if path.exists() and (pq.read_schema(path).metadata or {}).get(b"sgenet_eval") == key.encode():
                progress.update(count)
            else:
                made = []
                for position in range(start, start + count):
                    made.append(make_row(samples[position]))
                    progress.update()
                table = pa.Table.from_pylist(made, schema=SCHEMA.with_metadata({"sgenet_eval": key}))
                unfinished = path.with_suffix(".partial")
                pq.write_table(table, unfinished)
                os.replace(unfinished, path)
            rows += pq.read_table(path).to_pylist()
    return rows


def slug(text: str) -> str:
    """A file name made of `text`."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")


def summarise(rows: list[dict], truth: dict[str, list[float]] | None, num_labels: int, distance_name: str) -> dict:
    """The numbers of one line of the table; what the system cannot give is left out."""
    summary: dict = {"n": len(rows)}
    for name in MEANS:
        if rows[0][name] is not None:
            summary[name] = float(np.mean([row[name] for row in rows]))
    if rows[0]["hole_gradient"] is not None:
        truth_sum = float(np.sum([row["true_hole_gradient"] for row in rows]))
        ours_sum = float(np.sum([row["hole_gradient"] for row in rows]))
        summary["hole_sharpness_ratio"] = ours_sum / truth_sum if truth_sum else None
    if truth is not None and rows[0]["features"] is not None and len(rows) > 1:
        features = np.array([row["features"] for row in rows])
        summary[distance_name] = frechet_distance(features, np.array([truth[row["id"]] for row in rows]))
    if rows[0]["hole_confusion"] is not None:
        confusion = np.sum([row["hole_confusion"] for row in rows], axis=0).reshape(num_labels, num_labels + 1)
        if confusion.any():
            summary["hole_mean_iou"] = mean_iou(confusion)
            summary["hole_class_iou"] = [None if np.isnan(value) else float(value) for value in class_iou(confusion)]
            summary["hole_accuracy"] = float(np.trace(confusion[:, :num_labels]) / confusion.sum())
    return summary


def evaluate_set(
    folder: Path, samples: EvaluationSet, systems: list[System], network: FeatureNetwork | None
) -> tuple[dict, list[dict]]:
    """All systems on one set: its fingerprint, and one result for each system and domain."""
    facts = samples.fingerprint()
    # A network may predict a class that this split does not hold: that must count as wrong, not vanish.
    num_labels = max([facts["num_labels"], *(system.num_labels or 0 for system in systems)])
    place = f"{samples.data} {samples.split}"
    truth, distance_name, features_sha256 = None, "", None
    common = {"code": code_sha256(), "set": {key: facts[key] for key in ("crops_sha256", "mask_set_sha256")}}
    if network is not None:
        distance_name, features_sha256 = network.distance_name, weights_sha256(network.model)
        facts |= {"feature_network": distance_name.removeprefix("FD-"), "feature_network_sha256": features_sha256}
        identity = {"code": common["code"], "crops": facts["crops_sha256"], "features": features_sha256}
        truth_rows = rows_of_unit(folder, f"{place} truth", identity, samples, partial(truth_row, network))
        truth = {row["id"]: row["features"] for row in truth_rows}

    results = []
    for system in systems:
        identity = common | {"system": system.identity, "num_labels": num_labels, "features": features_sha256}
        unit = f"{place} {samples.masks} {system.name}"
        make_row = partial(score, system, num_labels=num_labels, network=network)
        rows = rows_of_unit(folder, unit, identity, samples, make_row)
        for domain in [*facts["domains"], "all"] if len(facts["domains"]) > 1 else facts["domains"]:
            chosen = [row for row in rows if domain in ("all", row["group"].split("/")[0])]
            line = {"data": samples.data, "split": samples.split, "masks": samples.masks, "domain": domain}
            line |= {"system": system.name, "identity": system.identity}
            results.append(line | summarise(chosen, truth, num_labels, distance_name))
    return facts, results


def markdown(results: Iterable[dict]) -> str:
    """The results as a table with every score that any of them has."""
    ordered = sorted(results, key=lambda r: (r["data"], r["split"], r["masks"], r["domain"] == "all", r["domain"]))
    columns = columns_for(name for result in ordered for name in result)
    return markdown_rows(
        ["split", "masks", "domain", "N", "system", *(column.heading for column in columns)],
        (
            [*(str(result[key]) for key in ("split", "masks", "domain", "n", "system"))]
            + [column.cell(result.get(column.name)) for column in columns]
            for result in ordered
        ),
    )


def write(path: Path, text: str) -> None:
    """Writes whole files only."""
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m eval.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="+", metavar="SYSTEM", help="telea, navier_stokes, nearest_label, CHECKPOINT")
    parser.add_argument("--data", nargs="+", required=True, help="prepared folders, Hub ids, toy:COUNT")
    parser.add_argument("--splits", nargs="+", default=["report"], help="splits of each data set")
    parser.add_argument("--masks", nargs="+", default=["centre-96"], help="mask sets, e.g. centre-128 irregular-20-30")
    parser.add_argument("--mask-files", help="folder of irregular mask files (white = hole); generated without it")
    parser.add_argument("--features", help="Hub id or folder of the network for the feature distance; none without it")
    parser.add_argument("--size", type=int, default=256, help="shorter side and side of the centre crop, in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random mask sets")
    parser.add_argument("--limit", type=int, help="photos of each split, evenly spread (default: all)")
    parser.add_argument("--device", default="cpu", help="where the networks run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Evaluates, writes the results and prints the table."""
    arguments = parse_arguments(argv)
    systems = [load_system(specification, arguments.device) for specification in arguments.systems]
    names = [system.name for system in systems]
    if len(set(map(slug, names))) < len(names):
        raise SystemExit(f"Two systems would have one name in {names}: name them, e.g. first=FOLDER second=FOLDER.")
    network = FeatureNetwork(arguments.features, arguments.device) if arguments.features else None
    folder = arguments.out / "images"
    folder.mkdir(parents=True, exist_ok=True)

    sets, results = [], []
    for data in arguments.data:
        for split in arguments.splits:
            for masks in arguments.masks:
                samples = EvaluationSet(
                    data,
                    split,
                    masks,
                    size=arguments.size,
                    seed=arguments.seed,
                    limit=arguments.limit,
                    mask_files=arguments.mask_files,
                )
                facts, lines = evaluate_set(folder, samples, systems, network)
                sets.append(facts)
                results += lines

    command = ["python", "-m", "eval.run", *(sys.argv[1:] if argv is None else argv)]
    record = {"provenance": provenance(command), "sets": sets, "results": results, "finished": now()}
    write(arguments.out / "result.json", json.dumps(record, indent=2) + "\n")
    table = markdown(results)
    write(arguments.out / "result.md", table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
