"""The published mask sets: by name, seed and hash, so that two people can know that they cut the same holes.

    python -m eval.mask_sets            # writes eval/mask_sets.json
    python -m eval.mask_sets --check    # exit code 1 where this code draws other masks

The hashes are of the first 300 and 500 masks, as many as the paper has test photos of Outdoor Scenes and Cityscapes,
and of the first 10 for a quick look; a result file holds the hash of exactly the masks that it used.
"""

import argparse
import json
from pathlib import Path

from eval.files import write_whole
from sgenet_hf.masks import HOLE_RATIO_BINS, evaluation_mask, mask_set_sha256


FILE = Path(__file__).resolve().parent / "mask_sets.json"
# Section 4.1 of the paper: centre holes of 128 (Outdoor Scenes) and 96 (Cityscapes), rectangles, irregular masks.
PUBLISHED = (
    "centre-128",
    "centre-96",
    "boxes",
    *(f"irregular-{round(low * 100)}-{round(high * 100)}" for low, high in HOLE_RATIO_BINS[1:]),
)
SEED, SIZE, COUNTS = 0, 256, (10, 300, 500)


def hashes(counts: tuple[int, ...] = COUNTS) -> dict:
    """Hash of the first masks of every published set.

    Args:
        counts: How many.
    """
    sets = {}
    for name in PUBLISHED:
        masks = [evaluation_mask(name, SEED, index, SIZE, SIZE) for index in range(max(counts))]
        sets[name] = {str(count): mask_set_sha256(masks[:count]) for count in counts}
    return {"seed": SEED, "size": SIZE, "sha256_of_the_first": sets}


def main(argv: list[str] | None = None) -> int:
    """Writes or checks the file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; say whether the hashes still hold")
    arguments = parser.parse_args(argv)
    fresh = hashes()
    if arguments.check:
        same = FILE.exists() and json.loads(FILE.read_text()) == fresh
        print("The mask sets are the published ones." if same else f"This code draws other masks than {FILE.name}.")
        return 0 if same else 1
    write_whole(FILE, json.dumps(fresh, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
