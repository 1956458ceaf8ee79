"""From a package's files to square RGBA pictures."""

import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.errors import MissingDependency
from pochade.training.corpus.concepts import plain_code
from pochade.training.corpus.sources import Source

Picture = NDArray[np.uint8]  # (size, size, 4), straight alpha
Draw = Callable[[int], Picture]


class BrokenPicture(ValueError):
    """A picture cannot be decoded or shows nothing; it is skipped and listed."""


def read_source(source: Source, folder: Path) -> Iterator[tuple[str, Draw]]:
    """(code, draw) for every picture of an unpacked package; `draw(size)` may raise BrokenPicture."""
    return _files(folder / "assets") if source.kind == "files" else _iconify(folder)


def _files(folder: Path) -> Iterator[tuple[str, Draw]]:
    for path in sorted(folder.iterdir()):
        yield plain_code(path.stem), partial(from_file, path)


def _iconify(folder: Path) -> Iterator[tuple[str, Draw]]:
    icons = json.loads(Path(folder, "icons.json").read_text("utf-8"))
    chars = json.loads(Path(folder, "chars.json").read_text("utf-8"))
    for code, name in sorted(chars.items()):
        yield plain_code(code), partial(from_icon, icons, name)


def iconify_svg(icons: dict[str, Any], name: str) -> str:
    """A whole SVG document for one icon of an IconifyJSON set (https://iconify.design/docs/types/)."""
    icon = icons["icons"].get(name)
    if icon is None:
        alias = icons.get("aliases", {}).get(name, {})
        if {"rotate", "hFlip", "vFlip"} & alias.keys() or alias.get("parent") not in icons["icons"]:
            raise BrokenPicture(f"icon '{name}' is no plain picture or alias")
        icon = icons["icons"][alias["parent"]]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def from_file(path: Path, size: int) -> Picture:
    """A picture file, see `from_bytes`."""
    return from_bytes(path.read_bytes(), size)


def from_icon(icons: dict[str, Any], name: str, size: int) -> Picture:
    """One icon of an IconifyJSON set, see `from_svg`."""
    return from_svg(iconify_svg(icons, name), size)


def from_svg(svg: str, size: int) -> Picture:
    """Rendered at twice the size, then reduced: (size, size, 4)."""
    try:
        import resvg_py
    except ImportError as absent:
        raise MissingDependency(
            "drawing SVG pictures needs the package resvg_py; pip install 'pochade[train]' brings it"
        ) from absent
    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=2 * size, height=2 * size))
    except (ValueError, RuntimeError) as broken:
        raise BrokenPicture(f"SVG: {broken}") from broken
    return from_bytes(png, size)


def from_bytes(content: bytes, size: int) -> Picture:
    """Decode a PNG, WebP, ... and fit it into the middle of a transparent square: (size, size, 4)."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return fitted(image, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as broken:
        raise BrokenPicture(str(broken)) from broken


def fitted(image: Image.Image, size: int) -> Picture:
    """Lanczos-resampled with premultiplied alpha, so that no colour bleeds out of transparent pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    premultiplied = image.convert("RGBA").convert("RGBa")
    small = premultiplied.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    picture = np.zeros((size, size, 4), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    picture[top : top + height, left : left + width] = np.asarray(small)
    if not (picture[..., 3] >= 128).any():
        raise BrokenPicture("it shows nothing: no opaque pixel")
    return picture
