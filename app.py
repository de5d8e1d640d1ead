"""The Space: paint a hole on a photo, fill it, and see what SGE-Net thought at every scale.

    python app.py                                  # the bundled network, on this machine
    SGENET_MODEL=org/name PORT=8000 python app.py  # another checkpoint (folder, Hub id or bundled name), another port

The page keeps the uploaded file and paints on a preview of it, so that the result has the photo's own pixels at full
size. Programs call the endpoint `/inpaint` with a photo and a mask file.
"""

import atexit
import base64
import contextlib
import html
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from sgenet_hf import Inpainter, InpaintingResult
from sgenet_hf.masks import grow_mask
from sgenet_hf.photos import Photo, load_mask, load_photo, save_photo
from sgenet_hf.toy import CAR, draw_scene
from sgenet_hf.visualization import (
    as_image,
    class_palette,
    colour_labels,
    confidence_heat_map,
    draw_reliability,
    hole_outline,
    tint_hole,
)


MODEL = os.environ.get("SGENET_MODEL", "street")
PORT = os.environ.get("PORT") or os.environ.get("GRADIO_SERVER_PORT")
MAX_FILE_SIZE = os.environ.get("SGENET_MAX_FILE_SIZE", "40mb")
QUEUE_SIZE = 16

PREVIEW_SIDE = 1280  # a phone can still paint on it and send it back in a second
DRAWING_SIDE = 512  # longer side of a drawing in the section on scales
BRUSH_COLOUR, BRUSH_OPACITY = (255, 90, 60), 0.7
STRATEGIES = [
    ("Choose by size", "auto"),
    ("Crop around the hole", "crop"),
    ("Shrink", "resize"),
    ("Full size", "original"),
]
BROWSER_FORMATS = ("JPEG", "PNG", "WEBP")
EXAMPLE_SEEDS = (7, 10, 14, 18)
EXAMPLE_SIZE = (384, 576)  # height, width
BOX_HEIGHT = "min(480px, 92vw)"  # no taller than wide on a phone
PAGE_ONLY: dict[str, Any] = {"api_visibility": "private"}
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 1}

