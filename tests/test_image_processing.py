"""Photos, masks and labels in every form that people have, the processor, and photos back to files."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin
from PIL.JpegImagePlugin import get_sampling
from transformers import AutoImageProcessor

from sgenet_hf import SGENetImageProcessor, SGENetOutput
from sgenet_hf.image_processing_sgenet import fit_mask, nearest, shrink_prompt, shrink_without_leak
from sgenet_hf.photos import (
    PhotoError,
    _without_thumbnails,
    load_labels,
    load_mask,
    load_photo,
    save_photo,
    whole_file,
)


ORIENTATION = 0x0112


@pytest.fixture
def processor() -> SGENetImageProcessor:
    return SGENetImageProcessor()


@pytest.fixture
def pixels(rng) -> np.ndarray:
    """A photo of 12 rows and 17 columns."""
    return rng.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=image_format, **options)
    return stream.getvalue()


@functools.cache  # a profile holds the time at which it was made
def rgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


# Reading photos


def test_every_kind_of_source_gives_the_same_photo(pixels, tmp_path):
    image = Image.fromarray(pixels)
    path = tmp_path / "photo.png"
    image.save(path)
    channels_first = np.moveaxis(pixels, -1, 0)
    sources = {
        "PIL": image,
        "path": path,
        "path as text": str(path),
        "bytes": path.read_bytes(),
        "open file": io.BytesIO(path.read_bytes()),
        "numpy": pixels,
        "numpy, channels first": channels_first,
        "float numpy": pixels / 255,
        "torch": torch.from_numpy(channels_first.copy()),
        "float torch": torch.from_numpy(channels_first / 255),
        "torch with a batch of one": torch.from_numpy(channels_first.copy())[None],
        "read before": load_photo(path),
    }
    for name, source in sources.items():
        photo = load_photo(source)
        assert photo.mode == "RGB", name
        np.testing.assert_array_equal(photo.rgb, pixels, err_msg=name)


@pytest.mark.parametrize(
    ("stored", "comes_back"),
    [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA"), ("CMYK", "RGB")],
)
def test_each_mode_comes_back_as_one_that_holds_the_fill(photo, stored, comes_back):
    source = photo.convert("RGBA").convert(stored) if stored not in ("LA",) else photo.convert("LA")
    read = load_photo(source)
    assert read.mode == comes_back
    assert read.image().mode == comes_back
    assert read.image().size == photo.size
    np.testing.assert_array_equal(np.asarray(read.image()), np.asarray(source.convert(comes_back)))


def test_transparent_palettes_and_colour_keys_keep_their_alpha(pixels):
    palette = Image.fromarray(pixels).quantize(8)
    for source in (
        encoded(palette, "PNG", transparency=3),
        encoded(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3)),
    ):
        assert load_photo(source).mode == "RGBA"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_reset(pixels, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "a camera"
    read = load_photo(encoded(Image.fromarray(pixels), "PNG", exif=exif))
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: np.swapaxes(pixels, 0, 1),
        6: np.rot90(pixels, -1),
        7: np.swapaxes(pixels[::-1, ::-1], 0, 1),
        8: np.rot90(pixels),
    }[orientation]
    np.testing.assert_array_equal(read.pixels, expected)
    kept = Image.Exif()
    kept.load(read.metadata["exif"])
    assert kept.get(ORIENTATION, 1) == 1
    assert kept[0x010F] == "a camera"
    assert read.rotated == (orientation >= 5)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_thumbnails_of_the_whole_photo_do_not_survive(pixels, format_name, tmp_path):
    """They would still show what was removed."""
    thumbnail = encoded(Image.fromarray(pixels), "JPEG")
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    block = exif.tobytes()  # IFD0 in little or big endian; a second directory is appended to it by hand
    order = "<" if block[6:8] == b"II" else ">"
    start = len(block) - 6
    count = struct.unpack(order + "H", block[14:16])[0]
    link = 14 + 2 + 12 * count
    block = block[:link] + struct.pack(order + "I", start) + block[link + 4 :]
    entries = [(0x0201, 4, 1, start + 2 + 24 + 4), (0x0202, 4, 1, len(thumbnail))]
    block += struct.pack(order + "H", 2) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    block += struct.pack(order + "I", 0) + thumbnail
    assert thumbnail in encoded(Image.fromarray(pixels), "JPEG", exif=block)

    options = {} if format_name == "TIFF" else {"exif": block}  # a TIFF's own directories are the photo's
    read = load_photo(encoded(Image.fromarray(pixels), format_name, **options))
    path = save_photo(read, Image.fromarray(pixels), tmp_path / f"filled.{format_name.lower()}")
    assert thumbnail not in path.read_bytes()
    if options:
        assert Image.open(path).getexif()[0x010F] == "a camera"
    marked = b"<x><xmp:Thumbnails a='b'><rdf:Alt>abc</rdf:Alt></xmp:Thumbnails><dc:title>kept</dc:title></x>"
    assert _without_thumbnails({"xmp": marked})["xmp"] == b"<x><dc:title>kept</dc:title></x>"


def test_strokes_of_a_prompt_survive_shrinking():
    prompt = np.full((90, 120), -1)
    prompt[:, 50] = 3  # one pixel wide
    prompt[30:60, :40] = 7
    small = shrink_prompt(prompt, (15, 20))
    assert (small[:, 8] == 3).all() and (small[5:10, :6] == 7).all()
    assert set(np.unique(small)) == {-1, 3, 7} and (small[:, 10:] == -1).all()
    np.testing.assert_array_equal(shrink_prompt(small, (90, 120)), nearest(small, (90, 120)))
    assert shrink_prompt(prompt, (90, 120)) is prompt


def test_sixteen_bit_grey_keeps_its_bits(rng):
    values = rng.integers(0, 65536, (9, 11), dtype=np.uint16)
    read = load_photo(encoded(Image.fromarray(values), "PNG"))
    assert read.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(read.image()), values)
    assert np.abs(read.rgb[..., 0] - values / 257).max() <= 0.5  # not clipped to 0 and 255
    np.testing.assert_array_equal(load_photo(values).pixels, values)


def test_sixteen_bit_colours_are_read_as_eight_and_said_so():
    # Pillow cannot write 16-bit RGB: one black pixel by hand.
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    source = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    source += chunk(b"IDAT", zlib.compress(bytes(7))) + chunk(b"IEND", b"")
    assert "16 bits" in load_photo(source).warnings[0]


def test_a_cmyk_profile_is_applied_and_not_kept(pixels):
    # No CMYK profile ships with Pillow; an RGB profile on CMYK pixels is damaged in the way that matters here.
    source = encoded(Image.fromarray(pixels).convert("CMYK"), "TIFF", icc_profile=rgb_profile())
    read = load_photo(source)
    assert read.mode == "RGB"
    assert "icc_profile" not in read.metadata
    assert any("CMYK" in warning for warning in read.warnings)
    assert any("profile" in warning for warning in read.warnings)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"not an image", "not an image"),
        (encoded(Image.new("RGB", (64, 64), "red"), "PNG")[:-40], "damaged"),
        (encoded(Image.new("RGB", (200, 200), "red"), "JPEG")[:400], "damaged|not an image"),
        (
            encoded(Image.new("RGB", (8, 8)), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), "red")]),
            "frames",
        ),
        (Image.new("F", (8, 8)), "32 bits"),
        (Image.new("I", (8, 8)), "32 bits"),
        (np.full((8, 8, 3), 2.0), r"\[0, 1\]"),
        (np.full((8, 8, 3), np.nan), r"\[0, 1\]"),
        (np.zeros((8, 8, 3), np.int64), "uint8"),
        (np.zeros((8, 8, 3), bool), "uint8"),
        (np.zeros((8, 8, 5), np.uint8), "shape"),
        (np.zeros((0, 8, 3), np.uint8), "shape"),
        (torch.zeros(2, 3, 8, 8), "shape"),
        ("https://example.org/photo.jpg", "download"),
        (7, "int"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_read_is_refused_with_a_reason(source, message):
    with pytest.raises(PhotoError, match=message):
        load_photo(source)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        load_photo(tmp_path / "nowhere.jpg")


def test_a_decompression_bomb_is_refused(monkeypatch, pixels):
    source = encoded(Image.fromarray(pixels), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses above twice as many; the photo has 204
    with pytest.raises(PhotoError, match="too large"):
        load_photo(source)


def test_damaged_exif_does_not_lose_the_photo(pixels):
    read = load_photo(encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\x00\x00broken"))
    np.testing.assert_array_equal(read.pixels, pixels)
    assert any("EXIF" in warning for warning in read.warnings)
    assert "exif" not in read.metadata


# Reading masks and labels


def test_every_kind_of_mask_reads_white_as_hole(rng):
    hole = rng.random((12, 17)) < 0.4
    grey = hole.astype(np.uint8) * 255
    sources = {
        "bool": hole,
        "0 and 255": grey,
        "0 and 1": hole.astype(np.uint8),
        "integers": hole.astype(np.int64),
        "float": hole.astype(np.float64),
        "torch": torch.from_numpy(hole),
        "torch with a channel": torch.from_numpy(hole)[None].float(),
        "L": Image.fromarray(grey),
        "bit": Image.fromarray(hole),
        "RGB": Image.fromarray(grey).convert("RGB"),
        "palette": Image.fromarray(grey).convert("RGB").quantize(2),
        "transparent where known": Image.merge("LA", [Image.new("L", (17, 12), 255), Image.fromarray(grey)]),
        "16 bits": Image.fromarray(hole.astype(np.uint16) * 65535),
        "file": encoded(Image.fromarray(grey), "PNG"),
        "file of 0 and 1": encoded(Image.fromarray(hole.astype(np.uint8)), "PNG"),
    }
    for name, source in sources.items():
        np.testing.assert_array_equal(load_mask(source), hole, err_msg=name)
        np.testing.assert_array_equal(load_mask(source, invert=True), ~hole, err_msg=name)


def test_dark_noise_is_no_hole():
    assert not load_mask(encoded(Image.new("L", (8, 8), 1), "JPEG")).any()
    assert not load_mask(np.full((8, 8), 0.003)).any()
    assert not load_mask(np.full((8, 8), 100, np.uint8)).any()
    assert load_mask(np.full((8, 8), 100, np.uint8), threshold=0.3).all()


def test_a_mask_of_another_size_is_an_error_unless_resizing_is_asked_for(photo, mask, processor):
    small = mask.resize((48, 40), Image.Resampling.NEAREST)
    with pytest.raises(PhotoError, match=r"48x40.*96x80.*resize_mask"):
        processor(photo, small)
    resized = processor(photo, small, resize_mask=True)["mask"]
    assert np.asarray(resized).shape == (1, 1, 80, 96)
    thin = np.zeros((800, 960), bool)
    thin[401] = True  # nearest would lose a stroke of one pixel
    assert fit_mask(thin, load_photo(photo), resize=True)[40].all()


def test_a_mask_drawn_before_rotation_gets_a_hint(photo, mask):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    with pytest.raises(PhotoError, match="EXIF orientation"):
        fit_mask(load_mask(mask), load_photo(encoded(photo, "JPEG", exif=exif)))


def test_labels_are_ids_and_255_is_free(rng):
    ids = rng.integers(0, 4, (12, 17)).astype(np.uint8)
    ids[0] = 255
    palette = Image.fromarray(ids)
    palette.putpalette(rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
    expected = np.where(ids == 255, -1, ids.astype(np.int64))
    for source in (Image.fromarray(ids), palette, encoded(palette, "PNG"), ids, expected):
        np.testing.assert_array_equal(load_labels(source, num_labels=4), expected)
    with pytest.raises(PhotoError, match=r"class 3.*0 to 2"):
        load_labels(ids, num_labels=3)
    with pytest.raises(PhotoError, match="class ids"):
        load_labels(Image.new("RGB", (4, 4)), num_labels=3)


# The processor


def test_tensors_of_one_photo(processor, pixels):
    hole = np.zeros((12, 17), bool)
    hole[3:5, 4:9] = True
    inputs = processor(pixels, hole, return_tensors="pt")
    assert set(inputs) == {"pixel_values", "mask"}
    expected = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(inputs["pixel_values"], expected)
    assert inputs["mask"].dtype == torch.float32
    np.testing.assert_array_equal(inputs["mask"][0, 0].numpy() == 1, hole)


def test_ragged_photos_are_padded_and_a_pixel_mask_says_where(processor, pixels):
    other = pixels[:5, :9]
    inputs = processor(
        [pixels, other], [np.zeros((12, 17), bool), np.ones((5, 9), bool)], return_tensors="pt", max_hole_ratio=1
    )
    assert inputs["pixel_values"].shape == (2, 3, 12, 17)
    assert inputs["pixel_mask"].sum(dim=(1, 2)).tolist() == [12 * 17, 5 * 9]
    assert inputs["mask"][1].sum() == 5 * 9
    assert not inputs["pixel_values"][1, :, 5:].any()


def test_stacked_arrays_are_a_batch(processor, rng):
    photos = rng.random((2, 3, 6, 7), dtype=np.float32)
    for masks in (np.zeros((2, 6, 7), bool), np.zeros((2, 1, 6, 7), bool), torch.zeros(2, 1, 6, 7)):
        inputs = processor(torch.from_numpy(photos), masks, return_tensors="pt")
        assert inputs["mask"].shape == (2, 1, 6, 7)


def test_polarity_threshold_and_the_warning(processor, photo, mask):
    hole = np.asarray(mask) == 255
    inverted = Image.fromarray(np.where(hole, 0, 255).astype(np.uint8))
    np.testing.assert_array_equal(np.asarray(processor(photo, inverted, invert_mask=True)["mask"])[0, 0] == 1, hole)
    always = SGENetImageProcessor(invert_mask=True)
    np.testing.assert_array_equal(np.asarray(always(photo, inverted)["mask"])[0, 0] == 1, hole)
    with pytest.warns(UserWarning, match=r"99% of the photo is hole.*invert_mask"):
        almost = np.ones(hole.shape, bool)
        almost[0] = False
        processor(photo, almost)


def test_mistakes_are_refused(processor, photo, mask):
    with pytest.raises(PhotoError, match="2 photos but 1 masks"):
        processor([photo, photo], [mask])
    with pytest.raises(TypeError, match="do_resize"):
        processor(photo, mask, do_resize=True)
    with pytest.raises(PhotoError, match="at least one"):
        processor([], [])


def test_post_processing_keeps_known_pixels_bit_for_bit(processor, tiny_model, photo, mask):
    hole = np.asarray(mask) == 255
    for source in (photo, photo.convert("L"), photo.convert("RGBA")):
        inputs = processor(
            [source, source.crop((0, 0, 70, 60))], [mask, mask.crop((0, 0, 70, 60))], return_tensors="pt"
        )
        with torch.no_grad():
            outputs = tiny_model(**inputs)
        images = [source, source.crop((0, 0, 70, 60))]
        filled = processor.post_process_inpainting(outputs, images, [mask, mask.crop((0, 0, 70, 60))])
        for before, after, where in zip(images, filled, (hole, hole[:60, :70]), strict=True):
            assert (after.mode, after.size) == (before.mode, before.size)
            np.testing.assert_array_equal(np.asarray(after)[~where], np.asarray(before)[~where])
            assert (np.asarray(after)[where] != np.asarray(before)[where]).any()
    with pytest.raises(PhotoError, match="pass the photos that went in"):
        processor.post_process_inpainting(outputs, [photo.resize((200, 200))] * 2, [mask.resize((200, 200))] * 2)


def test_post_processing_of_segmentations_is_enlargement_then_argmax(processor):
    logits = torch.randn(2, 4, 6, 7)
    outputs = SGENetOutput(composite=torch.zeros(2, 3, 6, 7), logits=(logits,))
    small = processor.post_process_semantic_segmentation(outputs)
    torch.testing.assert_close(torch.stack(small), logits.argmax(dim=1))
    large = processor.post_process_semantic_segmentation(outputs, [(13, 9), (6, 7)])
    enlarged = torch.nn.functional.interpolate(logits[:1], (13, 9), mode="bilinear", align_corners=False)
    torch.testing.assert_close(large[0], enlarged[0].argmax(dim=0))
    torch.testing.assert_close(large[1], small[1])
    with pytest.raises(ValueError, match="1 target sizes for 2"):
        processor.post_process_semantic_segmentation(outputs, [(6, 7)])


def test_the_processor_survives_saving(tmp_path, photo, mask):
    SGENetImageProcessor(invert_mask=True, image_mean=[0.4, 0.5, 0.6]).save_pretrained(tmp_path)
    for loaded in (SGENetImageProcessor.from_pretrained(tmp_path), AutoImageProcessor.from_pretrained(tmp_path)):
        assert isinstance(loaded, SGENetImageProcessor)
        assert loaded.invert_mask
        assert tuple(loaded.image_mean) == (0.4, 0.5, 0.6)
        values = np.asarray(loaded(photo, mask)["pixel_values"])[0]
        np.testing.assert_allclose(loaded.to_pixels(torch.from_numpy(values)), np.asarray(photo), atol=1e-3)


# Shrinking


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (12, 17), (7, 17)])
def test_shrinking_does_not_leak_what_the_mask_covers(rng, pixels, size):
    hole = np.zeros((12, 17), bool)
    hole[2:9, 3:11] = True
    image, mask = shrink_without_leak(pixels, hole, size)
    other = pixels.copy()
    other[hole] = rng.integers(0, 256, (hole.sum(), 3))
    other_image, other_mask = shrink_without_leak(other, hole, size)
    np.testing.assert_array_equal(image, other_image)
    np.testing.assert_array_equal(mask, other_mask)
    assert mask.any()
    # A cell that no hole pixel touches is an ordinary area mean.
    plain, _ = shrink_without_leak(pixels, np.zeros_like(hole), size)
    np.testing.assert_allclose(image[~mask], plain[~mask], atol=1)  # halves may round either way


def test_shrinking_is_the_mean_over_the_known_area():
    image = np.arange(16, dtype=np.float32).reshape(4, 4, 1)
    hole = np.zeros((4, 4), bool)
    hole[0, 0] = hole[2:, 2:] = True
    small, mask = shrink_without_leak(image, hole, (2, 2))
    np.testing.assert_allclose(small[..., 0], [[(1 + 4 + 5) / 3, (2 + 3 + 6 + 7) / 4], [(8 + 9 + 12 + 13) / 4, 0]])
    np.testing.assert_array_equal(mask, [[True, False], [False, True]])
    thirds, _ = shrink_without_leak(np.array([[[0.0], [1.0], [2.0]]]), np.zeros((1, 3), bool), (1, 2))
    np.testing.assert_allclose(thirds[0, :, 0], [0.5 / 1.5, 2.5 / 1.5])  # the middle pixel counts half in each
    with pytest.raises(ValueError, match="shrinking only"):
        shrink_without_leak(image, hole, (5, 4))


def test_nearest_keeps_centres():
    np.testing.assert_array_equal(nearest(np.arange(6), (3,)), [1, 3, 5])
    np.testing.assert_array_equal(nearest(np.arange(3), (6,)), [0, 0, 1, 1, 2, 2])


# Writing


def test_jpeg_keeps_quality_profile_and_exif(tmp_path, photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "a camera"
    source = tmp_path / "photo.jpg"
    photo.save(
        source, quality=71, subsampling=1, exif=exif, icc_profile=rgb_profile(), dpi=(300, 300), progressive=True
    )
    read = load_photo(source)
    out = save_photo(read, read.image(), tmp_path / "out.jpg")
    before, after = Image.open(source), Image.open(out)
    assert after.quantization == before.quantization
    assert get_sampling(after) == get_sampling(before) == 1
    assert after.info["icc_profile"] == before.info["icc_profile"]
    assert after.getexif()[0x010F] == "a camera"
    assert after.getexif().get(ORIENTATION, 1) == 1
    assert after.size == before.size[::-1]
    assert after.info["dpi"] == (300, 300)
    assert "progressive" in after.info


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
def test_lossless_formats_keep_every_pixel(tmp_path, photo, suffix):
    read = load_photo(encoded(photo, "PNG", icc_profile=rgb_profile()))
    out = save_photo(read, read.image(), tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(photo))
    if suffix != ".bmp":
        assert Image.open(out).info["icc_profile"] == rgb_profile()


def test_grey_and_cmyk_jpegs_can_be_written_as_jpegs(tmp_path, photo):
    for mode in ("L", "CMYK"):
        read = load_photo(encoded(photo.convert(mode), "JPEG", quality=60))
        out = save_photo(read, read.image(), tmp_path / f"{mode}.jpg")
        assert Image.open(out).mode == read.mode


def test_tiff_keeps_what_describes_the_photo(tmp_path, photo):
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[ORIENTATION] = 8
    read = load_photo(encoded(photo, "TIFF", exif=exif, compression="tiff_lzw"))
    assert (read.width, read.height) == photo.size[::-1]
    out = save_photo(read, read.image(), tmp_path / "out.tif")
    tags = Image.open(out).getexif()
    assert tags[0x010F] == "a camera"
    assert tags.get(ORIENTATION, 1) == 1


def test_impossible_formats_are_refused_and_nothing_is_left(tmp_path, photo):
    read = load_photo(photo.convert("RGBA"))
    for name in ("out.jpg", "out.gif", "out"):
        with pytest.raises(PhotoError, match="Cannot write"):
            save_photo(read, read.image(), tmp_path / name)
    grey = load_photo(photo.convert("LA"))
    with pytest.raises(PhotoError, match="png"):
        save_photo(grey, grey.image(), tmp_path / "out.bmp")
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with whole_file(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="half way"), whole_file(target) as temporary:
        temporary.write_text("second")
        raise RuntimeError("half way")
    assert target.read_text() == "first"
    assert list(target.parent.iterdir()) == [target]


def test_png_text_chunks_do_not_disturb(pixels):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "made by hand")
    np.testing.assert_array_equal(load_photo(encoded(Image.fromarray(pixels), "PNG", pnginfo=notes)).pixels, pixels)
