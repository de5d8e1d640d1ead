"""The Space: paint a hole on a photo, fill it, and see what SGE-Net thought at every scale.

    python app.py                                  # the bundled network, on this machine
    SGENET_MODEL=org/name PORT=8000 python app.py  # another checkpoint (folder, Hub id or bundled name), another port

Settings come from the environment of the server and from nowhere else:

    SGENET_MODEL          the page's network                                                      street
    SGENET_COMPARE        networks to compare it with, as NAME=CHECKPOINT,NAME=CHECKPOINT         none
    PORT                  port to listen on                                                       the next free one
    SGENET_QUEUE_SIZE     visitors who may wait; the next one reads that the queue is full        16
    SGENET_MAX_FILE_SIZE  largest upload                                                          40mb
    SGENET_MCP            1: offer the endpoints to language models too (pip install gradio[mcp])  0

The page keeps the uploaded file and paints on a preview of it, so that the result has the photo's own pixels at full
size. Programs call the endpoints `/inpaint` and `/segment`. What the events do is in `sgenet_hf/page.py`.
"""

import atexit
import importlib.util
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from sgenet_hf import Inpainter
from sgenet_hf.batches import COLUMNS
from sgenet_hf.canvas import HOLE_COLOUR, HOLE_OPACITY
from sgenet_hf.configuration_sgenet import MAX_GUIDANCE_SCALE
from sgenet_hf.masks import grow_mask
from sgenet_hf.page import (
    Handlers,
    close_photo,
    invert_hole,
    make_brushes,
    open_mask,
    open_photo,
    reuse_hole,
    save_hole,
)
from sgenet_hf.pipeline import STRATEGIES
from sgenet_hf.toy import CAR, draw_scene
from sgenet_hf.visualization import as_image, tint_hole


def setting(name: str, default: int | None) -> int | None:
    """Reads a whole number from the environment."""
    text = os.environ.get(name, "")
    if text and not text.isdigit():
        raise SystemExit(f"{name}={text}: give a whole number.")
    return int(text) if text else default


def require_free_port(port: int | None) -> None:
    """Stops if somebody listens on a port already; without one, Gradio looks for the next free one."""
    if port is None:
        return
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise SystemExit(f"Port {port} is taken or forbidden: choose another with --port or PORT.") from error


def allowed_networks(main: str, others: str) -> dict[str, str]:
    """Returns name -> checkpoint of every network that this server may load; the page's own first."""
    networks = {Path(main).name: main}
    for entry in filter(None, map(str.strip, others.split(","))):
        name, equals, checkpoint = entry.partition("=")
        if not (name and equals and checkpoint) or name in networks:
            raise SystemExit(f"SGENET_COMPARE: {entry!r} is not NAME=CHECKPOINT with a name of its own.")
        networks[name] = checkpoint
    return networks


NETWORKS = allowed_networks(os.environ.get("SGENET_MODEL", "street"), os.environ.get("SGENET_COMPARE", ""))
PORT = setting("PORT", setting("GRADIO_SERVER_PORT", None))
QUEUE_SIZE = setting("SGENET_QUEUE_SIZE", 16)
MAX_FILE_SIZE = os.environ.get("SGENET_MAX_FILE_SIZE", "40mb")
MCP = os.environ.get("SGENET_MCP") == "1"

