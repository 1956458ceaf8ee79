"""Render a package's files as square RGBA pictures."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.errors import MissingDependency
from pochade.training.corpus.concepts import Concept
from pochade.training.corpus.samples import Unusable

Picture = NDArray[np.uint8]  # (size, size, 4), straight alpha
Draw = Callable[[int], Picture]


class PackagedPicture(NamedTuple):
    """A picture in an unpacked package: its name, its concept, and a function that draws it.

    `draw(size)` may raise Unusable.
    """

    name: str
    concept: Concept
    draw: Draw


def iconify_svg(icons: dict[str, Any], name: str) -> str:
    """Return an SVG document for an icon of an IconifyJSON set (https://iconify.design/docs/types/)."""
    icon = icons["icons"].get(name)
    if icon is None:
        alias = icons.get("aliases", {}).get(name, {})
        if {"rotate", "hFlip", "vFlip"} & alias.keys() or alias.get("parent") not in icons["icons"]:
            raise Unusable("an icon that is not a plain picture or alias", name)
        icon = icons["icons"][alias["parent"]]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{width}" height="{height}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def from_file(path: Path, size: int) -> Picture:
    """Read a picture file; see `from_bytes`."""
    return from_bytes(path.read_bytes(), size)


def from_icon(icons: dict[str, Any], name: str, size: int) -> Picture:
    """Render an icon of an IconifyJSON set; see `from_svg`."""
    return from_svg(iconify_svg(icons, name), size)


def from_svg_file(path: Path, size: int) -> Picture:
    """Render any SVG file, cropped to the drawing: (size, size, 4)."""
    svg = in_pixels(path.read_text("utf-8", "replace"))
    page = _decoded(_svg_png(svg, 2 * size))
    left, top, right, bottom = page.getchannel("A").getbbox() or (0, 0, 1, 1)
    share = max(right - left, bottom - top) / max(page.size)
    side = min(round(2 * size / share), MAX_PAGE)
    if side > 3 * size:  # a small drawing on a large page: render again at higher resolution
        page = _decoded(_svg_png(svg, side))
    box = page.getchannel("A").getbbox()
    return fitted(page.crop(box), size)


MAX_PAGE = 2048
"""Maximum resolution of a page that is rendered to find a small drawing, px on the longer side."""

PIXELS = {"": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4}
ROOT = re.compile(r"<(?:svg:)?svg\b[^>]*>", re.DOTALL)
LENGTH = re.compile(r"(?<=\s)(width|height)\s*=\s*([\"'])\s*([\d.eE+-]+)\s*([a-z]*)\s*\2")


def in_pixels(svg: str) -> str:
    """Return the document with the root's size in pixels and a viewBox, which the renderer needs.

    CSS 2.1, section 4.3.2: an inch is 96 px and 72 pt. Without a viewBox, the coordinates are pixels.
    """
    root = ROOT.search(svg)
    if root is None:
        return svg
    sides: dict[str, float] = {}

    def convert(length: re.Match[str]) -> str:
        try:
            sides[length[1]] = float(length[3]) * PIXELS[length[4]]
        except (ValueError, KeyError):
            return length[0]
        return f'{length[1]}="{sides[length[1]]:g}"'

    tag = LENGTH.sub(convert, root[0])
    if "viewBox" not in tag and len(sides) == 2:
        end = -2 if tag.endswith("/>") else -1
        tag = f'{tag[:end]} viewBox="0 0 {sides["width"]:g} {sides["height"]:g}"{tag[end:]}'
    return svg[: root.start()] + tag + svg[root.end() :]


def from_tile(path: Path, side: int, size: int) -> Picture:
    """Read pixel art of `side` px and enlarge it by nearest neighbour: (size, size, 4)."""
    try:
        with Image.open(path) as image:
            if image.size != (side, side):
                raise Unusable("a tile of another size", f"{image.width} x {image.height} px")
            scale = max(1, size // side)
            large = image.convert("RGBA").resize((side * scale, side * scale), Image.Resampling.NEAREST)
            return fitted(large, size)
    except Unusable:
        raise
    except (OSError, ValueError, SyntaxError) as broken:
        raise Unusable("a damaged picture", str(broken)) from broken


def from_svg(svg: str, size: int) -> Picture:
    """Render at twice the size, then downsample: (size, size, 4)."""
    return fitted(_decoded(_svg_png(svg, 2 * size)), size)


def from_bytes(content: bytes, size: int) -> Picture:
    """Decode a PNG, WebP, ... and fit it into the middle of a transparent square: (size, size, 4)."""
    return fitted(_decoded(content), size)


def fitted(image: Image.Image, size: int) -> Picture:
    """Resample (Lanczos) with premultiplied alpha, so that no colour bleeds out of transparent pixels."""
    scale = size / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    premultiplied = image.convert("RGBA").convert("RGBa")
    small = premultiplied.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    picture = np.zeros((size, size, 4), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    picture[top : top + height, left : left + width] = np.asarray(small)
    if not (picture[..., 3] >= 128).any():
        raise Unusable("an empty picture", "no opaque pixel")
    return picture


def _svg_png(svg: str, side: int) -> bytes:
    """Render an SVG as a PNG with `side` px on the longer side."""
    try:
        import resvg_py
    except ImportError as absent:
        raise MissingDependency(
            "rendering SVG needs the package resvg_py: pip install 'pochade[train]'"
        ) from absent
    try:
        return bytes(resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side))
    except (ValueError, RuntimeError) as broken:
        raise Unusable("an SVG that cannot be drawn", str(broken)) from broken


def _decoded(content: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as broken:
        raise Unusable("a damaged picture", str(broken)) from broken
