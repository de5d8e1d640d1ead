"""What the network thought, as HTML for a page: sentences, a table of classes, and the drawings of all scales.

Plain strings without a script and without an address: pictures are PNGs inside the page. `page.css` gives them their
look; `page.js` moves the step slider.
"""

import base64
import html
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .canvas import shrink_mask
from .masks import grow_mask
from .pipeline import InpaintingResult, ScaleView
from .visualization import colour_labels, confidence_heat_map, draw_reliability, hole_outline


DRAWING_SIDE = 512  # longer side of a drawing
# Where the words begin: on street photos of the dev list the score was close to the share of the hole that was named
# rightly (`eval/paper_figures.py` draws it).
VERDICTS = ((0.9, "very sure"), (0.75, "fairly sure"), (0.5, "unsure"), (0, "only guessing"))
CAVEAT = (
    '<p class="note">Confidence is about the class in the hole, not about how the fill looks. What the network says '
    "of itself was checked on street photos only.</p>"
)
ERROR_SHOWN = 64  # 8-bit values at which the drawing of the expected error is darkest
EXTREMES = {4: "coarsest", 0: "finest"}


@dataclass(frozen=True)
class ClassInHole:
    """A class that the finest scale sees in the hole: its share of the hole and its mean confidence there."""

    class_id: int
    name: str
    share: float
    confidence: float


def hole_at(result: InpaintingResult, size: tuple[int, int]) -> np.ndarray:
    """Returns the hole inside the region that the network looked at, at (width, height)."""
    left, top, right, bottom = result.region
    return shrink_mask(result.mask[top:bottom, left:right], size)


def classes_in_hole(result: InpaintingResult) -> list[ClassInHole]:
    """Returns what the finest scale sees in the hole, largest share first; [] if there was no hole."""
    if not result.scales:
        return []
    finest = result.scales[-1]
    hole = hole_at(result, finest.labels.shape[::-1])
    labels, confidence = finest.labels[hole], finest.confidence[hole]
    found = [
        ClassInHole(int(index), result.classes[int(index)], float(here.mean()), float(confidence[here].mean()))
        for index in np.unique(labels)
        for here in [labels == index]
    ]
    return sorted(found, key=lambda item: -item.share)


def changed_since(coarser: ScaleView, finer: ScaleView) -> np.ndarray:
    """Returns where the finer scale believes in another class than the coarser one did, bool (h, w) of the finer."""
    height, width = finer.labels.shape
    before = coarser.labels.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return before != finer.labels


def share_changed(result: InpaintingResult) -> float:
    """Returns the share of the hole in which the class was another at some coarser scale than at the finest."""
    finest = result.scales[-1].labels
    height, width = finest.shape
    changed = np.zeros(finest.shape, dtype=bool)
    for scale in result.scales[:-1]:
        factor = 2**scale.level
        changed |= scale.labels.repeat(factor, axis=0).repeat(factor, axis=1)[:height, :width] != finest
    return float(changed[hole_at(result, (width, height))].mean())