DESCRIPTION = """
# SGE-Net
Paint over what should go. The network fills the hole from coarse to fine, names what it believes is there, and shows
where it doubts itself.
"""
POLARITY = (
    "What you paint is removed; everything else keeps its pixels. In a mask file, white is removed and black is kept."
)
THEME = gr.themes.Base(
    primary_hue="orange",
    neutral_hue="slate",
    radius_size="md",
    # Fonts that every system has: nothing is fetched.
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(body_text_color_subdued="*neutral_500")  # Gradio's own grey is too pale to read on white
CSS = """
.gradio-container, .gradio-container main { width: 100% !important; max-width: 1480px !important; }
.gradio-container { margin: 0 auto !important; }
#description h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -0.02em; margin-bottom: 0.2rem; }
#description p, .note, .note p { color: var(--body-text-color-subdued); }
.note, .note p { font-size: 0.9rem; }
#summary .html-container, #thoughts .html-container { padding: 0; }
#examples .gallery { gap: 0.7rem; }
#examples .gallery-item, #examples .gallery-item .container { width: 156px; max-width: none; height: 104px; }
#examples .gallery-item img { width: 100%; height: 100%; object-fit: cover; }
#result img { object-fit: contain; }
#summary p { margin: 0 0 0.4rem; line-height: 1.5; }
#summary .lead { font-size: 1.05rem; }
#summary .warning { border-left: 3px solid var(--color-accent); padding-left: 0.6rem; }
.thoughts h2 { font-size: 1.25rem; font-weight: 600; margin: 1.2rem 0 0.3rem; }
.thoughts p { margin: 0 0 0.7rem; max-width: 100ch; line-height: 1.5; color: var(--body-text-color-subdued); }
.thoughts .keys { display: flex; flex-wrap: wrap; gap: 0.6rem 2.2rem; margin-bottom: 1rem; align-items: center; }
.thoughts ul.legend { display: flex; flex-wrap: wrap; gap: 0.3rem 1rem; list-style: none; margin: 0; padding: 0; }
.thoughts ul.legend li { display: flex; align-items: center; gap: 0.4rem; margin: 0; font-size: 0.9rem; }
.thoughts .swatch { width: 0.95rem; height: 0.95rem; border-radius: 3px;
  border: 1px solid var(--border-color-primary); }
.thoughts .bar { display: flex; align-items: center; gap: 0.5rem; font-size: 0.9rem; white-space: nowrap; }
.thoughts .bar img { width: min(11rem, 34vw); height: 0.8rem; border-radius: 3px; margin: 0; }
.thoughts .scales { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 1.1rem; }
.thoughts .scale h3 { font-size: 0.98rem; font-weight: 600; margin: 0 0 0.4rem; }
.thoughts .scale h3 span { font-weight: 400; color: var(--body-text-color-subdued); }
.thoughts .views { display: grid; gap: 0.8rem; }
.thoughts figure { margin: 0; }
.thoughts .frame { position: relative; overflow: hidden; border-radius: 4px;
  border: 1px solid var(--border-color-primary); }
.thoughts .frame img { display: block; width: 100%; height: 100%; margin: 0; border-radius: 0; object-fit: fill;
  image-rendering: pixelated; }
.thoughts .frame img.outline { position: absolute; inset: 0; image-rendering: auto; mix-blend-mode: difference; }
.thoughts figcaption { font-size: 0.82rem; line-height: 1.35; margin-top: 0.25rem; min-height: 2.2em;
  color: var(--body-text-color-subdued); }
@media (max-width: 1100px) {
  .thoughts .scales { grid-template-columns: 1fr; }
  .thoughts .views { grid-template-columns: repeat(4, minmax(0, 1fr)); }
}
@media (max-width: 640px) { .thoughts .views { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
"""


class PhotoFile(gr.Image):
    """An image box that hands on the uploaded file untouched: our reader judges it and names what is wrong."""

    is_template = True  # Gradio draws it as its parent

    def preprocess(self, payload):
        return None if payload is None else payload.path


# --- Photos and masks ------------------------------------------------------------------------------------------------


def user_error(message: str) -> gr.Error:
    """A message on the page; no trace in the server's log, since nothing is wrong with the server."""
    return gr.Error(message, print_exception=False)


def require_photo(photo_file: str | None) -> None:
    """Raises a message on the page if no photo is open."""
    if photo_file is None:
        raise user_error("Open a photo first: drop one into the box, or choose an example.")


@contextlib.contextmanager
def messages_for_users() -> Iterator[None]:
    """Turns what the package says about a bad photo or mask into a message on the page."""
    try:
        yield
    except FileNotFoundError as error:
        raise user_error("The uploaded file is gone from the server. Open the photo again.") from error
    except (ValueError, MemoryError) as error:
        raise user_error(str(error)) from error


def preview_size(photo: Photo) -> tuple[int, int]:
    """Returns width and height of the picture that is painted on; never larger than the photo."""
    factor = min(1, PREVIEW_SIDE / max(photo.width, photo.height))
    return max(1, round(photo.width * factor)), max(1, round(photo.height * factor))


def shrink_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrinks a mask to (width, height); a pixel is hole if any part of it is."""
    shares = Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(shares) > 1e-6


def show_in_editor(photo: Photo, hole: np.ndarray) -> dict[str, Any]:
    """Returns the update that shows the photo's preview and, painted over it, the hole at the preview's size."""
    size = preview_size(photo)
    background = Image.fromarray(np.ascontiguousarray(photo.rgb)).resize(size, Image.Resampling.LANCZOS)
    paint = np.array([*BRUSH_COLOUR, round(255 * BRUSH_OPACITY)], dtype=np.uint8)
    layers = [hole[..., None] * paint] if hole.any() else []
    value = {"background": background, "layers": layers, "composite": None}
    # The editor centres layers on its canvas before it knows the photo: without this size they would be misplaced.
    return gr.update(value=value, canvas_size=size, visible=True, **make_brushes(max(2, max(size) // 40)))


def painted_hole(editor: dict[str, Any] | None, photo: Photo) -> np.ndarray:
    """Returns what is painted at the preview's size, bool (height, width).

    Raises:
        gradio.Error: If the canvas has another size, as after a reload of the page in the middle of an upload.
    """
    width, height = preview_size(photo)
    hole = np.zeros((height, width), dtype=bool)
    for layer in editor["layers"] if editor else []:
        if layer.shape[:2] != hole.shape:
            raise user_error("The painting does not belong to this photo. Open the photo again.")
        hole |= layer[..., 3] > 0
    return hole


def full_size_hole(hole: np.ndarray, photo: Photo, mask_file: str | None) -> np.ndarray:
    """Brings what is painted to the photo's size; a mask file that nobody painted on is taken as it is.

    Raises:
        gradio.Error: If nothing is painted.
    """
    if not hole.any():
        raise user_error("There is no hole yet. Paint over what should be removed, then fill.")
    if mask_file:
        mask = load_mask(mask_file)
        if np.array_equal(shrink_mask(mask, preview_size(photo)), hole):
            return mask
    return np.asarray(Image.fromarray(hole).resize((photo.width, photo.height), Image.Resampling.NEAREST))


# --- What the network thought ----------------------------------------------------------------------------------------


def hole_at(result: InpaintingResult, size: tuple[int, int]) -> np.ndarray:
    """Returns the hole inside the region that the network looked at, at (width, height)."""
    left, top, right, bottom = result.region
    return shrink_mask(result.mask[top:bottom, left:right], size)


def class_shares(result: InpaintingResult) -> list[tuple[str, float]]:
    """Returns the classes that the finest scale sees in the hole with their shares, largest first; [] if no hole."""
    if not result.scales:
        return []
    labels = result.scales[-1].labels
    inside = labels[hole_at(result, labels.shape[::-1])]
    ids, counts = np.unique(inside, return_counts=True)
    shares = [(result.classes[int(index)], count / inside.size) for index, count in zip(ids, counts, strict=True)]
    return sorted(shares, key=lambda item: -item[1])


def describe(result: InpaintingResult, feather: int) -> str:
    """Returns the sentences under the result, as HTML."""
    verdicts = ((0.9, "very sure"), (0.75, "fairly sure"), (0.5, "unsure"), (0, "only guessing"))
    paragraphs = []
    if result.score is not None:
        verdict = next(words for least, words in verdicts if result.score >= least)
        seen = [f"{html.escape(name)} {share:.0%}" for name, share in class_shares(result)[:3] if share >= 0.01]
        paragraphs.append(
            f'<p class="lead">The network is <strong>{verdict}</strong> what belongs in the hole '
            f"({result.score:.0%} confidence on average): {', '.join(seen)}.</p>"
        )
    paragraphs += [f'<p class="warning">{html.escape(warning)}</p>' for warning in result.warnings]
    height, width = result.mask.shape
    others = f"those within {feather} pixels of the hole blended, all others" if feather else "all others"
    paragraphs.append(
        f'<p class="note">{result.mask.sum():,} of {width} x {height} pixels filled ({result.mask.mean():.1%}); '
        f"{others} untouched. Strategy: {html.escape(result.strategy)}.</p>"
    )
    return f'<div role="status">{"".join(paragraphs)}</div>'


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


def view(title: str, note: str, picture: str, outline: str, ratio: float) -> str:
    """Returns one captioned drawing as HTML; the hole's rim lies over it."""
    return (
        f'<figure><div class="frame" style="aspect-ratio: {ratio:.4f}"><img src="{picture}" alt="{title}, {note}">'
        f'<img class="outline" src="{outline}" alt=""></div><figcaption>{title}<br>{note}</figcaption></figure>'
    )


def scale_views(result: InpaintingResult, palette: np.ndarray) -> Iterator[str]:
    """Yields the four drawings of each scale as HTML, coarse to fine."""
    left, top, right, bottom = result.region
    ratio = (right - left) / (bottom - top)
    outline = outline_uri(result)
    for scale in result.scales:
        height, width = scale.labels.shape
        hole = hole_at(result, (width, height))
        classes = len(np.unique(scale.labels[hole]))
        views = [
            view("Image", f"{width} x {height} px", data_uri(scale.image, Image.Resampling.LANCZOS), outline, ratio),
            view(
                "Segmentation",
                f"{classes} {'class' if classes == 1 else 'classes'} in the hole",
                data_uri(colour_labels(scale.labels, palette)),
                outline,
                ratio,
            ),
            view(
                "Confidence",
                f"{scale.confidence[hole].mean():.0%} in the hole",
                data_uri(confidence_heat_map(scale.confidence)),
                outline,
                ratio,
            ),
        ]
        if scale.reliability is not None:
            note = f"{1 - scale.reliability[hole].mean():.0%} of the hole unreliable"
            if scale.level == 0:
                note += "; shown, not used"
            views.append(view("Reliability", note, data_uri(draw_reliability(scale.reliability)), outline, ratio))
        extremes = {4: " · coarsest", 0: " · finest"}
        yield (
            f'<section class="scale" data-scale="{scale.level}"><h3>Scale {scale.level}'
            f'<span>{extremes.get(scale.level, "")}</span></h3><div class="views">{"".join(views)}</div></section>'
        )


def show_thoughts(result: InpaintingResult, palette: np.ndarray) -> str:
    """Returns the section on the five scales as HTML; empty if the network did not run."""
    if not result.scales:
        return ""
    present = np.unique(np.concatenate([scale.labels.ravel() for scale in result.scales]))
    entries = "".join(
        f'<li><span class="swatch" style="background: rgb{tuple(int(part) for part in palette[index])}"></span>'
        f"{html.escape(result.classes[int(index)])}</li>"
        for index in present
    )
    bar = data_uri(confidence_heat_map(np.linspace(0, 1, 256)[None]))
    reliability = (
        "The reliability mask holds back, while the next finer scale is made, what the confidence does not support: "
        "<strong>white is unreliable</strong>, black reliable."
        if result.scales[0].reliability is not None
        else "This network does not judge its own segmentation, so it has no reliability masks."
    )
    left, top, right, bottom = result.region
    return (
        '<div class="thoughts"><h2>What the network thought, scale by scale</h2>'
        "<p>From coarse to fine, the network paints, names what it sees, and judges itself, in the "
        f"{right - left} x {bottom - top} pixels of the photo that it looked at. The thin line is the hole's rim. "
        f"{reliability}</p>"
        f'<div class="keys"><ul class="legend" aria-label="Colours of the classes">{entries}</ul>'
        f'<div class="bar"><span>Confidence 0 %</span><img src="{bar}" alt="dark to bright">'
        f'<span>100 %</span></div></div><div class="scales">{"".join(scale_views(result, palette))}</div></div>'
    )


# --- The page --------------------------------------------------------------------------------------------------------


def make_examples() -> list[tuple[str, str, str]]:
    """Draws street scenes with cars to be removed; returns the files of photo, mask and thumbnail of each."""
    folder = Path(tempfile.mkdtemp(prefix="sgenet-examples-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    examples = []
    for seed in EXAMPLE_SEEDS:
        scene, labels = draw_scene(seed, *EXAMPLE_SIZE)
        hole = grow_mask(labels == CAR, 5)
        photo, mask, thumbnail = (str(folder / f"{kind}-{seed}.png") for kind in ("scene", "mask", "thumbnail"))
        as_image(scene).save(photo)
        as_image(hole).save(mask)
        tint_hole(scene, hole, BRUSH_COLOUR, BRUSH_OPACITY).save(thumbnail)
        examples.append((photo, mask, thumbnail))
    return examples


def open_photo(photo_file: str | None, mask_file: str | None = None) -> tuple[Any, ...]:
    """Shows a photo in the editor, with its mask if there is one; fills `picker, editor, photo_file, mask_file`."""
    require_photo(photo_file)
    with messages_for_users():
        photo = load_photo(photo_file)
        mask = load_mask(mask_file) if mask_file else np.zeros((photo.height, photo.width), dtype=bool)
    if mask.shape != (photo.height, photo.width):
        raise user_error(
            f"The mask is {mask.shape[1]} x {mask.shape[0]} pixels, the photo {photo.width} x {photo.height}. "
            "Save the mask at the photo's size and open it again."
        )
    shown = show_in_editor(photo, shrink_mask(mask, preview_size(photo)))
    return gr.update(value=None, visible=False), shown, photo_file, mask_file


def open_mask(mask_file: str, photo_file: str | None) -> tuple[Any, ...]:
    """Paints a mask file over the photo that is open; same outputs as `open_photo`."""
    return open_photo(photo_file, mask_file)


def close_photo() -> tuple[Any, ...]:
    """Goes back to the empty box for a photo; same outputs as `open_photo`."""
    return gr.update(value=None, visible=True), gr.update(value=None, visible=False), None, None


def invert_hole(editor: dict[str, Any] | None, photo_file: str | None) -> dict[str, Any]:
    """Paints what was not painted and the other way round: for masks in which black is removed."""
    require_photo(photo_file)
    with messages_for_users():
        photo = load_photo(photo_file)
    return show_in_editor(photo, ~painted_hole(editor, photo))


class Filler:
    """The two ways in which the page and programs use the network: `fill` and `inpaint`."""

    def __init__(self, inpainter: Inpainter):
        self.inpainter = inpainter
        config = inpainter.model.config
        self.palette = class_palette(config.num_labels, config.label_colors)

    def fill(
        self,
        editor: dict[str, Any] | None,
        photo_file: str | None,
        mask_file: str | None,
        strategy: str,
        grow: float,
        feather: float,
        progress=gr.Progress(),  # noqa: B008 (how Gradio passes it)
    ) -> Iterator[tuple[Any, ...]]:
        """Fills what is painted; yields `slider, summary, download, thoughts` once."""
        require_photo(photo_file)
        progress(0.1, "Reading the photo")
        with messages_for_users(), tempfile.TemporaryDirectory(prefix="sgenet-") as folder:
            photo = load_photo(photo_file)
            hole = full_size_hole(painted_hole(editor, photo), photo, mask_file)
            progress(0.3, "Filling the hole")
            result = self.inpainter(photo, hole, strategy=strategy, grow=int(grow), feather=int(feather))
            progress(0.8, "Saving the photo")
            after = str(save_photo(photo, result.image, Path(folder) / f"{Path(photo.name).stem}-filled.png"))
            as_it_is = photo.format in BROWSER_FORMATS and not photo.warnings
            # Gradio copies the files before it asks for the next value; only then does the folder go.
            yield (
                (photo_file if as_it_is else photo.image(), after),
                describe(result, int(feather)),
                gr.update(value=after, interactive=True),
                show_thoughts(result, self.palette),
            )

    def inpaint(
        self,
        photo: str | None,
        mask: str | None,
        strategy: str = "auto",
        grow: float = 0,
        feather: float = 0,
        invert_mask: bool = False,
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Fills the white part of a mask in a photo.

        Args:
            photo: Image file.
            mask: Image file of the photo's size; white is removed.
            strategy: "auto", "crop" (around the hole), "resize" or "original".
            grow: Pixels by which the hole is widened.
            feather: Width in pixels of the soft edge of the fill; 0 keeps every known pixel as it is.
            invert_mask: Whether black is removed instead of white.

        Returns:
            The photo as PNG at its own size, and a dictionary: the strategy used, the score (mean confidence in the
            hole, null for an empty mask), the classes in the hole with their shares, the region (left, top, right,
            bottom) that the network looked at, and warnings.
        """
        if photo is None or mask is None:
            raise user_error("Send both a photo and a mask.")
        with messages_for_users():
            options = {"strategy": strategy, "grow": int(grow), "feather": int(feather), "invert_mask": invert_mask}
            result = self.inpainter(photo, mask, **options)
        return result.image, {
            "strategy": result.strategy,
            "score": result.score,
            "classes": dict(class_shares(result)),
            "region": [int(side) for side in result.region],
            "warnings": list(result.warnings),
        }


def make_brushes(size: int) -> dict[str, Any]:
    """Returns the editor's two tools at a size in pixels of the picture that is painted on."""
    colour = f"rgba{(*BRUSH_COLOUR, BRUSH_OPACITY)}"
    return {
        "brush": gr.Brush(colors=[colour], color_mode="fixed", default_size=size),
        "eraser": gr.Eraser(default_size=size),
    }


def make_editor() -> gr.ImageEditor:
    """The canvas with brush and eraser; hidden until there is a photo."""
    return gr.ImageEditor(
        label="Paint the hole",
        visible=False,
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        **make_brushes(24),
        format="png",
        height=BOX_HEIGHT,
        buttons=[],
        elem_id="editor",
    )


def make_options() -> tuple[gr.Radio, gr.Slider, gr.Slider]:
    """Strategy, grow and feather, with what they are good for."""
    return (
        gr.Radio(
            STRATEGIES,
            value="auto",
            label="Strategy",
            info="By itself, the page fills photos above 800 pixels in a crop around the hole.",
        ),
        gr.Slider(0, 64, 0, step=1, label="Grow the hole (pixels)", info="Takes in shadows and soft edges."),
        gr.Slider(
            0,
            32,
            0,
            step=1,
            label="Feather the edge (pixels)",
            info="Above 0 the fill blends into its surroundings, and pixels beside the hole change.",
        ),
    )


def add_endpoint(filler: Filler) -> None:
    """Adds `/inpaint` for programs; its boxes are never drawn."""
    photo, mask = (
        PhotoFile(label=name, type="filepath", image_mode=None, visible=False) for name in ("photo", "mask")
    )
    numbers = [gr.Number(0, label=name, visible=False) for name in ("grow", "feather")]
    strategy = gr.Radio([value for _, value in STRATEGIES], value="auto", label="strategy", visible=False)
    invert_mask = gr.Checkbox(label="invert_mask", visible=False)
    outputs = [gr.Image(format="png", label="filled photo", visible=False), gr.JSON(label="facts", visible=False)]
    gr.Button(visible=False).click(
        filler.inpaint,
        [photo, mask, strategy, *numbers, invert_mask],
        outputs,
        api_name="inpaint",
        **ONE_AT_A_TIME,
    )


def build_demo(inpainter: Inpainter) -> gr.Blocks:
    """Builds the page around one loaded network."""
    filler = Filler(inpainter)
    examples = make_examples()
    with gr.Blocks(title="SGE-Net inpainting", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(DESCRIPTION, elem_id="description")
        photo_file, mask_file = gr.State(), gr.State()
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                picker = PhotoFile(
                    label="Photo",
                    type="filepath",
                    image_mode=None,
                    sources=["upload", "clipboard"],
                    height=BOX_HEIGHT,
                    placeholder="Drop a photo here, or click to choose one",
                    elem_id="picker",
                )
                editor = make_editor()
                gr.Markdown(POLARITY, elem_classes="note")
                with gr.Row():
                    another = gr.Button("New photo", size="sm", min_width=90, elem_id="another")
                    mask_button = gr.UploadButton(
                        "Mask file", size="sm", min_width=90, file_types=["image"], elem_id="mask-file"
                    )
                    invert = gr.Button("Invert", size="sm", min_width=70, elem_id="invert")
                run = gr.Button("Fill the hole", variant="primary", elem_id="run")
                with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                    options = make_options()
            with gr.Column(min_width=320):
                slider = gr.ImageSlider(
                    label="Before and after",
                    format="png",
                    height=BOX_HEIGHT,
                    max_height=480,
                    buttons=["fullscreen"],
                    elem_id="result",
                )
                summary = gr.HTML('<p class="note">The result appears here.</p>', elem_id="summary")
                download = gr.DownloadButton("Download as PNG", interactive=False, elem_id="download")
        samples = gr.Dataset(
            label="Examples, drawn by this project",
            components=[gr.Image(render=False)],
            samples=[[thumbnail] for _, _, thumbnail in examples],
            type="index",
            elem_id="examples",
        )
        thoughts = gr.HTML(elem_id="thoughts")
        add_endpoint(filler)

        opened = [picker, editor, photo_file, mask_file]
        picker.upload(open_photo, picker, opened, **PAGE_ONLY)
        mask_button.upload(open_mask, [mask_button, photo_file], opened, **PAGE_ONLY)
        editor.clear(open_photo, photo_file, opened, **PAGE_ONLY)
        another.click(close_photo, None, opened, **PAGE_ONLY)
        invert.click(invert_hole, [editor, photo_file], editor, **PAGE_ONLY)
        samples.click(lambda index: open_photo(*examples[index][:2]), samples, opened, **PAGE_ONLY)
        results = [slider, summary, download, thoughts]
        run.click(
            filler.fill,
            [editor, photo_file, mask_file, *options],
            results,
            show_progress_on=slider,
            **PAGE_ONLY,
            **ONE_AT_A_TIME,
        )
    return page


demo = build_demo(Inpainter(MODEL))


def main() -> None:
    """Serves the page."""
    demo.queue(max_size=QUEUE_SIZE).launch(
        server_port=int(PORT) if PORT else None,
        max_file_size=MAX_FILE_SIZE,
        theme=THEME,
        css=CSS,
        footer_links=["api", "settings"],
    )


if __name__ == "__main__":
    main()
