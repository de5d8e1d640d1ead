"""Result files: named after what they hold, and whole or not there (written under another name, then moved)."""

import re
from pathlib import Path

from PIL import Image

from sgenet_hf.photos import whole_file


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, UTF-8."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a PNG file, whatever the ending of its name."""
    with whole_file(path) as unfinished:
        picture.save(unfinished, format="PNG")


def slug(text: str) -> str:
    """A file name made of `text`."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", text).strip("_")
