"""What happens when somebody uses the page or calls one of its endpoints; needs Gradio, holds no model code.

`app.py` lays the page out and ties each of its events to one method of `Handlers`. A photo stays the file that was
uploaded; the hole is what the canvas shows, or `exact`, a PNG of the photo's own size, where that is known.
"""

import contextlib
import html
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from .batches import COLUMNS, fill_each, sort_rows, write_scores, write_zip
from .canvas import (
    FREE,
    HOLE_COLOUR,
    HOLE_OPACITY,
    full_size_hole,
    mask_png,
    paint_hole,
    paint_labels,
    painted_hole,
    painted_labels,
    preview,
    preview_size,
    save_in_own_format,
    shrink_mask,
)
from .image_processing_sgenet import nearest
from .modeling_sgenet import SGENetModel
from .photos import Photo, SizeError, load_mask, load_photo, save_photo
from .pipeline import Inpainter, InpaintingResult
from .thoughts import CAVEAT, classes_in_hole, describe, share_changed, show_thoughts, show_verdict
from .visualization import class_palette, hole_outline


BROWSER_FORMATS = ("JPEG", "PNG", "WEBP")
BATCH_LIMIT = 50  # photos of one batch; a longer one would keep everybody else waiting
NO_CLASS = 255  # in the picture of a map: known pixels


@dataclass(frozen=True)
class LastFill:
    """What a visitor can take up again, as PNGs: the mask at the photo's size, the network's map at the preview's."""

    mask: bytes
    own_map: bytes


def user_error(message: str) -> gr.Error:
    """A message on the page; no trace in the server's log, since nothing is wrong with the server."""
    return gr.Error(message, print_exception=False)


@contextlib.contextmanager
def messages_for_users() -> Iterator[None]:
    """Turns what the package says about a bad photo or mask into a message on the page."""
    try:
        yield
    except FileNotFoundError as error:
        raise user_error("The uploaded file is gone from the server. Open the photo again.") from error
    except SizeError as error:
        raise user_error(f"{error.facts} Send one of the photo's size.") from error
    except (ValueError, MemoryError, ImportError) as error:  # EdgeConnect needs an optional package
        raise user_error(str(error)) from error


def read_photo(photo_file: str | None) -> Photo:
    """Reads the photo that is open, or says on the page what is wrong."""
    if photo_file is None:
        raise user_error("Open a photo first: drop one into the box, or choose an example.")
    with messages_for_users():
        return load_photo(photo_file)


def layers_of(editor: dict[str, Any] | None) -> list[np.ndarray]:
    """Returns the layers of paint that a browser sent."""
    return editor["layers"] if editor else []


def make_brushes(size: int, colour: tuple[float, ...] = (*HOLE_COLOUR, HOLE_OPACITY)) -> dict[str, Any]:
    """Returns an editor's two tools at a size in pixels of the picture that is painted on."""
    return {
        "brush": gr.Brush(colors=[f"rgba{colour}"], color_mode="fixed", default_size=size),
        "eraser": gr.Eraser(default_size=size),
    }


def show_on_canvas(background: Image.Image, layer: np.ndarray | None, **brushes: Any) -> dict[str, Any]:
    """Returns the update that shows a picture on a canvas, with a layer of paint if there is one."""
    value = {"background": background, "layers": [] if layer is None else [layer], "composite": None}
    # The editor centres layers on its canvas before it knows the picture: without this size they would be misplaced.
    return gr.update(value=value, canvas_size=background.size, visible=True, **brushes)


