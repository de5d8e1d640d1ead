"""The Space as its visitors meet it: the real server, its endpoint for programs, and a page in a real browser.

Where the environment variable CI is set, a missing browser is a failure; elsewhere these tests say so and skip.
"""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sgenet_hf import Inpainter


def require(condition, what):
    """Skips a test that lacks something, or fails it where nothing may be missing."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(tiny_checkpoint, project_root, tmp_path_factory):
    """Address of `python app.py` with a tiny network of random weights."""
    try:
        import gradio  # noqa: F401
    except ImportError:
        require(False, "gradio")
    folder = tmp_path_factory.mktemp("server")
    port = free_port()
    environment = os.environ | {
        "SGENET_MODEL": str(tiny_checkpoint),
        "PORT": str(port),
        "SGENET_MAX_FILE_SIZE": "3mb",
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "PYTHONPATH": str(project_root),
    }
    with open(folder / "server.log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, str(project_root / "app.py")], cwd=folder, env=environment, stdout=log, stderr=log
        )
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 300
            while not answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"app.py did not start:\n{(folder / 'server.log').read_text()}")
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
        page.set_default_timeout(120_000)
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
        for _ in range(1200):
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

    def paint(self, width=80):
        """Draws a stroke over the middle of the canvas."""
        canvas = self.page.locator("#editor canvas").first
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x - width / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(x + width / 2, y, steps=12)
        self.page.mouse.up()
        self.settle()

    def press(self, name):
        """Presses one of the editor's own buttons."""
        self.page.locator("#editor").get_by_role("button", name=name).click()
        self.settle()

    def fill(self) -> str:
        """Presses the button; returns the sentences under the result."""
        self.page.locator("#run").click()
        self.settle()
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

    def result(self) -> tuple[Image.Image, Image.Image]:
        """Returns the pictures behind the slider, before and after."""
        before, after = (picture(image.get_attribute("src")) for image in self.page.locator("#result img").all())
        return before, after


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
    paths = {name: tmp_path / f"{name}.png" for name in ("photo", "mask", "small_mask", "empty", "text")}
    photo.save(paths["photo"])
    mask.save(paths["mask"])
    mask.resize((40, 30)).save(paths["small_mask"])
    Image.new("L", photo.size).save(paths["empty"])
    paths["text"].write_text("This is no picture.")
    return paths


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


@pytest.mark.parametrize(
    ("photo_name", "mask_name", "message"),
    [("text", "mask", "not an image"), ("photo", "text", "not an image"), ("photo", "small_mask", "40")],
)
def test_endpoint_says_what_is_wrong(client, files, photo_name, mask_name, message):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match=message) as caught:
        call(client, files[photo_name], files[mask_name])
    assert os.sep + "uploads" not in str(caught.value), "the message shows a path of the server"


def test_uploads_are_limited(client, files, tmp_path, rng):
    Image.fromarray(rng.integers(0, 256, (1200, 1200, 3), dtype=np.uint8)).save(tmp_path / "big.png")
    with pytest.raises(ValueError, match="maximum file size"):
        call(client, tmp_path / "big.png", files["mask"])


def test_inpaint_is_the_only_endpoint_and_is_documented(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert list(endpoints) == ["/inpaint"]
    parameters = {entry["parameter_name"]: entry for entry in endpoints["/inpaint"]["parameters"]}
    assert list(parameters) == ["photo", "mask", "strategy", "grow", "feather", "invert_mask"]
    assert [name for name, entry in parameters.items() if not entry["parameter_has_default"]] == ["photo", "mask"]


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
        assert titles == ["Image", "Segmentation", "Confidence", "Reliability"]
        drawings = scale.locator("img:not(.outline)").all()
        sizes = {picture(drawing.get_attribute("src")).size for drawing in drawings}
        assert sizes == {(-(-288 // 2**level), -(-240 // 2**level))}
        assert all(drawing.evaluate("image => image.naturalWidth") > 0 for drawing in drawings)
    assert "shown, not used" in scales.nth(4).inner_text()
    assert page.locator("#thoughts .legend li").count() >= 1
    assert "white is unreliable" in page.locator("#thoughts").inner_text()

    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "photo-filled.png"
    assert np.array_equal(np.asarray(Image.open(download.value.path())), after)


def test_a_mask_file_counts_and_can_be_inverted(visitor, files, mask):
    hole = np.asarray(mask) > 0
    visitor.open_photo(files["photo"])
    visitor.open_mask(files["mask"])
    assert f"{hole.sum():,} of 288 x 240 pixels" in visitor.fill()
    visitor.page.locator("#invert").click()
    visitor.settle()
    assert f"{(~hole).sum():,} of 288 x 240 pixels" in visitor.fill()


def test_an_example_can_be_filled_at_once(visitor):
    visitor.page.locator("#examples button.gallery-item").first.click()
    visitor.page.wait_for_selector("#editor canvas")
    visitor.settle()
    assert "of 576 x 384 pixels" in visitor.fill()


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


def test_undo_and_clear_take_the_hole_back_but_not_the_photo(visitor, files):
    visitor.open_photo(files["photo"])
    for button in ("Undo", "Clear canvas"):
        visitor.paint()
        visitor.press(button)
        visitor.page.locator("#run").click()
        assert "no hole yet" in visitor.message()
    visitor.paint()
    assert "of 288 x 240 pixels" in visitor.fill()


def test_what_is_missing_or_wrong_is_said(visitor, files):
    visitor.page.locator("#run").click()
    assert "Open a photo first" in visitor.message()
    visitor.page.locator("#picker input[type=file]").first.set_input_files(str(files["text"]))
    assert "text.png is not an image" in visitor.message()
    visitor.arrive()
    visitor.open_photo(files["photo"])
    visitor.open_mask(files["small_mask"])
    assert "The mask is 40 x 30 pixels, the photo 288 x 240" in visitor.message()


def test_the_page_fits_narrow_and_wide_screens(visitor, files):
    page = visitor.page
    page.set_viewport_size({"width": 390, "height": 800})
    visitor.open_photo(files["photo"])
    visitor.paint()
    visitor.fill()
    for width, scheme in ((390, "light"), (800, "dark"), (1600, "dark")):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        visitor.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [frame.bounding_box() for frame in page.locator("#thoughts .frame").all()]
        assert len(boxes) == 20
        assert all(box["width"] > 120 and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)


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