LOOK = Path(__file__).resolve().parent / "sgenet_hf"
STRATEGY_NAMES = ("Choose by size", "Crop around the hole", "Shrink", "Full size")
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
FORMATS = (
    "PNG keeps every known pixel exactly. JPEG and WebP encode the whole photo again: all pixels change a little."
)
BATCH = """
Fills many photos, each with the mask file of the same name (`street.jpg` with `street.png`, white = removed). The zip
holds PNGs, the least confident first: those are the ones to look at.
"""
THEME = gr.themes.Base(
    primary_hue="orange",
    neutral_hue="slate",
    radius_size="md",
    # Fonts that every system has: nothing is fetched.
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(body_text_color_subdued="*neutral_500")  # Gradio's own grey is too pale to read on white


class PhotoFile(gr.Image):
    """An image box that hands on the uploaded file untouched: our reader judges it and names what is wrong."""

    is_template = True  # Gradio draws it as its parent

    def preprocess(self, payload):
        return None if payload is None else payload.path


class FilledPicture(gr.Image):
    """An image box for results of programs, lossless. Gradio would encode a picture twice, once for its name, and
    slowly."""

    is_template = True

    def postprocess(self, value):
        if value is None:  # before the first request
            return None
        with tempfile.TemporaryDirectory(prefix="sgenet-") as folder:
            value.save(f"{folder}/image.png", compress_level=1)
            return super().postprocess(save_file_to_cache(f"{folder}/image.png", self.GRADIO_CACHE))


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
        tint_hole(scene, hole, HOLE_COLOUR, HOLE_OPACITY).save(thumbnail)
        examples.append((photo, mask, thumbnail))
    return examples


def make_editor(label: str, elem_id: str, **options: Any) -> gr.ImageEditor:
    """A canvas with brush and eraser."""
    return gr.ImageEditor(
        label=label,
        image_mode="RGBA",
        sources=(),
        transforms=(),
        layers=False,
        **make_brushes(24),
        format="png",
        height=BOX_HEIGHT,
        buttons=[],
        elem_id=elem_id,
        **options,
    )


def make_slider(label: str, elem_id: str, **options: Any) -> gr.ImageSlider:
    """Two pictures under a handle, lossless."""
    return gr.ImageSlider(
        label=label,
        format="png",
        height=BOX_HEIGHT,
        max_height=480,
        buttons=["fullscreen"],
        interactive=False,
        elem_id=elem_id,
        **options,
    )


def small_button(label: str, elem_id: str) -> gr.Button:
    """One of the tools below the canvas."""
    return gr.Button(label, size="sm", min_width=96, elem_id=elem_id)


def make_options(network: Inpainter) -> list[Any]:
    """Strategy, grow, feather, texture and redrawing, with what they are good for."""
    usual_noise = network.model.config.noise_strength if network.has_noise else 0
    return [
        gr.Radio(
            list(zip(STRATEGY_NAMES, STRATEGIES, strict=True)),
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
        gr.Slider(
            0,
            max(1, usual_noise),
            usual_noise,
            step=0.1,
            label="Texture",
            info="0 is the smoothest; 1 has the most detail.",
            visible=network.has_noise,
        ),
        gr.Checkbox(
            network.can_redraw and network.model.config.redrawn_share > 0,
            label="Redraw with the photo's own patches",
            info="Without it you see what the network alone draws, and large holes take far less time.",
            visible=network.can_redraw,
        ),
    ]


def build_photo_tab(handlers: Handlers, examples: list[tuple[str, str, str]]) -> None:
    """Lays out the first tab, from the photo to what the network thought, and ties its events."""
    photo_file, exact, last = gr.State(), gr.State(), gr.State()
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
            editor = make_editor("Paint the hole", "editor", visible=False)
            gr.Markdown(POLARITY, elem_classes="note")
            with gr.Row():
                another = small_button("New photo", "another")
                mask_button = gr.UploadButton(
                    "Open mask", size="sm", min_width=96, file_types=["image"], elem_id="mask-file"
                )
                save_mask = small_button("Save mask", "save-mask")
                invert = small_button("Invert", "invert")
                reuse = small_button("Last mask", "reuse")
                saved_mask = gr.DownloadButton("Saved mask", visible="hidden", elem_id="saved-mask")
            remove = gr.Dropdown(
                handlers.classes,
                value=None,
                label="Remove all",
                info="Adds what the network itself takes for this class to the hole.",
                elem_id="remove",
            )
            run = gr.Button("Fill the hole (Ctrl + Enter)", variant="primary", elem_id="run")
            with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                options = make_options(handlers.inpainter)
        with gr.Column(min_width=320):
            slider = make_slider("Before and after", "result", type="filepath")
            with gr.Row():
                download = gr.DownloadButton("Download as PNG", interactive=False, min_width=140, elem_id="download")
                own = gr.DownloadButton("In its own format", interactive=False, min_width=140, elem_id="download-own")
            gr.Markdown(FORMATS, elem_classes="note")
            summary = gr.HTML('<p class="note">The result appears here.</p>', elem_id="summary")
            say = gr.Button("Say what belongs there", elem_id="say")
            with gr.Column(visible=False, elem_id="prompt") as prompt_box:
                names = gr.Radio(
                    handlers.classes,
                    label="What belongs there",
                    info="Choose a class, paint where it should be inside the thin line, and fill again.",
                    elem_id="prompt-class",
                )
                prompt_editor = make_editor("Paint what belongs there", "prompt-editor")
                guidance = gr.Slider(
                    0,
                    MAX_GUIDANCE_SCALE,
                    handlers.inpainter.model.config.guidance_scale,
                    step=0.1,
                    label="How far what you painted pulls",
                    info="1 is as trained, and calmer; more looks more like the class, until colours clip.",
                    visible=handlers.inpainter.takes_prompts,
                    elem_id="prompt-guidance",
                )
                with gr.Row(equal_height=True):
                    start = gr.Button("Start from its own map", elem_id="prompt-own")
                    again = gr.Button("Fill as painted", variant="primary", elem_id="prompt-run")
            compared = []
            if len(handlers.networks) > 1:
                compared = build_comparison(handlers, [editor, photo_file, exact, *options])
    samples = gr.Dataset(
        label="Examples, drawn by this project",
        components=[gr.Image(render=False)],
        samples=[[thumbnail] for _, _, thumbnail in examples],
        type="index",
        elem_id="examples",
    )
    thoughts = gr.HTML(elem_id="thoughts")

    hole = [editor, photo_file, exact]
    opened = [picker, photo_file, editor, exact]
    picker.upload(open_photo, picker, opened, **PAGE_ONLY)
    # Gradio's sign of waiting sometimes stays over the photo after a mask was refused; opening one takes no time.
    mask_button.upload(open_mask, [mask_button, photo_file], opened, show_progress="hidden", **PAGE_ONLY)
    editor.clear(open_photo, photo_file, opened, **PAGE_ONLY)
    another.click(close_photo, None, opened, **PAGE_ONLY)
    samples.click(lambda index: open_photo(*examples[index][:2]), samples, opened, **PAGE_ONLY)
    invert.click(invert_hole, hole, [editor, exact], **PAGE_ONLY)
    reuse.click(reuse_hole, [photo_file, last], [editor, exact], **PAGE_ONLY)
    # A browser saves only what a click asks for, and the file is there only after the first one.
    save_mask.click(save_hole, hole, saved_mask, **PAGE_ONLY).success(
        None, js="() => setTimeout(() => document.querySelector('#saved-mask').click(), 200)", **PAGE_ONLY
    )
    remove.input(handlers.remove_all, [remove, *hole], [editor, exact, remove], **PAGE_ONLY, **ONE_AT_A_TIME)
    asked: dict[str, Any] = {
        "outputs": [slider, summary, download, own, thoughts, last],
        "show_progress_on": slider,
        **PAGE_ONLY,
        **ONE_AT_A_TIME,
    }
    for button, painted in ((run, []), (again, [prompt_editor, guidance])):
        filled = button.click(handlers.fill, [*hole, *options, *painted], **asked)
        filled.success(None, js="() => window.bringResultIntoView()", **PAGE_ONLY)
        if compared:  # an older fill beside the new one would contradict it
            filled.success(lambda: (None, ""), None, compared, show_progress="hidden", **PAGE_ONLY)
    say.click(handlers.open_prompt, [photo_file, slider, last], [prompt_box, prompt_editor], **PAGE_ONLY)
    start.click(handlers.start_from_own_map, [photo_file, slider, last], prompt_editor, **PAGE_ONLY)
    names.input(handlers.choose_class, names, prompt_editor, show_progress="hidden", **PAGE_ONLY)


def build_comparison(handlers: Handlers, inputs: list[Any]) -> list[Any]:
    """Adds the choice among the networks that the server's owner allows, and both results, which it returns."""
    others = [name for name in handlers.networks if name != handlers.name]
    with gr.Accordion("Compare with another network", open=False, elem_id="compare"):
        choice = gr.Radio(others, value=others[0], label="The other network", elem_id="compare-with")
        button = gr.Button("Fill with both", elem_id="compare-run")
        slider = make_slider("Left and right", "compare-result")
        compared = gr.HTML(elem_id="compared")
    button.click(handlers.compare, [*inputs, choice], [slider, compared], **PAGE_ONLY, **ONE_AT_A_TIME)
    return [slider, compared]


def build_batch_tab(handlers: Handlers) -> None:
    """Lays out the second tab: many photos in, a zip and a table out."""
    gr.Markdown(BATCH)
    with gr.Row(equal_height=False):
        photos, masks = (
            gr.File(label=label, file_count="multiple", file_types=["image"], height=220, elem_id=elem_id)
            for label, elem_id in (("Photos", "batch-photos"), ("Masks", "batch-masks"))
        )
    with gr.Accordion("Advanced", open=False):
        options = make_options(handlers.inpainter)
    button = gr.Button("Fill all", variant="primary", elem_id="batch-run")
    with gr.Row():
        archive = gr.DownloadButton("Download the photos (zip)", interactive=False, elem_id="batch-zip")
        scores = gr.DownloadButton("Download the scores (CSV)", interactive=False, elem_id="batch-scores")
    table = gr.Dataframe(
        headers=list(COLUMNS),
        column_widths=["160px", "110px", "120px", "100px", "220px", "300px"],
        interactive=False,
        wrap=True,
        label="Scores",
        elem_id="batch-table",
    )
    button.click(
        handlers.fill_batch,
        [photos, masks, *options],
        [table, archive, scores],
        show_progress_on=table,
        **PAGE_ONLY,
        **ONE_AT_A_TIME,
    )


def add_endpoints(handlers: Handlers) -> None:
    """Adds `/inpaint` and `/segment` for programs; their boxes are never drawn."""

    def file_box(name: str) -> PhotoFile:
        return PhotoFile(label=name, type="filepath", image_mode=None, visible=False)

    def picture(name: str) -> gr.Image:
        return FilledPicture(format="png", label=name, visible=False)

    photo, mask, prompt = (file_box(name) for name in ("photo", "mask", "semantic_prompt"))
    grow, feather = (gr.Number(0, label=name, visible=False) for name in ("grow", "feather"))
    strategy = gr.Radio(list(STRATEGIES), value="auto", label="strategy", visible=False)
    invert_mask = gr.Checkbox(label="invert_mask", visible=False)
    remove = gr.Dropdown(handlers.classes, multiselect=True, label="remove", visible=False)
    network = gr.Radio(list(handlers.networks), value=handlers.name, label="network", visible=False)
    factors = [
        gr.Number(None, label=name, visible=False) for name in ("noise_strength", "guidance_scale", "redrawn_share")
    ]
    gr.Button(visible=False).click(
        handlers.inpaint,
        [photo, mask, strategy, grow, feather, invert_mask, remove, prompt, network, *factors],
        [picture("filled photo"), gr.JSON(label="facts", visible=False)],
        api_name="inpaint",
        **ONE_AT_A_TIME,
    )
    gr.Button(visible=False).click(
        handlers.segment,
        file_box("photo"),
        [picture("map of class ids"), gr.JSON(label="classes", visible=False)],
        api_name="segment",
        **ONE_AT_A_TIME,
    )


def build_demo(networks: dict[str, Inpainter]) -> gr.Blocks:
    """Builds the page around loaded networks."""
    handlers = Handlers(networks)
    with gr.Blocks(title="SGE-Net inpainting", analytics_enabled=False, delete_cache=(3600, 24 * 3600)) as page:
        gr.Markdown(DESCRIPTION, elem_id="description")
        with gr.Tab("One photo"):
            build_photo_tab(handlers, make_examples())
        with gr.Tab("Many photos", elem_id="batch"):
            build_batch_tab(handlers)
        add_endpoints(handlers)
    return page


if __name__ == "__main__":
    require_free_port(PORT)  # before the networks load
demo = build_demo({name: Inpainter(checkpoint) for name, checkpoint in NETWORKS.items()})


def main() -> None:
    """Serves the page."""
    if MCP and importlib.util.find_spec("mcp") is None:
        raise SystemExit('SGENET_MCP=1 needs an optional package: pip install "gradio[mcp]".')
    demo.queue(max_size=QUEUE_SIZE).launch(
        server_port=PORT,
        max_file_size=MAX_FILE_SIZE,
        mcp_server=MCP,
        theme=THEME,
        css=(LOOK / "page.css").read_text(encoding="utf-8"),
        js=(LOOK / "page.js").read_text(encoding="utf-8"),
        footer_links=["api", "settings"],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"The page is at {demo.local_url} (Ctrl + C ends it)", flush=True)
    demo.block_thread()


if __name__ == "__main__":
    main()
