"""Holes: where the photo is missing, and where a user says what belongs there.

The kinds of mask of the paper's section 4.1 (centre squares, random rectangles, irregular masks after "Image
Inpainting for Irregular Holes Using Partial Convolutions"), free-form strokes, and partial semantic prompts for
training.

Every mask is a bool array of shape (height, width), True = hole. Randomness is passed in as a
`numpy.random.Generator`. Coordinates are rounded to sixteenths of a pixel before anything is drawn, so that a seed
gives the same mask on every machine.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


# Hole ratios in the steps that irregular masks are published and reported in: low < ratio <= high.
HOLE_RATIO_BINS = ((0.01, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.4, 0.5), (0.5, 0.6))

# Training never sees more than half of a photo missing: the rest of the mask files is for evaluation.
TRAINING_BINS = HOLE_RATIO_BINS[:5]

DEFAULT_MASK_MIX = {"centre": 0.25, "boxes": 0.2, "free_form": 0.3, "irregular": 0.25}

# Evaluation sets with a published name; `centre-N` works for every N.
MASK_SETS = (
    "centre-96",
    "centre-128",
    "boxes",
    "free-form",
    *(f"irregular-{round(low * 100)}-{round(high * 100)}" for low, high in HOLE_RATIO_BINS),
)
CENTRE = re.compile(r"centre-(\d+)")


def centre_mask(height: int, width: int, hole_height: int, hole_width: int | None = None) -> np.ndarray:
    """A rectangle in the middle, as in the paper's tables (128x128 and 96x96).

    Raises:
        ValueError: The hole is empty or larger than the image.
    """
    hole_width = hole_height if hole_width is None else hole_width
    if not (1 <= hole_height <= height and 1 <= hole_width <= width):
        raise ValueError(
            f"A hole of {hole_width}x{hole_height} does not fit an image of {width}x{height}: "
            "use a smaller hole or a larger crop."
        )
    mask = np.zeros((height, width), dtype=bool)
    top, left = (height - hole_height) // 2, (width - hole_width) // 2
    mask[top : top + hole_height, left : left + hole_width] = True
    return mask


def random_boxes_mask(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    count: tuple[int, int] = (1, 4),
    side: tuple[float, float] = (0.12, 0.4),
) -> np.ndarray:
    """Several rectangles, each side a random share of the image's.

    Args:
        count: Smallest and largest number of rectangles, both included.
        side: Smallest and largest side of a rectangle as a share of the image's side.
    """
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(rng.integers(count[0], count[1] + 1)):
        box_height = max(1, round(height * rng.uniform(*side)))
        box_width = max(1, round(width * rng.uniform(*side)))
        top = rng.integers(0, height - box_height + 1)
        left = rng.integers(0, width - box_width + 1)
        mask[top : top + box_height, left : left + box_width] = True
    return mask


def free_form_mask(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    strokes: tuple[int, int] = (1, 4),
    vertices: tuple[int, int] = (4, 12),
    stroke_width: tuple[float, float] = (0.047, 0.16),
) -> np.ndarray:
    """Brush strokes like a person's who paints an object over.

    The numbers are those of free-form training (field practice: 12 to 40 pixels wide at 256), as shares of the image's
    shorter side, so that masks of 128 and of 256 pixels look alike.
    """
    mask = np.zeros((height, width), dtype=bool)
    for _ in range(rng.integers(strokes[0], strokes[1] + 1)):
        mask |= np.isfinite(_random_stroke(height, width, rng, vertices, stroke_width))
    return mask


def generated_irregular_mask(
    height: int, width: int, rng: np.random.Generator, ratio_bin: tuple[float, float]
) -> np.ndarray:
    """An irregular mask whose hole ratio lies in `ratio_bin` exactly; for those who lack the published mask files.

    Strokes are added until the area is reached; the last one stops on the way.

    Raises:
        ValueError: No whole number of pixels lies in the bin.
    """
    low, high = ratio_bin
    fewest, most = int(np.floor(low * height * width)) + 1, int(np.floor(high * height * width))
    if not 0 <= low < high <= 1 or fewest > most:
        raise ValueError(
            f"No mask of {width}x{height} has a hole ratio in ({low}, {high}]: use a larger image or bin."
        )
    wanted = int(rng.integers(fewest, most + 1))

    mask = np.zeros((height, width), dtype=bool)
    while (missing := wanted - int(mask.sum())) > 0:
        arrival = _random_stroke(height, width, rng, vertices=(3, 10), stroke_width=(0.02, 0.12))
        arrival[mask] = np.inf
        fresh = np.flatnonzero(np.isfinite(arrival))
        if len(fresh) > missing:
            fresh = fresh[np.argsort(arrival.flat[fresh], kind="stable")[:missing]]
        mask.flat[fresh] = True
    return mask


class IrregularMaskFiles:
    """Mask files of any size, white = hole, grouped by the hole ratio that they really have.

    Made for the published irregular masks of partial convolutions. Measuring thousands of files takes seconds, so the
    ratios are kept in the user's cache folder (`SGENET_CACHE`, default `~/.cache/sgenet_hf`).

    Raises:
        FileNotFoundError: The folder holds no PNG.
        ValueError: A file cannot be read as an image; the message names it.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.names = sorted(path.name for path in self.folder.glob("*.png"))
        if not self.names:
            raise FileNotFoundError(f"No mask files (*.png, white = hole) in {self.folder}.")
        self.ratios = self._measure()

    def names_in(self, ratio_bin: tuple[float, float]) -> list[str]:
        """Names of the files with low < hole ratio <= high, sorted."""
        low, high = ratio_bin
        return [name for name, ratio in zip(self.names, self.ratios, strict=True) if low < ratio <= high]

    def sample(
        self, rng: np.random.Generator, height: int, width: int, ratio_bin: tuple[float, float] | None = None
    ) -> np.ndarray:
        """One mask, mirrored at random, brought to size without new grey levels (nearest).

        Raises:
            ValueError: No file lies in the bin.
        """
        names = self.names if ratio_bin is None else self.names_in(ratio_bin)
        if not names:
            raise ValueError(f"No mask in {self.folder} has a hole ratio in {ratio_bin}.")
        mask = _read_mask_file(self.folder / names[rng.integers(len(names))])
        mirror, flip = rng.random(2) < 0.5
        rows = (np.arange(height) * mask.shape[0] + mask.shape[0] // 2) // height
        columns = (np.arange(width) * mask.shape[1] + mask.shape[1] // 2) // width
        return mask[np.ix_(rows[:: -1 if flip else 1], columns[:: -1 if mirror else 1])]

    def _measure(self) -> list[float]:
        files = [(name, (self.folder / name).stat()) for name in self.names]
        facts = [[name, info.st_size, info.st_mtime_ns] for name, info in files]
        key = hashlib.sha256(json.dumps([str(self.folder.resolve()), facts]).encode()).hexdigest()[:20]
        home = Path(os.environ.get("SGENET_CACHE") or Path.home() / ".cache" / "sgenet_hf")
        cached = home / f"hole-ratios-{key}.json"
        if cached.is_file():
            return json.loads(cached.read_text())
        ratios = [float(_read_mask_file(self.folder / name).mean()) for name in self.names]
        _write_cache(cached, json.dumps(ratios))
        return ratios


def training_mask(
    height: int,
    width: int,
    rng: np.random.Generator,
    mix: Mapping[str, float] | None = None,
    irregular_files: IrregularMaskFiles | None = None,
) -> np.ndarray:
    """One mask of a kind drawn by weight.

    Args:
        mix: Weight of each kind: `centre` (3/8 to 1/2 of the shorter side, the span of the paper's two sizes),
            `boxes`, `free_form`, `irregular`; they need not sum to 1. Default: `DEFAULT_MASK_MIX`.
        irregular_files: Where `irregular` comes from; without them it is generated.

    Raises:
        ValueError: An unknown kind, a negative weight, or no weight at all.
    """
    mix = DEFAULT_MASK_MIX if mix is None else mix
    check_mask_mix(mix)
    weights = np.cumsum(list(mix.values()), dtype=np.float64)
    kind = list(mix)[int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))]
    if kind == "centre":
        return centre_mask(height, width, max(1, round(min(height, width) * rng.uniform(3 / 8, 1 / 2))))
    if kind == "boxes":
        return random_boxes_mask(height, width, rng)
    if kind == "free_form":
        return free_form_mask(height, width, rng)
    ratio_bin = TRAINING_BINS[rng.integers(len(TRAINING_BINS))]
    if irregular_files is None:
        return generated_irregular_mask(height, width, rng, ratio_bin)
    return irregular_files.sample(rng, height, width, ratio_bin)


