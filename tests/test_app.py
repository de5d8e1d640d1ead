"""The Space as its visitors meet it: the real server, its endpoints for programs, and a page in a real browser.

Where the environment variable CI is set, a missing browser is a failure; elsewhere these tests say so and skip.
"""

import base64
import csv
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eval.space_benchmark import draw_photo, measure
from sgenet_hf import GatedConvConfig, GatedConvModel, Inpainter, SGENetConfig, SGENetImageProcessor, SGENetModel
from sgenet_hf.page import fill_options


def require(condition, what):
    """Skips a test that lacks something, or fails it where nothing may be missing."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def second_checkpoint(tmp_path_factory) -> Path:
    """Another tiny network, which the server's owner allows too."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("second") / "tiny2"
    SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4)).save_pretrained(folder)
    SGENetImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def foreign_checkpoint(tmp_path_factory) -> Path:
    """A system that names no classes, allowed too."""
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("foreign") / "gated"
    GatedConvModel(GatedConvConfig(width=8)).save_pretrained(folder)
    SGENetImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server_log(tmp_path_factory) -> Path:
    """What the server says to whoever started it."""
    return tmp_path_factory.mktemp("log") / "server.log"


@pytest.fixture(scope="module")
def server(tiny_checkpoint, second_checkpoint, foreign_checkpoint, project_root, tmp_path_factory, server_log):
    """Address of `sgenet serve` with a tiny network of random weights."""
    try:
        import gradio  # noqa: F401
    except ImportError:
        require(False, "gradio")
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    environment = os.environ | {
        "SGENET_COMPARE": f"second={second_checkpoint},gated={foreign_checkpoint}",
        "SGENET_MAX_FILE_SIZE": "3mb",
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "PYTHONPATH": str(project_root),
    }
    with server_log.open("w+") as log:
        command = [
            sys.executable,
            "-m",
            "sgenet_hf.cli",
            "serve",
            "--model",
            str(tiny_checkpoint),
            "--port",
            str(port),
        ]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 600
            while not answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the page did not start:\n{server_log.read_text()}")
                time.sleep(0.3)
            yield address
        finally:
            process.terminate()
            process.wait(timeout=20)


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/config", timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def browser():
    """A real headless Chromium."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    require(executable, "chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        require(False, "playwright")
    switches = ["no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=[f"--{switch}" for switch in switches], timeout=60_000
        )
        yield chromium
        chromium.close()


class Visitor:
    """A person in front of the page. Every step waits until the page has heard back from the server."""

    def __init__(self, page, server):
        self.page = page
        self.server = server
        self.strangers, self.crashes, self.waiting = [], [], set()
        page.set_default_timeout(240_000)
        # A canvas draws 60 times a second, which keeps a machine without a graphics card from doing anything else.
        page.add_init_script("window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 100)")
        page.on("request", self._sent)
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: self.waiting.discard(request))
        page.on("pageerror", lambda error: self.crashes.append(str(error)))

    def _sent(self, request):
        if not request.url.startswith((self.server, "data:", "blob:")):
            self.strangers.append(request.url)
        if "/heartbeat/" not in request.url:  # stays open as long as the page
            self.waiting.add(request)

    def settle(self, quiet=8):
        """Waits until nothing has been asked of the server for most of a second."""
        calm = 0
        for _ in range(3000):
            calm = 0 if self.waiting else calm + 1
            if calm == quiet:
                return
            self.page.wait_for_timeout(100)
        pytest.fail(f"still waiting for {[request.url for request in self.waiting]}")

    def arrive(self):
        self.page.goto(self.server, wait_until="domcontentloaded")
        self.page.wait_for_selector("#picker input[type=file]", state="attached")
        self.settle()

    def open_photo(self, path):
        self.page.locator("#picker input[type=file]").first.set_input_files(str(path))
        self.page.wait_for_selector("#editor canvas")
        self.settle()

    def open_mask(self, path):
        with self.page.expect_file_chooser() as chooser:
            self.page.locator("#mask-file").click()
        chooser.value.set_files(str(path))
        self.settle()

    def paint(self, width=80, editor="#editor"):
        """Draws a stroke over the middle of a canvas."""
        canvas = self.page.locator(f"{editor} canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x - width / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(x + width / 2, y, steps=6)
        self.page.mouse.up()
        self.settle(20)  # a busy machine takes its time between the stroke and sending it

    def press(self, name):
        """Presses one of the editor's own buttons."""
        self.page.locator("#editor").get_by_role("button", name=name).click()
        self.settle()

    def click(self, selector):
        self.page.locator(selector).click()
        self.settle()

    def save(self, selector) -> Path:
        """Presses a button that saves a file; returns the file under the name that it was given."""
        with self.page.expect_download() as download:
            self.page.locator(selector).click()
        path = Path(download.value.path())
        return path.rename(path.with_name(download.value.suggested_filename))

    def fill(self, button="#run") -> str:
        """Presses a button, or Ctrl + Enter; returns the sentences under the result."""
        if button:
            self.page.locator(button).click()
        else:
            self.page.keyboard.press("Control+Enter")
        self.settle(15)
        self.page.wait_for_selector("#thoughts .scale")
        return self.page.locator("#summary").inner_text()

    def message(self) -> str:
        """Returns the message on the page and closes it."""
        toast = self.page.locator(".toast-body").first
        toast.wait_for()
        text = toast.inner_text()
        toast.get_by_test_id("toast-close").click()
        toast.wait_for(state="detached")
        return text

    def on_top(self, selector) -> str:
        """Returns what a visitor sees in the middle of a box: kinds and classes of the element and what it lies in."""
        box = self.page.locator(selector)
        box.scroll_into_view_if_needed()
        return box.evaluate(
            "box => { const { x, y, width, height } = box.getBoundingClientRect(), found = [];"
            " for (let at = document.elementFromPoint(x + width / 2, y + height / 2); at && at !== box;"
            " at = at.parentElement) found.push(`${at.tagName} ${at.getAttribute('class') || ''}`);"
            " return found.join(' < '); }"
        )

    def result(self) -> tuple[Image.Image, Image.Image]:
        """Returns the pictures behind the slider, before and after."""
        before, after = (picture(image.get_attribute("src")) for image in self.page.locator("#result img").all())
        return before, after