def show_verdict(result: InpaintingResult) -> str:
    """Returns one sentence that sums up how sure the network is, and the table of classes, as HTML; "" if no hole."""
    if not result.mask.any():
        return ""
    if result.score is None:
        return '<p class="lead">This network names no classes, so it does not say how sure it is.</p>'
    verdict = next(words for least, words in VERDICTS if result.score >= least)
    classes = classes_in_hole(result)
    sentence = (
        f"The network is <strong>{verdict}</strong> what belongs in the hole ({result.score:.0%} confidence on "
        f"average, the hole's rim left out): mostly {html.escape(classes[0].name)}"
    )
    if result.prompted:  # the coarsest scale knows no prompt: it has not changed its mind, it was told
        sentence += ". Where you painted, that is how well what you asked for fits in its view."
    else:
        sentence += (
            f", and between the coarsest and the finest scale it changed its mind about {share_changed(result):.0%} "
            "of it."
        )
    if result.expected_error is not None:
        sentence += (
            f" It expects the colours there to miss the truth by {result.expected_error:.0f} of 255 on average."
        )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(item.name)}</th><td>{item.share:.1%}</td>'
        f"<td>{item.confidence:.0%}</td></tr>"
        for item in classes
    )
    return (
        f'<p class="lead">{sentence}</p><table class="classes"><thead><tr><th scope="col">Class in the hole</th>'
        f'<th scope="col">Share</th><th scope="col">Confidence</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def describe(result: InpaintingResult, feather: int) -> str:
    """Returns what stands under the result: the verdict, warnings, and what was done, as HTML."""
    height, width = result.mask.shape
    others = f"those within {feather} pixels of the hole blended, all others" if feather else "all others"
    warnings = "".join(f'<p class="warning">{html.escape(warning)}</p>' for warning in result.warnings)
    verdict = show_verdict(result)
    texture = "" if result.noise_strength is None or not result.mask.any() else f" Texture: {result.noise_strength:g}."
    pull = "" if result.guidance_scale is None else f" The prompt pulled at {result.guidance_scale:g}."
    redrawn = " Redrawn with the photo's own patches." if result.redrawn else ""
    return (
        f'<div role="status">{verdict}{CAVEAT if verdict else ""}{warnings}'
        f'<p class="note">{result.mask.sum():,} of {width} x {height} pixels filled ({result.mask.mean():.1%}); '
        f"{others} untouched. Strategy: {html.escape(result.strategy)}.{texture}{redrawn}{pull}</p></div>"
    )


def data_uri(picture: np.ndarray | Image.Image, resample: Image.Resampling = Image.Resampling.NEAREST) -> str:
    """Returns a picture as a PNG inside an address, shrunk to the size at which the page shows it."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image = image.convert("RGB") if image.mode not in ("L", "RGB", "RGBA") else image.copy()
    image.thumbnail((DRAWING_SIDE, DRAWING_SIDE), resample)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def outline_uri(result: InpaintingResult) -> str:
    """Returns the rim of the hole as a transparent picture that lies over every drawing."""
    left, top, right, bottom = result.region
    factor = DRAWING_SIDE / max(right - left, bottom - top)
    size = (max(1, round((right - left) * factor)), max(1, round((bottom - top) * factor)))
    rim = grow_mask(hole_outline(hole_at(result, size)), 1)
    return data_uri(np.where(rim[..., None], np.uint8(255), np.zeros(4, np.uint8)))


def scale_drawings(result: InpaintingResult, place: int, palette: np.ndarray) -> Iterator[tuple[str, str, str]]:
    """Yields title, note and picture of each drawing of one scale, the scales counted coarse to fine."""
    scale = result.scales[place]
    height, width = scale.labels.shape
    hole = hole_at(result, (width, height))
    classes = len(np.unique(scale.labels[hole]))
    yield "Image", f"{width} x {height} px", data_uri(scale.image, Image.Resampling.LANCZOS)
    colours = data_uri(colour_labels(scale.labels, palette))
    yield "Segmentation", f"{classes} {'class' if classes == 1 else 'classes'} in the hole", colours
    confidence = data_uri(confidence_heat_map(scale.confidence))
    yield "Confidence", f"{scale.confidence[hole].mean():.0%} in the hole", confidence
    if scale.reliability is not None:
        note = f"{1 - scale.reliability[hole].mean():.0%} of the hole unreliable"
        note += "; shown, not used" if scale.level == 0 else ""
        yield "Reliability", note, data_uri(draw_reliability(scale.reliability))
    if place and not result.prompted:
        changed = changed_since(result.scales[place - 1], scale) & hole
        note = f"{changed.sum():,} px ({changed[hole].mean():.0%} of the hole) since scale {scale.level + 1}"
        yield "Changed its mind", note, data_uri(np.where(changed, np.uint8(255), np.uint8(0)))
    if scale.expected_error is not None:
        error = np.where(hole, scale.expected_error, 0)  # of the known part it knows nothing
        note = f"bright is 0, dark {ERROR_SHOWN} of 255 or more"
        yield "Expected error", note, data_uri(confidence_heat_map(1 - error / ERROR_SHOWN))
    if scale.pasted is not None:
        yield "Pasted", "from the known part, for the scales below", data_uri(scale.pasted, Image.Resampling.LANCZOS)


def show_scale(result: InpaintingResult, place: int, palette: np.ndarray) -> str:
    """Returns the drawings of one scale as HTML."""
    level = result.scales[place].level
    views = "".join(
        f'<figure data-view="{title}"><div class="frame"><img src="{picture}" alt="Scale {level}: {title}, {note}">'
        f"</div><figcaption>{title}<br>{note}</figcaption></figure>"
        for title, note, picture in scale_drawings(result, place, palette)
    )
    extreme = f" · {EXTREMES[level]}" if level in EXTREMES else ""
    return (
        f'<section class="scale" data-scale="{level}"><h3>Scale {level}<span>{extreme}</span></h3>'
        f'<div class="views">{views}</div></section>'
    )


def show_player(result: InpaintingResult) -> str:
    """Returns the step slider as HTML; `page.js` shows in it the drawings that the page holds already."""
    views = ["Image", "Segmentation", "Confidence"]
    views += ["Reliability"] if result.scales[0].reliability is not None else []
    options = "".join(f"<option>{view}</option>" for view in views)
    last = len(result.scales) - 1
    return (
        '<div class="player" role="group" aria-label="From coarse to fine"><div class="controls">'
        '<button type="button" class="play">Play</button>'
        f'<input type="range" min="0" max="{last}" value="{last}" step="1" aria-label="Step from coarse to fine" '
        'aria-valuetext="Scale 0"><output>Scale 0</output>'
        f'<select aria-label="What to show">{options}</select></div>'
        f'<div class="frame"><img src="{data_uri(result.scales[-1].image)}" alt="Scale 0: Image"></div></div>'
    )


def show_legend(result: InpaintingResult, palette: np.ndarray) -> str:
    """Returns the colours of the classes that any scale sees, as HTML."""
    present = np.unique(np.concatenate([scale.labels.ravel() for scale in result.scales]))
    entries = "".join(
        f'<li><span class="swatch" style="background: rgb{tuple(int(part) for part in palette[index])}"></span>'
        f"{html.escape(result.classes[int(index)])}</li>"
        for index in present
    )
    return f'<ul class="legend" aria-label="Colours of the classes">{entries}</ul>'


def show_thoughts(result: InpaintingResult, palette: np.ndarray) -> str:
    """Returns the section on the scales as HTML; "" if the network did not run.

    Args:
        result: A filled photo.
        palette: Colours of shape (num_labels, 3).
    """
    if not result.scales:
        return ""
    bar = data_uri(confidence_heat_map(np.linspace(0, 1, 256)[None]))
    reliability = (
        "The reliability mask holds back, while the next finer scale is made, what the confidence does not support: "
        "<strong>white is unreliable</strong>, black reliable."
        if result.scales[0].reliability is not None
        else "This network does not judge its own segmentation, so it has no reliability masks."
    )
    redrawn = "At scale 0 the hole is redrawn with patches of the photo. " if result.redrawn else ""
    left, top, right, bottom = result.region
    scales = "".join(show_scale(result, place, palette) for place in range(len(result.scales)))
    look = f"--ratio: {(right - left) / (bottom - top):.4f}; --outline: url({outline_uri(result)})"
    return (
        f'<div class="thoughts" style="{look}"><h2>What the network thought, scale by scale</h2>'
        "<p>From coarse to fine, the network paints, names what it sees, and judges itself, in the "
        f"{right - left} x {bottom - top} pixels of the photo that it looked at. The thin line is the hole's rim. "
        f'{redrawn}{reliability}</p><div class="keys">{show_legend(result, palette)}'
        f'<div class="bar"><span>Confidence 0 %</span><img src="{bar}" alt="dark to bright"><span>100 %</span></div>'
        f'</div>{show_player(result)}<div class="scales" role="group" tabindex="0" '
        f'aria-label="Drawings of all scales">{scales}</div></div>'
    )


__all__ = [
    "CAVEAT",
    "ClassInHole",
    "changed_since",
    "classes_in_hole",
    "describe",
    "hole_at",
    "share_changed",
    "show_thoughts",
    "show_verdict",
]