def show_hole(photo: Photo, mask: np.ndarray) -> tuple[Any, bytes | None]:
    """Shows a mask of the photo's size on the photo; fills `editor, exact`."""
    size = preview_size(photo)
    hole = shrink_mask(mask, size)
    layer = paint_hole(hole) if hole.any() else None
    shown = show_on_canvas(preview(photo), layer, **make_brushes(max(2, max(size) // 40)))
    return shown, None if layer is None else mask_png(mask)


def read_hole(editor: dict[str, Any] | None, photo: Photo, exact: bytes | None) -> np.ndarray:
    """Returns what the canvas shows as a mask of the photo's size, which may be empty."""
    with messages_for_users():
        return full_size_hole(painted_hole(layers_of(editor), photo), photo, exact)


def require_hole(editor: dict[str, Any] | None, photo: Photo, exact: bytes | None) -> np.ndarray:
    """As `read_hole`, with a message on the page if it is empty."""
    hole = read_hole(editor, photo, exact)
    if not hole.any():
        raise user_error("There is no hole yet. Paint over what should be removed, then fill.")
    return hole


def palette_of(inpainter: Inpainter) -> np.ndarray:
    """Returns the colours of a network's classes; where two would be the same, nobody could paint with them."""
    config = inpainter.model.config
    colours = config.label_colors
    distinct = colours is not None and len({tuple(colour) for colour in colours}) == len(colours)
    return class_palette(config.num_labels, colours if distinct else None)


def own_map(result: InpaintingResult, size: tuple[int, int]) -> bytes:
    """Returns the network's map of the hole as a PNG of class ids at (width, height), `NO_CLASS` elsewhere."""
    labels = np.full(result.mask.shape, NO_CLASS, np.uint8)
    window = labels[result.region.window]
    window[...] = nearest(result.scales[-1].labels, window.shape)
    labels[~result.mask] = NO_CLASS
    buffer = io.BytesIO()
    Image.fromarray(nearest(labels, size[::-1])).save(buffer, format="PNG")
    return buffer.getvalue()


def facts_of(result: InpaintingResult) -> dict[str, Any]:
    """Returns what a program learns beside the picture; see `Handlers.inpaint`."""
    classes = classes_in_hole(result)
    return {
        "strategy": result.strategy,
        "score": result.score,
        "expected_error": result.expected_error,
        "noise_strength": result.noise_strength,
        "guidance_scale": result.guidance_scale,
        "removed": result.removed,
        "redrawn_share": result.redrawn_share,
        "classes": {item.name: item.share for item in classes},
        "class_confidence": {item.name: item.confidence for item in classes},
        "changed": share_changed(result) if result.scales and not result.prompted else None,
        "region": [int(side) for side in result.region],
        "warnings": list(result.warnings),
    }


# --- Hole tools ------------------------------------------------------------------------------------------------------


def open_photo(photo_file: str | None, mask_file: str | None = None) -> tuple[Any, ...]:
    """Shows a photo in the editor, with its mask if there is one; fills `picker, photo_file, editor, exact`."""
    photo = read_photo(photo_file)
    with messages_for_users():
        mask = load_mask(mask_file) if mask_file else np.zeros((photo.height, photo.width), dtype=bool)
    require_size(mask, photo)
    return gr.update(value=None, visible=False), photo_file, *show_hole(photo, mask)


def require_size(mask: np.ndarray, photo: Photo) -> None:
    """Says on the page if a mask is not of the photo's size."""
    if mask.shape != (photo.height, photo.width):
        raise user_error(
            f"The mask is {mask.shape[1]} x {mask.shape[0]} pixels, the photo {photo.width} x {photo.height}. "
            "Save the mask at the photo's size and open it again."
        )


def open_mask(mask_file: str, photo_file: str | None) -> tuple[Any, ...]:
    """Paints a mask file over the photo that is open; same outputs as `open_photo`."""
    *shown, exact = open_photo(photo_file, mask_file)
    if exact is None:
        gr.Warning("The mask is empty: it has no white, and white is what is removed.")
    return *shown, exact


def close_photo() -> tuple[Any, ...]:
    """Goes back to the empty box for a photo; same outputs as `open_photo`."""
    return gr.update(value=None, visible=True), None, gr.update(value=None, visible=False), None


def invert_hole(editor: dict[str, Any] | None, photo_file: str | None, exact: bytes | None) -> tuple[Any, ...]:
    """Paints what was not painted and the other way round, for masks in which black is removed; `editor, exact`."""
    photo = read_photo(photo_file)
    return show_hole(photo, ~read_hole(editor, photo, exact))


def reuse_hole(photo_file: str | None, last: LastFill | None) -> tuple[Any, ...]:
    """Paints the mask that was filled last, also on the next photo of that size; fills `editor, exact`."""
    photo = read_photo(photo_file)
    if last is None:
        raise user_error("Nothing has been filled yet, so there is no last mask.")
    mask = load_mask(last.mask)
    require_size(mask, photo)
    return show_hole(photo, mask)


def save_hole(editor: dict[str, Any] | None, photo_file: str | None, exact: bytes | None) -> Iterator[str]:
    """Writes what is painted as a mask file of the photo's size, white = hole."""
    photo = read_photo(photo_file)
    mask = require_hole(editor, photo, exact)
    with tempfile.TemporaryDirectory(prefix="sgenet-") as folder:
        file = Path(folder) / f"{Path(photo.name).stem}-mask.png"
        file.write_bytes(mask_png(mask))
        yield str(file)  # Gradio copies it before it asks for the next value; only then does the folder go


# --- The network -----------------------------------------------------------------------------------------------------


def fill_options(
    network: Inpainter, strategy: str, grow: float, feather: float, texture: float | None, redraw: bool | None
) -> dict[str, Any]:
    """Returns the options of `Inpainter.prepare` that the page's advanced settings mean for a network; `texture` and
    `redraw` are None where the page does not ask for them."""
    options: dict[str, Any] = {"strategy": strategy, "grow": int(grow), "feather": int(feather)}
    if network.has_noise:
        options["noise_strength"] = texture
    if network.can_redraw:
        usual = None if network.model.config.redrawn_share else 1
        options["redrawn_share"] = {None: None, True: usual, False: 0}[redraw]
    return options


class Handlers:
    """What needs a network.

    Args:
        networks: The networks that the server's owner allows, by name; the first is the page's own.

    Raises:
        ValueError: If the page's own is another system, which has no scales to show.
    """

    def __init__(self, networks: Mapping[str, Inpainter]):
        self.networks = dict(networks)
        self.name, self.inpainter = next(iter(self.networks.items()))
        if not isinstance(self.inpainter.model, SGENetModel):
            raise ValueError(
                f"{self.name} is a {type(self.inpainter.model).__name__}: the page shows what SGE-Net, SG-Net or "
                "Base-Net thinks. Compare others with one of these (SGENET_COMPARE)."
            )
        self.palette = palette_of(self.inpainter)
        self.classes = [name for _, name in sorted(self.inpainter.classes.items())]

    def remove_all(
        self, name: str | None, editor: dict[str, Any] | None, photo_file: str | None, exact: bytes | None
    ) -> tuple[Any, ...]:
        """Adds all that the network takes for a class to the hole; fills `editor, exact` and clears the choice."""
        if name is None:  # the box says so when its choice is cleared
            return gr.skip(), gr.skip(), gr.skip()
        photo = read_photo(photo_file)
        with messages_for_users():
            found = self.inpainter.mask_of(photo, [name])
        if not found.any():
            # A choice that stays would be sent again when the box loses the focus.
            gr.Warning(f"The network sees no {name} in this photo. Paint over it instead.")
            return gr.skip(), gr.skip(), None
        return *show_hole(photo, read_hole(editor, photo, exact) | found), None

    def fill(
        self,
        editor: dict[str, Any] | None,
        photo_file: str | None,
        exact: bytes | None,
        strategy: str,
        grow: float,
        feather: float,
        texture: float,
        redraw: bool,
        prompt_editor: dict[str, Any] | None = None,
        guidance: float | None = None,
        progress=gr.Progress(),  # noqa: B008 (how Gradio passes it)
    ) -> Iterator[tuple[Any, ...]]:
        """Fills what is painted, as `prompt_editor` says if it is given (`guidance`: how far that pulls); yields
        `slider, summary, download, own_download, thoughts, last` once."""
        progress(0.1, "Reading the photo")
        photo = read_photo(photo_file)
        hole = require_hole(editor, photo, exact)
        with messages_for_users(), tempfile.TemporaryDirectory(prefix="sgenet-") as folder:
            options = fill_options(self.inpainter, strategy, grow, feather, texture, redraw)
            if prompt_editor is not None:
                prompt = np.where(hole, painted_labels(layers_of(prompt_editor), photo, self.palette), FREE)
                options |= {
                    "semantic_prompt": prompt,
                    "guidance_scale": guidance if self.inpainter.takes_prompts else None,
                }
            progress(0.3, "Filling the hole")
            result = self.inpainter(photo, hole, **options)
            progress(0.8, "Saving the photo")
            stem = f"{folder}/{Path(photo.name).stem}-filled"
            after = str(save_photo(photo, result.image, f"{stem}.png"))
            own = save_in_own_format(photo, result.image, stem)
            as_it_is = photo.format in BROWSER_FORMATS and not photo.warnings
            # Gradio copies the files before it asks for the next value; only then does the folder go.
            yield (
                (photo_file if as_it_is else photo.image(), after),
                describe(result, int(feather)),
                gr.update(value=after, interactive=True),
                gr.update(value=own and str(own), interactive=own is not None, **self._own_label(own)),
                show_thoughts(result, self.palette),
                LastFill(mask_png(hole), own_map(result, preview_size(photo))),
            )

    @staticmethod
    def _own_label(own: Path | None) -> dict[str, Any]:
        return {"label": f"Download as {own.suffix[1:].upper()}"} if own else {"label": "Own format: PNG"}

    # What belongs there

    def open_prompt(self, photo_file: str | None, filled: tuple[Any, Any] | None, last: LastFill | None) -> tuple:
        """Shows the filled photo with the hole's rim on a second canvas; fills `prompt_box, prompt_editor`."""
        return gr.update(visible=True), self._prompt_canvas(photo_file, filled, last, None)

    def start_from_own_map(
        self, photo_file: str | None, filled: tuple[Any, Any] | None, last: LastFill | None
    ) -> dict[str, Any]:
        """Paints the network's own map of the hole on the second canvas, to be corrected."""
        labels = np.asarray(Image.open(io.BytesIO(last.own_map))).astype(np.int64) if last else None
        return self._prompt_canvas(photo_file, filled, last, labels)

    def choose_class(self, name: str) -> dict[str, Any]:
        """Gives the second canvas's brush the colour of a class."""
        colour = self.palette[self.inpainter.class_ids([name])[0]]
        return gr.update(**make_brushes(24, (*map(int, colour), 1)))

    def _prompt_canvas(self, photo_file: Any, filled: Any, last: LastFill | None, labels: np.ndarray | None) -> Any:
        photo = read_photo(photo_file)
        if last is None or filled is None:
            raise user_error("Fill the hole once; then say what belongs there.")
        hole = load_mask(last.mask)
        if hole.shape != (photo.height, photo.width):
            raise user_error("The last fill was of another photo. Fill this one once; then say what belongs there.")
        background = preview(load_photo(filled[1])).convert("RGB")
        rim = hole_outline(shrink_mask(hole, background.size))
        pixels = np.asarray(background).copy()
        pixels[rim] = HOLE_COLOUR
        layer = None if labels is None else paint_labels(np.where(labels == NO_CLASS, FREE, labels), self.palette)
        return show_on_canvas(Image.fromarray(pixels), layer)

    # Compare

    def compare(
        self,
        editor: dict[str, Any] | None,
        photo_file: str | None,
        exact: bytes | None,
        strategy: str,
        grow: float,
        feather: float,
        texture: float,
        redraw: bool,
        name: str,
    ) -> tuple[Any, str]:
        """Fills the same hole with the page's network and an allowed one; fills `compare_slider, compared`."""
        photo = read_photo(photo_file)
        hole = require_hole(editor, photo, exact)
        with messages_for_users():
            asked = (  # or it is not shown
                texture if self.inpainter.has_noise else None,
                redraw if self.inpainter.can_redraw else None,
            )
            results = [
                network(photo, hole, **fill_options(network, strategy, grow, feather, *asked))
                for network in (self.inpainter, self.networks[name])
            ]
        columns = "".join(
            f"<section><h3>{side}: {html.escape(network)}</h3>{show_verdict(result)}</section>"
            for side, network, result in zip(("Left", "Right"), (self.name, name), results, strict=True)
        )
        return tuple(result.image for result in results), f'<div class="both">{columns}</div>{CAVEAT}'

    # Many photos

    def fill_batch(
        self,
        photos: list[str] | None,
        masks: list[str] | None,
        strategy: str,
        grow: float,
        feather: float,
        texture: float,
        redraw: bool,
        progress=gr.Progress(),  # noqa: B008 (how Gradio passes it)
    ) -> Iterator[tuple[Any, Any, Any]]:
        """Fills many photos; yields the table, the zip and the CSV once."""
        if not photos or not masks:
            raise user_error("Choose photos, and for each a mask file of the same name (street.jpg: street.png).")
        if len(photos) > BATCH_LIMIT:
            raise user_error(f"{len(photos)} photos are too many for one batch: send at most {BATCH_LIMIT}.")
        options = fill_options(self.inpainter, strategy, grow, feather, texture, redraw)
        with tempfile.TemporaryDirectory(prefix="sgenet-") as name:
            folder, rows = Path(name), []
            for row in fill_each(self.inpainter, [*map(Path, photos)], [*map(Path, masks)], folder, **options):
                rows.append(row)
                progress((len(rows), len(photos)), row.photo)
            rows = sort_rows(rows)
            scores = write_scores(rows, folder / "scores.csv")
            archive = write_zip(rows, scores, folder / "filled.zip")
            table = {"headers": list(COLUMNS), "data": [row.cells() for row in rows]}
            yield (
                table,
                gr.update(value=str(archive), interactive=True),
                gr.update(value=str(scores), interactive=True),
            )

    # Programs

    def inpaint(
        self,
        photo: str | None,
        mask: str | None = None,
        strategy: str = "auto",
        grow: float = 0,
        feather: float = 0,
        invert_mask: bool = False,
        remove: list[str] | None = None,
        semantic_prompt: str | None = None,
        network: str | None = None,
        noise_strength: float | None = None,
        guidance_scale: float | None = None,
        redrawn_share: float | None = None,
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Fills the white part of a mask in a photo, or removes what belongs to named classes.

        Args:
            photo: Image file.
            mask: Image file of the photo's size; white is removed. May be left out with `remove`.
            strategy: "auto", "crop" (around the hole), "resize" or "original".
            grow: Pixels by which the hole is widened.
            feather: Width in pixels of the soft edge of the fill; 0 keeps every known pixel as it is.
            invert_mask: Whether black is removed instead of white.
            remove: Names of classes; what the network takes for them is removed too.
            semantic_prompt: Palette or grey PNG of class ids and of the photo's size that says what belongs in the
                hole; 255 = the network decides. `/segment` returns such a file.
            network: One of the networks that the server offers; by default the page's own.
            noise_strength: How much texture the fill shows, for networks with noise: 0 the smoothest, 1 as trained, at
                most 2; by default the network's own.
            guidance_scale: How far the semantic prompt pulls: 0 not towards its classes, 1 as trained, at most 4; by
                default the network's own.
            redrawn_share: How much of the fill is redrawn with the photo's own patches: 0 the network's own drawing,
                several times faster, 1 all; by default the network's own.

        Returns:
            The photo as PNG at its own size, and a dictionary: the strategy used, the score (mean confidence in the
            hole, null for an empty mask), the expected error (mean absolute difference from the truth in the hole, in
            8-bit values; null under a prompt, which may ask for something else, and without error estimation), the
            noise strength that the fill was made with (null for a network without noise), the guidance scale (null
            without a prompt), the share of the photo in which each class to remove was found, how much of the fill was
            redrawn with the photo's own patches (null for a network that cannot), the classes in the hole (of several,
            or of the pieces that one is filled in, the largest) with their shares and with their mean confidence, the
            share of the hole that changed its mind on the way from coarse
            to fine (null under a prompt, which the coarsest scale does not know), the region (left, top, right,
            bottom) that the network looked at, warnings, and seconds (in the network, and in all).
        """
        if photo is None or (mask is None and not remove):
            raise user_error("Send a photo, and a mask or the names of classes to remove.")
        start = time.perf_counter()
        inpainter = self.networks[network or self.name]
        with messages_for_users():
            job = inpainter.prepare(
                photo,
                mask,
                remove=remove,
                strategy=strategy,
                semantic_prompt=Path(semantic_prompt) if semantic_prompt else None,
                invert_mask=invert_mask,
                grow=int(grow),
                feather=int(feather),
                noise_strength=noise_strength,
                guidance_scale=guidance_scale,
                redrawn_share=redrawn_share,
            )
            ready = time.perf_counter()
            fills = inpainter.fill([job])[0]
            filled = time.perf_counter()
            result = inpainter.finish(job, fills)
            seconds = {"network": filled - ready, "all": time.perf_counter() - start}
        return result.image, facts_of(result) | {"seconds": seconds}

    def segment(self, photo: str | None) -> tuple[Image.Image, dict[str, Any]]:
        """Says what the network sees in a photo without a hole.

        Args:
            photo: Image file.

        Returns:
            A palette PNG of the photo's size whose values are class ids, and for each class found its id, its share
            of the photo and the network's mean confidence.
        """
        if photo is None:
            raise user_error("Send a photo.")
        with messages_for_users():
            seen = self.inpainter.segment(photo)
        picture = Image.fromarray(seen.labels.astype(np.uint8))
        picture.putpalette(self.palette[:256].tobytes())
        facts = {
            seen.classes[int(index)]: {
                "id": int(index),
                "share": float(here.mean()),
                "confidence": float(seen.confidence[here].mean()),
            }
            for index in np.unique(seen.labels)
            for here in [seen.labels == index]
        }
        return picture, facts


__all__ = [
    "Handlers",
    "close_photo",
    "invert_hole",
    "make_brushes",
    "open_mask",
    "open_photo",
    "reuse_hole",
    "save_hole",
]