IN_VIEW = """
box => box.getBoundingClientRect().top >= 0 && box.getBoundingClientRect().bottom <= window.innerHeight
"""
CONTROLS_WITHOUT_A_NAME = """
() => [...document.querySelectorAll("button, input, select, textarea")].filter((control) =>
  control.offsetParent && !(control.innerText || control.ariaLabel || control.title || control.labels?.length ||
  control.getAttribute("aria-labelledby") || control.placeholder)).map((control) => control.outerHTML)
"""


def picture(address: str) -> Image.Image:
    with urllib.request.urlopen(address, timeout=60) as answer:  # also reads data: addresses
        return Image.open(io.BytesIO(answer.read()))


@pytest.fixture
def visitor(browser, server):
    """A visitor on the freshly loaded page; fails if anything came from elsewhere or a script broke."""
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    visitor = Visitor(page, server)
    visitor.arrive()
    yield visitor
    page.close()
    assert not visitor.strangers, f"fetched from third parties: {visitor.strangers}"
    assert not visitor.crashes, f"scripts broke: {visitor.crashes}"


@pytest.fixture
def photo(photo) -> Image.Image:
    """The shared photo at a size on which a stroke leaves something."""
    return photo.resize((288, 240), Image.Resampling.BICUBIC)


@pytest.fixture
def mask(mask) -> Image.Image:
    """The shared mask at the photo's size: rows 84 to 155, columns 99 to 188 are white."""
    return mask.resize((288, 240), Image.Resampling.NEAREST)


@pytest.fixture
def files(tmp_path, photo, mask) -> dict[str, Path]:
    """A photo, its mask, and files that a page must refuse."""
    paths = {name: tmp_path / f"{name}.png" for name in ("photo", "mask", "small_mask", "empty", "text", "bomb")}
    photo.save(paths["photo"])
    mask.save(paths["mask"])
    mask.resize((40, 30)).save(paths["small_mask"])
    Image.new("L", photo.size).save(paths["empty"])
    paths["text"].write_text("This is no picture.")
    paths["bomb"].write_bytes(png_of_size(60_000, 60_000))
    paths["truncated"] = tmp_path / "truncated.jpg"
    photo.save(paths["truncated"])
    paths["truncated"].write_bytes(paths["truncated"].read_bytes()[:2000])
    paths["animated"] = tmp_path / "animated.gif"
    photo.save(paths["animated"], save_all=True, append_images=[photo.rotate(180)])
    return paths