def check_mask_mix(mix: Mapping[str, float]) -> None:
    """Raises ValueError if `mix` is not a mix of known kinds with usable weights."""
    unknown = set(mix) - set(DEFAULT_MASK_MIX)
    if unknown:
        raise ValueError(f"Unknown kinds of mask {sorted(unknown)}: use {sorted(DEFAULT_MASK_MIX)}.")
    if any(weight < 0 for weight in mix.values()) or sum(mix.values()) <= 0:
        raise ValueError(f"A mask mix needs weights >= 0 and at least one above 0, not {dict(mix)}.")


def check_mask_set(name: str) -> None:
    """Raises ValueError if there is no evaluation set of this name."""
    if name not in MASK_SETS and not CENTRE.fullmatch(name):
        raise ValueError(f"Unknown mask set {name!r}: use centre-N or one of {', '.join(MASK_SETS)}.")


def evaluation_mask(
    name: str,
    seed: int,
    index: int,
    height: int,
    width: int,
    irregular_files: IrregularMaskFiles | None = None,
) -> np.ndarray:
    """Mask number `index` of the evaluation set `name`; depends on its arguments only.

    Args:
        name: One of `MASK_SETS`, or `centre-N` for a centre square of N pixels.
        irregular_files: Files for the `irregular-LOW-HIGH` sets; without them the masks are generated.

    Raises:
        ValueError: Unknown name.
    """
    check_mask_set(name)
    if centre := CENTRE.fullmatch(name):
        return centre_mask(height, width, int(centre[1]))
    rng = np.random.default_rng([seed, index, zlib.crc32(name.encode())])
    if name == "boxes":
        return random_boxes_mask(height, width, rng)
    if name == "free-form":
        return free_form_mask(height, width, rng)
    low, high = (int(percent) / 100 for percent in name.split("-")[1:])
    if irregular_files is None:
        return generated_irregular_mask(height, width, rng, (low, high))
    return irregular_files.sample(rng, height, width, (low, high))


