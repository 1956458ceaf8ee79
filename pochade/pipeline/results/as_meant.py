"""Values of a parameters text as their writers mean them, in the one form that is read here.

Programs write whole numbers as "20.0", decimals as "7,5", sizes as "512 x 640", -1 for a seed that is drawn,
0 for a clip skip that is none. The first versions of A1111's web UI wrote the size of the first pass of two
as "First pass size", and that of the second as "Size".
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
OLD_PIXELS = 512 * 512
"""Of a first pass whose size is given as 0x0."""


def as_meant(values: Mapping[str, str]) -> dict[str, str]:
    """The values; what cannot be understood stays as it is, for whoever reads it to refuse by name."""
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
    if found.get("Seed resize from") in ("-1x-1", "0x0"):  # none; A1111's API wrote its defaults
        del found["Seed resize from"]
    return _with_first_pass(_with_both_sides(found))


def _with_both_sides(found: dict[str, str]) -> dict[str, str]:
    """A1111 takes a side of 0 in "Hires resize" from the other one, by the ratio of the first pass."""
    large, small = (
        re.fullmatch(r"([0-9]+)x([0-9]+)", found.get(name, "")) for name in ("Hires resize", "Size")
    )
    if large is None or small is None or "0" not in large.groups():
        return found
    (width, height), (across, down) = ([int(side) for side in each.groups()] for each in (large, small))
    if not across or not down:
        return found
    if width == height:  # both 0: by the scale alone
        return {name: value for name, value in found.items() if name != "Hires resize"}
    size = (width, width * down // across) if width else (height * across // down, height)
    return {**found, "Hires resize": f"{size[0]}x{size[1]}"}


def _with_first_pass(found: dict[str, str]) -> dict[str, str]:
    """The size of before is that of the second pass; the first pass has its own."""
    first, size = found.get(FIRST_PASS), found.get("Size", "")
    sides = re.fullmatch(r"([0-9]+)x([0-9]+)", size)
    if first is None or sides is None or "Hires upscale" in found or "Hires resize" in found:
        return found
    width, height = int(sides[1]), int(sides[2])
    if first == "0x0" and width and height:
        scale = math.sqrt(OLD_PIXELS / (width * height))
        first = "x".join(str(math.ceil(scale * side / 64) * 64) for side in (width, height))
    return {**found, "Size": first, "Hires resize": size}
