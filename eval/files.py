"""Result files are whole or not there: written under another name, then moved."""

import os
from pathlib import Path

from PIL import Image


def write_whole(path: Path, text: str) -> None:
    """Writes a text file, UTF-8."""
    unfinished = path.with_name(path.name + ".partial")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a PNG file, whatever the ending of its name."""
    unfinished = path.with_name(path.name + ".partial")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)