def mask_set_sha256(masks: Iterable[np.ndarray]) -> str:
    """Fingerprint of a set of masks: sizes, pixels and order."""
    digest = hashlib.sha256()
    for mask in masks:
        digest.update(np.array(mask.shape, dtype="<i8").tobytes())
        digest.update(np.packbits(np.asarray(mask, dtype=bool)).tobytes())
    return digest.hexdigest()


def grow_mask(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Grows the hole by a disc of radius `pixels`; negative values shrink it.

    Outside the image there is nothing: holes do not grow in from there, and do not shrink from the image's border.
    """
    mask = np.asarray(mask, dtype=bool)
    if pixels < 0:
        return ~grow_mask(~mask, -pixels)
    if pixels == 0 or not mask.any():
        return mask.copy()

    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(0, rows[0] - pixels), max(0, columns[0] - pixels)
    window = mask[top : rows[-1] + pixels + 1, left : columns[-1] + pixels + 1]

    # Distance along the row to the nearest hole pixel, then a disc is a stack of rows of known half width.
    position = np.arange(window.shape[1], dtype=np.int32)
    far = np.int32(1 << 24)
    before = np.maximum.accumulate(np.where(window, position, -far), axis=1)
    after = np.minimum.accumulate(np.where(window, position, far)[:, ::-1], axis=1)[:, ::-1]
    distance = np.minimum(position - before, after - position)
    grown = np.zeros_like(window)
    for offset in range(min(pixels, window.shape[0] - 1) + 1):
        near = distance <= int(np.sqrt(pixels * pixels - offset * offset))
        grown[offset:] |= near[: len(near) - offset]
        grown[: len(grown) - offset] |= near[offset:]

    result = np.zeros_like(mask)
    result[top : top + window.shape[0], left : left + window.shape[1]] = grown
    return result


def partial_prompt(
    labels: np.ndarray,
    mask: np.ndarray,
    rng: np.random.Generator,
    num_labels: int,
    ignore_index: int = 255,
    whole_share: float = 0.1,
) -> np.ndarray:
    """What a user might paint into the hole: a few ragged strokes that carry the true classes, -1 everywhere else.

    Half of the strokes stay in the class that they start in, as a brush of one colour does. A share of the prompts
    names the whole hole, so that a full drawing works too.

    Args:
        labels: True class ids, shape (height, width).
        mask: True = hole.
        whole_share: How often the whole hole is prompted.

    Returns:
        int64 array of shape (height, width): class ids on some hole pixels, -1 = the model decides.
    """
    height, width = labels.shape
    usable = mask & (labels != ignore_index) & (labels >= 0) & (labels < num_labels)
    candidates = np.flatnonzero(usable)
    prompt = np.full((height, width), -1, dtype=np.int64)
    if not len(candidates):
        return prompt
    if rng.random() < whole_share:
        chosen = usable
    else:
        chosen = np.zeros((height, width), dtype=bool)
        reach = np.sqrt(mask.sum())
        for _ in range(rng.integers(1, 4)):
            start = int(candidates[rng.integers(len(candidates))])
            radius = max(1.0, reach * rng.uniform(0.05, 0.3))
            steps = rng.normal(0.0, reach / 4, (rng.integers(1, 5), 2))
            points = np.cumsum(np.vstack([[divmod(start, width)], steps]), axis=0)
            stroke = _ragged(np.isfinite(_draw_stroke(height, width, points, radius)), radius, rng)
            if rng.random() < 0.5:
                stroke &= labels == labels.flat[start]
            stroke.flat[start] = True
            chosen |= stroke
    return np.where(chosen & usable, labels, prompt).astype(np.int64)


def counterfactual_prompt(
    mask: np.ndarray, rng: np.random.Generator, classes: Sequence[int], whole_share: float = 0.5
) -> np.ndarray:
    """What a user might paint into the hole to have something else there: one class that need not be the true one.

    Args:
        mask: True = hole, shape (height, width).
        classes: Ids to draw the class from.
        whole_share: How often the whole hole is prompted; else a few strokes are.

    Returns:
        int64 array of shape (height, width): the class id on some hole pixels, -1 = the model decides.
    """
    wanted = classes[int(rng.integers(len(classes)))]
    if rng.random() < whole_share:
        return np.where(mask, wanted, -1).astype(np.int64)
    one_class = np.zeros(mask.shape, dtype=np.int64)
    strokes = partial_prompt(one_class, mask, rng, num_labels=1, whole_share=0) >= 0
    return np.where(strokes, wanted, -1).astype(np.int64)


def _ragged(region: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Frays the edge: cells of 4x4 pixels look up their value a random step away, single pixels one step more."""
    height, width = region.shape
    step = max(1, round(radius / 3))
    cells = rng.integers(-step, step + 1, (2, -(-height // 4), -(-width // 4)))
    down, right = cells.repeat(4, axis=1).repeat(4, axis=2)[:, :height, :width] + rng.integers(
        -1, 2, (2, height, width)
    )
    rows = np.clip(np.arange(height)[:, None] + down, 0, height - 1)
    columns = np.clip(np.arange(width)[None, :] + right, 0, width - 1)
    return region[rows, columns]


def _random_stroke(
    height: int,
    width: int,
    rng: np.random.Generator,
    vertices: tuple[int, int],
    stroke_width: tuple[float, float],
) -> np.ndarray:
    """A stroke that bends to and fro; see `_draw_stroke` for the result."""
    side = min(height, width)
    count = int(rng.integers(vertices[0], vertices[1] + 1))
    bend = rng.uniform(0.5, 1.5)
    angles = np.cumsum(rng.uniform(-1, 1, count) * bend * np.pi / 2) + rng.uniform(0, 2 * np.pi)
    lengths = np.maximum(rng.normal(np.hypot(height, width) / 8, side / 16, count), 1.0)
    steps = np.stack([np.sin(angles), np.cos(angles)], axis=1) * lengths[:, None]
    start = rng.uniform(0, 1, 2) * (height, width)
    points = np.cumsum(np.vstack([start, steps]), axis=0)
    # Folded back at the borders: clipped strokes would creep along them.
    span = np.maximum((height - 1, width - 1), 1)
    points = span - np.abs(points % (2 * span) - span)
    return _draw_stroke(height, width, points, side * rng.uniform(*stroke_width) / 2)


def _draw_stroke(height: int, width: int, points: np.ndarray, radius: float) -> np.ndarray:
    """Draws a polyline of round brush marks.

    Args:
        points: (n, 2) rows and columns.
        radius: Half of the brush's width, in pixels.

    Returns:
        Float array of shape (height, width): how far along the line the brush first touches a pixel, in segments;
        infinite where it never does.
    """
    points, radius = np.round(np.asarray(points) * 16) / 16, max(0.75, np.round(radius * 16) / 16)
    arrival = np.full((height, width), np.inf)
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        low = np.maximum(np.floor(np.minimum(start, end) - radius), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + radius) + 1, (height, width)).astype(int)
        if (low >= high).any():
            continue
        rows = np.arange(low[0], high[0])[:, None] - start[0]
        columns = np.arange(low[1], high[1])[None, :] - start[1]
        down, right = end - start
        share = np.clip((rows * down + columns * right) / max(down * down + right * right, 1 / 256), 0.0, 1.0)
        touched = (rows - share * down) ** 2 + (columns - share * right) ** 2 <= radius * radius
        window = arrival[low[0] : high[0], low[1] : high[1]]
        np.minimum(window, number + share, out=window, where=touched)
    return arrival


@functools.lru_cache(maxsize=2048)
def _read_packed(path: str, version: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
    """`version` is the file's size and time: a changed file is read again."""
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("L")) >= 128
    except (OSError, SyntaxError) as error:
        raise ValueError(f"Mask file {path} is not a readable image: {error}. Remove or replace it.") from error
    return np.packbits(pixels).tobytes(), pixels.shape


def _read_mask_file(path: Path) -> np.ndarray:
    """One mask file as bool; kept in memory at one bit a pixel, for training reads each many times."""
    info = path.stat()
    packed, (height, width) = _read_packed(str(path), (info.st_size, info.st_mtime_ns))
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=height * width)
    return bits.reshape(height, width).astype(bool)


def _write_cache(path: Path, text: str) -> None:
    """Best effort: a read-only home only costs measuring again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.replace(name, path)
    except OSError:
        return