def png_of_size(width: int, height: int) -> bytes:
    """A file of a few bytes that claims to be a huge picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


# --- Programs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    return Client(server, verbose=False)


def call(client, photo, mask, **options):
    from gradio_client import handle_file

    return client.predict(handle_file(str(photo)), handle_file(str(mask)), api_name="/inpaint", **options)


@pytest.mark.parametrize(
    "options", [{}, {"grow": 4, "strategy": "original"}, {"strategy": "crop", "feather": 3}, {"invert_mask": True}]
)
def test_endpoint_gives_the_pixels_of_the_python_path(client, files, tiny_checkpoint, options):
    path, facts = call(client, files["photo"], files["mask"], **options)
    expected = Inpainter(str(tiny_checkpoint))(files["photo"], files["mask"], **options)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(expected.image))
    assert Image.open(path).format == "PNG"
    assert facts["score"] == pytest.approx(expected.score)
    assert facts["strategy"] == expected.strategy
    assert sum(facts["classes"].values()) == pytest.approx(1)


def test_endpoint_keeps_known_pixels_and_alpha(client, files, photo, tmp_path):
    transparent = photo.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(photo.size))
    transparent.save(tmp_path / "alpha.png")
    path, _ = call(client, tmp_path / "alpha.png", files["mask"])
    before, after, hole = (np.asarray(image) for image in (transparent, Image.open(path), Image.open(files["mask"])))
    assert after.shape == before.shape
    assert np.array_equal(after[hole == 0], before[hole == 0])
    assert np.array_equal(after[..., 3], before[..., 3])
    assert not np.array_equal(after[hole > 0], before[hole > 0])


def test_endpoint_returns_an_unmasked_photo_unchanged(client, files, photo):
    path, facts = call(client, files["photo"], files["empty"])
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(photo))
    assert facts["score"] is None and facts["classes"] == {}


def test_a_program_can_choose_among_the_allowed_networks(client, files, second_checkpoint):
    path, facts = call(client, files["photo"], files["mask"], network="second")
    expected = Inpainter(str(second_checkpoint))(files["photo"], files["mask"])
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(expected.image))
    assert 0 < facts["seconds"]["network"] < facts["seconds"]["all"]


def test_no_request_loads_another_checkpoint(client, files, second_checkpoint):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="not in the list of choices|not in choices"):
        call(client, files["photo"], files["mask"], network=str(second_checkpoint))


def test_how_far_a_prompt_pulls_can_be_chosen(client, files, tiny_checkpoint, tmp_path):
    from gradio_client import handle_file

    prompt = tmp_path / "prompt.png"
    Image.fromarray(np.full_like(np.asarray(Image.open(files["mask"]).convert("L")), 2)).save(prompt)
    inpainter = Inpainter(str(tiny_checkpoint))
    for asked, scale in ((0, 0), (4, 4), (None, inpainter.model.config.guidance_scale)):
        path, facts = call(
            client, files["photo"], files["mask"], semantic_prompt=handle_file(str(prompt)), guidance_scale=asked
        )
        assert facts["guidance_scale"] == scale
        expected = inpainter(files["photo"], files["mask"], semantic_prompt=prompt, guidance_scale=scale)
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(expected.image))
    assert call(client, files["photo"], files["mask"], guidance_scale=4)[1]["guidance_scale"] is None


def test_the_amount_of_texture_can_be_chosen(client, files, tiny_checkpoint):
    inpainter = Inpainter(str(tiny_checkpoint))
    fills = []
    for strength in (0, 1):
        path, facts = call(client, files["photo"], files["mask"], noise_strength=strength)
        assert facts["noise_strength"] == strength
        fills.append(np.asarray(Image.open(path)))
        expected = inpainter(files["photo"], files["mask"], noise_strength=strength)
        assert np.array_equal(fills[-1], np.asarray(expected.image))
    hole = np.asarray(Image.open(files["mask"])) > 0
    assert (fills[0] != fills[1])[hole].any() and np.array_equal(fills[0][~hole], fills[1][~hole])

    from app import make_options

    plain = Inpainter(SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4)))
    assert fill_options(inpainter, "auto", 2, 0, 0.3, False)["noise_strength"] == 0.3
    assert "noise_strength" not in fill_options(plain, "auto", 2, 0, 0.3, False), "the slider is not shown for it"
    assert fill_options(inpainter, "auto", 2, 0, None, None)["noise_strength"] is None, "not the hidden slider's 0"
    lively = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, noise_channels=1, noise_strength=1.5))
    slider = make_options(Inpainter(lively))[-2]
    assert slider.preprocess(slider.value) == 1.5


def test_redrawing_can_be_chosen(client, files, tiny_checkpoint):
    inpainter = Inpainter(str(tiny_checkpoint))
    fills = []
    for share in (0, 0.5, 1):
        path, facts = call(client, files["photo"], files["mask"], redrawn_share=share)
        assert facts["redrawn_share"] == share
        fills.append(np.asarray(Image.open(path)))
        expected = inpainter(files["photo"], files["mask"], redrawn_share=share)
        assert np.array_equal(fills[-1], np.asarray(expected.image))
    hole = np.asarray(Image.open(files["mask"])) > 0
    assert (fills[0] != fills[2])[hole].any() and np.array_equal(fills[0][~hole], fills[2][~hole])

    from app import make_options

    def asked(network, ticked):
        return fill_options(network, "auto", 2, 0, 0.3, ticked).get("redrawn_share", "nothing")

    assert [asked(inpainter, ticked) for ticked in (True, False, None)] == [1, 0, None]
    assert make_options(inpainter)[-1].value is False, "as the checkpoint says"
    half = SGENetModel(SGENetConfig(widths=(4, 8, 8, 16, 16), num_labels=4, redrawn_share=0.5))
    assert make_options(Inpainter(half))[-1].value is True and asked(Inpainter(half), True) is None, "its own"
    foreign = Inpainter(GatedConvModel(GatedConvConfig(width=4)))
    assert asked(foreign, True) == "nothing" and not make_options(foreign)[-1].visible


def test_the_map_of_a_photo_can_prompt_a_fill(client, files, photo, tiny_checkpoint):
    from gradio_client import handle_file

    inpainter = Inpainter(str(tiny_checkpoint))
    path, classes = client.predict(handle_file(str(files["photo"])), api_name="/segment")
    labels = np.asarray(Image.open(path))
    assert np.array_equal(labels, inpainter.segment(files["photo"]).labels)
    assert {facts["id"] for facts in classes.values()} == set(np.unique(labels))
    assert sum(facts["share"] for facts in classes.values()) == pytest.approx(1)

    prompt = Image.fromarray(np.full_like(labels, 3))
    prompt.save(files["photo"].with_name("prompt.png"))
    prompted, _ = call(
        client, files["photo"], files["mask"], semantic_prompt=handle_file(str(files["photo"].with_name("prompt.png")))
    )
    expected = inpainter(files["photo"], files["mask"], semantic_prompt=prompt)
    assert np.array_equal(np.asarray(Image.open(prompted)), np.asarray(expected.image))
    assert not np.array_equal(np.asarray(expected.image), np.asarray(inpainter(photo, files["mask"]).image))


def test_a_program_can_remove_by_name(client, files, tiny_checkpoint):
    from gradio_client import handle_file

    inpainter = Inpainter(str(tiny_checkpoint))
    seen = inpainter.segment(files["photo"]).labels
    name = inpainter.classes[int(np.bincount(seen.ravel()).argmax())]
    path, facts = client.predict(handle_file(str(files["photo"])), remove=[name], api_name="/inpaint")
    expected = inpainter(files["photo"], remove=[name])
    assert facts["removed"] == pytest.approx(expected.removed)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(expected.image))


@pytest.mark.parametrize("kind", ["CMYK", "I;16", "wide"])
def test_unusual_photos_are_filled(client, photo, tmp_path, kind):
    size = (20_000, 40) if kind == "wide" else photo.size
    path = tmp_path / ("unusual.jpg" if kind == "CMYK" else "unusual.png")
    if kind == "I;16":
        Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257).save(path)
    else:
        photo.convert("CMYK" if kind == "CMYK" else "RGB").resize(size).save(path)
    hole = np.zeros(size[::-1], np.uint8)
    hole[10:30, 20:60] = 255
    Image.fromarray(hole).save(tmp_path / "hole.png")
    filled, facts = call(client, path, tmp_path / "hole.png")
    assert Image.open(filled).size == size
    assert facts["score"] > 0
    if kind != "CMYK":
        before, after = np.asarray(Image.open(path)), np.asarray(Image.open(filled))
        assert np.array_equal(before[hole == 0], after[hole == 0])


@pytest.mark.parametrize(
    ("photo_name", "mask_name", "message"),
    [
        ("text", "mask", "not an image"),
        ("photo", "text", "not an image"),
        ("photo", "small_mask", "40"),
        ("truncated", "mask", "damaged or incomplete.*again"),
        ("bomb", "mask", "too large.*Shrink it"),
        ("animated", "mask", "several frames"),
    ],
)
def test_endpoint_says_what_is_wrong(client, files, photo_name, mask_name, message):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=message) as caught:
        call(client, files[photo_name], files[mask_name])
    assert os.sep + "uploads" not in str(caught.value), "the message shows a path of the server"
    assert "resize" not in str(caught.value), "the message names an option that the endpoint does not have"


def test_uploads_are_limited(client, files, tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)).save(tmp_path / "big.png")
    with pytest.raises(ValueError, match="maximum file size"):
        call(client, tmp_path / "big.png", files["mask"])


def test_the_endpoints_are_named_and_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/inpaint", "/segment"]
    parameters = {entry["parameter_name"]: entry for entry in endpoints["/inpaint"]["parameters"]}
    assert list(parameters) == [
        *("photo", "mask", "strategy", "grow", "feather", "invert_mask", "remove", "semantic_prompt", "network"),
        *("noise_strength", "guidance_scale", "redrawn_share"),
    ]
    assert [name for name, entry in parameters.items() if not entry["parameter_has_default"]] == ["photo"]
    assert parameters["strategy"]["type"]["enum"] == ["auto", "crop", "resize", "original"]
    assert "white part of a mask" in endpoints["/inpaint"]["description"]


def test_the_example_of_the_readme_runs(server, photo, mask, project_root, tmp_path, monkeypatch):
    readme = (project_root / "README.md").read_text(encoding="utf-8")
    example = next(block for block in readme.split("```python\n")[1:] if "gradio_client" in block).split("```")[0]
    monkeypatch.chdir(tmp_path)
    photo.save("photo.jpg")
    mask.save("mask.png")
    assert "http://127.0.0.1:7860" in example
    exec(example.replace("http://127.0.0.1:7860", server), {})
    expected = np.asarray(Image.open("photo.jpg"))[np.asarray(mask) == 0]
    assert np.array_equal(np.asarray(Image.open("filled.png"))[np.asarray(mask) == 0], expected)


def test_no_file_of_the_server_can_be_read(server, project_root, tiny_checkpoint):
    picture_outside = {"path": str(project_root / "docs/images/readme.png"), "meta": {"_type": "gradio.FileData"}}
    request = urllib.request.Request(
        f"{server}/gradio_api/call/segment",
        json.dumps({"data": [picture_outside]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{server}/gradio_api/call/segment/{event}", timeout=60) as answer:
        assert b"event: error" in answer.read()
    for path in (project_root / "app.py", tiny_checkpoint / "config.json", "/etc/hostname"):
        with pytest.raises(urllib.error.HTTPError, match="403|404"):
            urllib.request.urlopen(f"{server}/gradio_api/file={path}")


def test_every_client_gets_the_answer_to_its_own_photo(server, tmp_path):
    photos = [draw_photo(seed, 64, tmp_path) for seed in range(4)]
    lines = measure(server, os.getpid(), photos, seconds=2)
    assert "errors: 0" in lines[2], lines
    assert re.search(r"4 clients: [\d.]+ requests a minute, p50 [\d.]+ s, p95 [\d.]+ s", lines[1])
    assert 0 < int(re.search(r"(\d+)% of it not the network", lines[0])[1]) < 100


def test_the_server_says_its_address_and_nothing_else(server, server_log):
    assert server_log.read_text().splitlines()[0] == f"The page is at {server}/ (Ctrl + C ends it)"
    assert "public link" not in server_log.read_text()


def test_a_taken_port_is_said_before_anything_is_loaded(server, tmp_path):
    port = server.rpartition(":")[2]
    command = [sys.executable, "-m", "sgenet_hf.cli", "serve", "--model", str(tmp_path / "nothing"), "--port", port]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"sgenet serve: Port {port} is taken")
    assert "--port" in result.stderr and "Traceback" not in result.stderr


def test_analytics_are_off(server):
    with urllib.request.urlopen(f"{server}/config") as answer:
        assert re.search(rb'"analytics_enabled":\s*false', answer.read())


# --- The page --------------------------------------------------------------------------------------------------------


def test_painting_and_filling_shows_result_and_five_scales(visitor, files, photo):
    visitor.open_photo(files["photo"])
    visitor.paint()
    sentences = visitor.fill()
    assert re.search(
        r"The network is (very sure|fairly sure|unsure|only guessing) what belongs in the hole", sentences
    )

    before, after = (np.asarray(image.convert("RGB")) for image in visitor.result())
    assert np.array_equal(before, np.asarray(photo))
    changed = (after != before).any(-1)
    assert changed[120, 144] and not changed[:60].any() and not changed[180:].any()

    page = visitor.page
    scales = page.locator("#thoughts .scale")
    assert [scale.get_attribute("data-scale") for scale in scales.all()] == ["4", "3", "2", "1", "0"]
    for level, scale in zip((4, 3, 2, 1, 0), scales.all(), strict=True):
        titles = [caption.split("\n")[0] for caption in scale.locator("figcaption").all_inner_texts()]
        changed = [] if level == 4 else ["Changed its mind"]
        expected = {3: ["Pasted"], 2: ["Expected error"]}.get(level, [])
        assert titles == ["Image", "Segmentation", "Confidence", "Reliability", *changed, *expected]
        drawings = scale.locator("img:not([alt*='Pasted'])").all()
        sizes = {picture(drawing.get_attribute("src")).size for drawing in drawings}
        assert sizes == {(-(-288 // 2**level), -(-240 // 2**level))}
        assert all(drawing.evaluate("image => image.naturalWidth") > 0 for drawing in drawings)
    assert picture(scales.nth(1).locator("img[alt*='Pasted']").get_attribute("src")).size == (288, 240)
    assert "shown, not used" in scales.nth(4).inner_text()
    assert page.locator("#thoughts .legend li").count() >= 1
    assert "white is unreliable" in page.locator("#thoughts").inner_text()

    assert page.locator("#summary table.classes tbody tr").count() >= 1
    assert page.locator("#download-own").is_disabled(), "a PNG's own format is PNG"
    saved = visitor.save("#download")
    assert saved.name == "photo-filled.png"
    assert np.array_equal(np.asarray(Image.open(saved)), after)

    player, steps = page.locator(".player"), page.locator(".player input")
    steps.press("Home")
    assert player.locator("output").inner_text() == "Scale 4"
    player.locator("select").select_option("Confidence")
    shown = player.locator("img").get_attribute("src")
    assert shown == scales.first.locator('[data-view="Confidence"] img').get_attribute("src")
    player.locator(".play").click()
    page.wait_for_function("document.querySelector('.player output').textContent === 'Scale 0'")
    assert player.locator("img").get_attribute("src") != shown


def test_masks_come_and_go_as_files_and_can_be_inverted_and_used_again(visitor, files, photo, mask, tmp_path):
    hole = np.asarray(mask) > 0
    photo.save(tmp_path / "street.jpg")
    visitor.open_photo(tmp_path / "street.jpg")
    visitor.open_mask(files["mask"])
    saved = visitor.save("#save-mask")
    assert saved.name == "street-mask.png"
    assert np.array_equal(np.asarray(Image.open(saved)) > 0, hole)
    assert f"{hole.sum():,} of 288 x 240 pixels" in visitor.fill()
    own = Image.open(visitor.save("#download-own"))
    assert (own.format, own.size) == ("JPEG", photo.size)
    visitor.click("#invert")
    assert f"{(~hole).sum():,} of 288 x 240 pixels" in visitor.fill()

    visitor.click("#another")
    visitor.open_photo(files["photo"])
    visitor.click("#reuse")
    assert f"{(~hole).sum():,} of 288 x 240 pixels" in visitor.fill()


def test_a_class_can_be_removed_and_prescribed(visitor, files, tiny_checkpoint, tmp_path):
    inpainter, page = Inpainter(str(tiny_checkpoint)), visitor.page
    seen = inpainter.segment(files["photo"]).labels
    name = inpainter.classes[int(np.bincount(seen.ravel()).argmax())]
    Image.new("RGB", (3, 1)).save(tmp_path / "plain.png")  # too few pixels for all four classes
    plain = inpainter.segment(tmp_path / "plain.png").labels
    absent = next(name for index, name in inpainter.classes.items() if not (plain == index).any())
    visitor.open_photo(tmp_path / "plain.png")
    page.locator("#remove input").click()
    page.get_by_role("option", name=absent).click()
    assert f"sees no {absent}" in visitor.message()
    page.locator("#description h1").click()  # the box loses the focus
    visitor.settle()
    assert page.locator(".toast-body").count() == 0, "the same message a second time"
    assert page.locator("#remove input").input_value() == ""

    visitor.click("#another")
    visitor.open_photo(files["photo"])
    page.locator("#remove input").click()
    page.get_by_role("option", name=name).click()
    visitor.settle()
    assert f"{inpainter.mask_of(files['photo'], [name]).sum():,} of 288 x 240 pixels" in visitor.fill()

    visitor.open_mask(files["mask"])
    visitor.fill()
    free = np.asarray(visitor.result()[1].convert("RGB"))
    visitor.click("#say")
    page.wait_for_selector("#prompt-editor canvas")
    visitor.settle()
    visitor.click("#prompt-run")
    assert "No class is painted yet" in visitor.message()
    page.locator("#prompt-class label").last.click()
    visitor.settle()
    visitor.paint(60, "#prompt-editor")
    visitor.fill("#prompt-run")
    prompted = np.asarray(visitor.result()[1].convert("RGB"))
    hole = np.asarray(Image.open(files["mask"])) > 0
    assert (prompted != free)[hole].any() and np.array_equal(prompted[~hole], free[~hole])

    pull = page.locator("#prompt-guidance input[type=number]")
    assert pull.input_value() == f"{inpainter.model.config.guidance_scale:g}"
    pull.fill("4")
    pull.blur()
    assert "The prompt pulled at 4." in visitor.fill("#prompt-run")
    far = np.asarray(visitor.result()[1].convert("RGB"))
    assert (far != prompted)[hole].any()
    assert "The prompt pulled" not in visitor.fill(), "without a prompt there is nothing to pull"

    visitor.click("#say")
    visitor.settle()
    visitor.click("#prompt-own")
    visitor.fill("#prompt-run")
    own = np.asarray(visitor.result()[1].convert("RGB"))
    assert (own != free)[hole].any(), "the map holds certainties where the network had doubts"


def test_two_networks_can_be_compared(visitor, files, tiny_checkpoint, second_checkpoint, foreign_checkpoint):
    page = visitor.page
    visitor.open_photo(files["photo"])
    visitor.open_mask(files["mask"])
    page.locator("#compare button").first.click()
    visitor.click("#compare-run")
    page.wait_for_selector("#compared section")
    shown = [picture(image.get_attribute("src")) for image in page.locator("#compare-result img").all()]
    for checkpoint, image in zip((tiny_checkpoint, second_checkpoint), shown, strict=True):
        expected = Inpainter(str(checkpoint))(files["photo"], files["mask"]).image
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(expected))
    assert page.locator("#compared h3").all_inner_texts() == ["Left: tiny", "Right: second"]

    before = page.locator("#compare-result img").last.get_attribute("src")
    page.get_by_role("radio", name="gated").check()
    visitor.click("#compare-run")
    page.wait_for_function("text => document.querySelector('#compared').innerText.includes(text)", arg="Right: gated")
    page.wait_for_function(
        "old => [...document.querySelectorAll('#compare-result img')].at(-1).src != old", arg=before
    )
    expected = Inpainter(str(foreign_checkpoint))(files["photo"], files["mask"]).image
    shown = picture(page.locator("#compare-result img").last.get_attribute("src"))
    assert np.array_equal(np.asarray(shown.convert("RGB")), np.asarray(expected))
    assert "names no classes" in page.locator("#compared section").last.inner_text()
    visitor.fill()
    page.wait_for_function("!document.querySelector('#compared').innerText.trim()")  # of an older fill


def test_a_batch_ends_in_a_zip_and_a_table(visitor, files, photo, mask, tmp_path):
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    photo.save(tmp_path / "photos/a.png")
    photo.rotate(180).save(tmp_path / "photos/b.jpg")
    shutil.copy(files["text"], tmp_path / "photos/c.png")
    for name in "abc":
        mask.save(tmp_path / f"masks/{name}.png")
    page = visitor.page
    page.get_by_role("tab", name="Many photos").click()
    for box, folder in (("#batch-photos", "photos"), ("#batch-masks", "masks")):
        page.locator(f"{box} input[type=file]").set_input_files([*map(str, sorted((tmp_path / folder).iterdir()))])
        visitor.settle()
    visitor.click("#batch-run")
    with zipfile.ZipFile(visitor.save("#batch-zip")) as archive:
        names = archive.namelist()
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("scores.csv"), encoding="utf-8")))
    assert [row["photo"] for row in rows][-1] == "c.png" and "not an image" in rows[-1]["note"]
    assert float(rows[0]["confidence"]) <= float(rows[1]["confidence"])
    assert [name.split("_")[2] for name in names[1:]] == [Path(row["photo"]).stem + ".png" for row in rows[:2]]


def test_an_example_can_be_filled_at_once(visitor):
    visitor.page.locator("#examples button.gallery-item").first.click()
    visitor.page.wait_for_selector("#editor canvas")
    visitor.settle()
    assert "of 576 x 384 pixels" in visitor.fill()


def test_a_photo_can_be_pasted(visitor, files):
    page = visitor.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    encoded = base64.b64encode(files["photo"].read_bytes()).decode()
    page.evaluate(
        """async (encoded) => {
            const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
            const blob = new Blob([bytes], { type: "image/png" });
            await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
        }""",
        encoded,
    )
    page.locator("#picker").get_by_label("Paste").click()
    page.wait_for_selector("#editor canvas")
    visitor.settle()
    visitor.paint()
    assert "of 288 x 240 pixels" in visitor.fill()


def test_a_big_photo_keeps_its_size_and_its_pixels(visitor, tmp_path, rng):
    colours = rng.integers(0, 256, (15, 20, 3), dtype=np.uint8)
    photo = Image.fromarray(colours).resize((1600, 1200), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "big.png")
    visitor.open_photo(tmp_path / "big.png")
    visitor.paint()
    assert "crop" in visitor.fill()
    before, after = (np.asarray(image.convert("RGB")) for image in visitor.result())
    assert np.array_equal(before, np.asarray(photo))
    changed = (after != before).any(-1)
    assert changed[600, 800] and changed.mean() < 0.2


def test_undo_redo_and_clear_take_the_hole_back_but_not_the_photo(visitor, files):
    visitor.open_photo(files["photo"])
    for take_back in (lambda: visitor.page.keyboard.press("Control+z"), lambda: visitor.press("Clear canvas")):
        visitor.paint()
        take_back()
        visitor.settle()
        visitor.page.keyboard.press("Control+Enter")
        assert "no hole yet" in visitor.message()
    visitor.paint()
    visitor.press("Undo")
    visitor.press("Redo")
    assert "of 288 x 240 pixels" in visitor.fill(button=None)


def test_what_is_missing_or_wrong_is_said(visitor, files):
    visitor.page.locator("#run").click()
    assert "Open a photo first" in visitor.message()
    visitor.page.locator("#picker input[type=file]").first.set_input_files(str(files["text"]))
    assert "text.png is not an image" in visitor.message()
    visitor.arrive()
    visitor.open_photo(files["photo"])
    visitor.open_mask(files["small_mask"])
    assert "The mask is 40 x 30 pixels, the photo 288 x 240" in visitor.message()
    for _ in range(300):  # the message may come before the sign of waiting goes
        if (on_top := visitor.on_top("#editor")).startswith("CANVAS"):
            break
        visitor.page.wait_for_timeout(100)
    else:
        pytest.fail(f"something hides the photo: {on_top}")
    visitor.open_mask(files["empty"])
    assert "The mask is empty" in visitor.message()


def test_the_page_fits_narrow_and_wide_screens(visitor, files):
    page = visitor.page
    assert "upload" not in page.locator("#result").inner_text().lower(), "a result invites to upload"
    page.set_viewport_size({"width": 390, "height": 800})
    visitor.open_photo(files["photo"])
    visitor.paint()
    page.evaluate("window.scrollTo(0, 0)")
    visitor.fill(button=None)
    page.wait_for_function(f"({IN_VIEW})(document.querySelector('#result'))")
    assert not page.locator("footer").inner_text().strip().startswith("·"), "a dot without a link before it"
    assert page.evaluate(CONTROLS_WITHOUT_A_NAME) == []
    for width, scheme in ((390, "light"), (800, "dark"), (1600, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        visitor.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # The player, four of scale 4, five of each other scale, what was pasted, and the expected error of scale 2.
        assert page.locator("#thoughts .frame").count() == 27
        scales = page.locator("#thoughts .scale")
        for index in range(scales.count()):
            scales.nth(index).evaluate("scale => scale.scrollIntoView({ inline: 'start' })")
            boxes = [frame.bounding_box() for frame in scales.nth(index).locator(".frame").all()]
            assert all(box["width"] > 120 and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
        heights = page.locator("#thoughts .scales").bounding_box()["height"]
        assert heights < (1100 if width == 390 else 4000), "on a phone they are swiped through, not scrolled past"


def test_the_page_follows_the_dark_mode_of_the_system(browser, server):
    brightness = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(server, wait_until="domcontentloaded")
        page.wait_for_selector("#picker")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness[scheme] = sum(map(int, re.findall(r"\d+", colour)[:3]))
        page.close()
    assert brightness["dark"] < 200 < 600 < brightness["light"]
