"""Normalises the values of a parameters text.

Programs write integers as "20.0", decimals as "7,5", sizes as "512 x 640", a random seed as -1, and no clip
skip as 0. The first versions of A1111's web UI wrote the size of the first of two passes as "First pass size"
and that of the second as "Size".
"""

import math
import re
from collections.abc import Mapping

WHOLE = ("Steps", "Seed", "Clip skip", "Hires steps", "Variation seed", "ENSD")
DECIMAL = (
    "CFG scale", "CFG Rescale", "Denoising strength", "Eta", "Eta DDIM", "Hires upscale", "Hires CFG Scale",
    "Variation seed strength", "Refiner switch at", "Blend share",
)  # fmt: skip
SIZES = ("Size", "Hires resize", "Seed resize from", "First pass size")
FIRST_PASS = "First pass size"
SIDES = re.compile(r"([0-9]+)x([0-9]+)")
OLD_PIXELS = 512 * 512
"""The size of a first pass that is given as 0x0."""


def normalized_values(values: Mapping[str, str]) -> dict[str, str]:
    """Return the normalised values. Invalid values stay as they are, so that their reader can report them."""
    found = {name: value.strip() for name, value in values.items()}
    for name in WHOLE:
        whole = re.fullmatch(r"([+-]?[0-9]+)(?:[.,]0*)?", found.get(name, ""))
        if whole is not None:
            found[name] = whole[1]
    for name in DECIMAL:
        if re.fullmatch(r"[+-]?[0-9]+,[0-9]+", found.get(name, "")):
            found[name] = found[name].replace(",", ".")
    for name in SIZES:
        size = re.fullmatch(r"([0-9]{1,6})(?:\.0*)?\s*[xX×*]\s*([0-9]{1,6})(?:\.0*)?", found.get(name, ""))
        if size is not None:
            found[name] = f"{int(size[1])}x{int(size[2])}"
    if found.get("Seed") == "-1":  # any
        del found["Seed"]
    if found.get("Clip skip") == "0":  # none
        del found["Clip skip"]
    return _with_whole_sizes(_with_first_pass(found))


def _with_whole_sizes(found: dict[str, str]) -> dict[str, str]:
    """Compute a side of 0 in the size of a second pass from the other side and the first pass' aspect ratio,
    as in A1111; drop a seed size that is not positive."""
    size, second = (SIDES.fullmatch(found.get(name, "")) for name in ("Size", "Hires resize"))
    if size is not None and second is not None:
        own, sides = [int(side) for side in size.groups()], [int(side) for side in second.groups()]
        if not any(sides):  # by the scale alone
            found = {name: value for name, value in found.items() if name != "Hires resize"}
        elif all(own) and not all(sides):
            width = sides[0] or sides[1] * own[0] // own[1]
            height = sides[1] or sides[0] * own[1] // own[0]
            found = {**found, "Hires resize": f"{width}x{height}"}
    seed = re.fullmatch(r"(-?[0-9]+)x(-?[0-9]+)", found.get("Seed resize from", ""))
    none = seed is not None and min(int(side) for side in seed.groups()) <= 0
    return {name: value for name, value in found.items() if not (none and name == "Seed resize from")}


def _with_first_pass(found: dict[str, str]) -> dict[str, str]:
    """Convert the old form, in which "Size" is that of the second pass."""
    first, size = found.get(FIRST_PASS), found.get("Size", "")
    sides = re.fullmatch(r"([0-9]+)x([0-9]+)", size)
    if first is None or sides is None or "Hires upscale" in found or "Hires resize" in found:
        return found
    width, height = int(sides[1]), int(sides[2])
    if first == "0x0" and width and height:
        scale = math.sqrt(OLD_PIXELS / (width * height))
        first = "x".join(str(math.ceil(scale * side / 64) * 64) for side in (width, height))
    return {**found, "Size": first, "Hires resize": size}
