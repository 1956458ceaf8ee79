"""The options of `pochade draw` that begin with more than a prompt: pictures, masks, second passes."""

import argparse
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pochade.errors import InvalidRequest
from pochade.request import Request, find_rng
from pochade.speed import SPEEDS
from pochade.ways import FILLS, RESIZE_MODES, Hires, Refiner, Source, Variation

OVER = ("strength", "mask", "mask_blur", "fill", "only_masked", "padding", "resize", "outpaint")
"""Options that say something about --init."""

MASKED = ("mask_blur", "fill", "only_masked", "padding")
"""Those that say something about --mask, or about what --outpaint adds."""

MAX_MARGIN = 4096
"""Of --outpaint, px."""

AGAIN = {
    "hires_steps": "steps",
    "hires_strength": "denoising_strength",
    "hires_upscaler": "upscaler",
    "hires_prompt": "prompt",
    "hires_negative": "negative_prompt",
    "hires_sampler": "sampler",
    "hires_schedule": "schedule",
    "hires_cfg": "cfg_scale",
    "hires_model": "model",
}
"""Options that say something about --hires, and the fields of `Hires` that they set."""


def add_way_options(parser: argparse.ArgumentParser) -> None:
    """Groups of options; what is not given changes nothing."""
    over = parser.add_argument_group("drawing over a picture")
    over.add_argument("--init", type=Path, metavar="FILE", help="the picture to draw over")
    over.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="how much may change, 0 to 1 (default: 0.75, or 1 to outpaint)",
    )
    over.add_argument(
        "--mask", type=Path, metavar="FILE", help="white (or opaque) where something new is wanted"
    )
    over.add_argument("--mask-blur", type=float, metavar="PX", help="default: 4")
    over.add_argument(
        "--fill",
        choices=FILLS,
        help="what is under the mask at first (default: original)",
    )
    over.add_argument(
        "--only-masked", action="store_true", default=None, help="draw the masked part alone, in full size"
    )
    over.add_argument("--padding", type=int, metavar="PX", help="around it, with --only-masked (default: 32)")
    over.add_argument("--resize", choices=RESIZE_MODES, help="default: crop")
    over.add_argument(
        "--outpaint",
        type=_margins,
        metavar="PX",
        help="make the picture larger by so many pixels: one number, or left,top,right,bottom",
    )
    larger = parser.add_argument_group("a second, larger pass")
    larger.add_argument("--hires", type=float, metavar="SCALE", help="how much larger, for example 2")
    larger.add_argument("--hires-steps", type=int, metavar="N", help="default: as many as the first")
    larger.add_argument("--hires-strength", type=float, metavar="S", help="default: 0.7")
    larger.add_argument(
        "--hires-upscaler",
        metavar="NAME",
        help="Latent (default), Latent (bicubic), Latent (nearest), Lanczos, Bicubic, Bilinear, Nearest, or"
        " an ESRGAN model: a file, or its name in the folders of models",
    )
    larger.add_argument(
        "--hires-prompt",
        metavar="TEXT",
        help="prompt of the second pass (default for this and the options below: as in the first pass)",
    )
    larger.add_argument("--hires-negative", metavar="TEXT", help="its own negative prompt")
    larger.add_argument("--hires-sampler", metavar="NAME", help="its own sampler")
    larger.add_argument("--hires-schedule", metavar="NAME", help="its own schedule")
    larger.add_argument("--hires-cfg", type=float, metavar="SCALE", help="its own guidance scale")
    larger.add_argument("--hires-model", metavar="MODEL", help="another model: a path or a name")
    last = parser.add_argument_group("a second model for the last part")
    last.add_argument(
        "--refiner", metavar="MODEL", help="XL's refiner, or another model of the family: a path or a name"
    )
    last.add_argument(
        "--refiner-switch", type=float, metavar="SHARE", help="of the way, where it takes over (default: 0.8)"
    )
    noise = parser.add_argument_group("noise and edges")
    noise.add_argument(
        "--variation",
        type=_variation,
        metavar="SEED:S",
        help="mix in the noise of a second seed, 0 to 1",
    )
    noise.add_argument(
        "--seed-size",
        type=size_of,
        metavar="WxH",
        help="draw the noise as for a picture of this size: a seed then keeps what it drew at another one",
    )
    parser.add_argument(
        "--speed",
        metavar="NAME",
        help=f"{', '.join(SPEEDS)}: how much may be left out, see docs/guide/speed.md (default: exact)",
    )
    noise.add_argument(
        "--rng",
        metavar="NAME",
        help="random number generator for the noise: NV (as on a CUDA device; GPU, A1111's name, means the"
        " same) or CPU (as torch on the CPU, ComfyUI and diffusers) (default: NV)",
    )
    noise.add_argument("--tiling", action="store_true", help="the picture's edges fit together")


def ways(options: argparse.Namespace, like: Request | None = None) -> dict[str, Any]:
    """The fields of a Request that the options ask for; None where they say nothing.

    like: what they change, where a picture is drawn as another one was. Raises InvalidRequest, naming the
    option, for one that would change nothing, and if they do not fit together.
    """
    if options.init is None:
        _refuse(options, OVER, "a picture: give it as --init")
    return {
        "tiling": options.tiling or None,
        "rng": None if options.rng is None else find_rng(options.rng),
        "variation": _varied(options, None if like is None else like.variation),
        "speed": options.speed,
        "hires": _hires(options, None if like is None else like.hires),
        "refiner": _refiner(options, None if like is None else like.refiner),
        "source": None if options.init is None else _source(options),
    }


def _refuse(options: argparse.Namespace, names: Iterable[str], lacking: str) -> None:
    """Raises InvalidRequest for the first of these options that is given: it needs what is lacking."""
    for name in names:
        if getattr(options, name) is not None:
            raise InvalidRequest(f"--{name.replace('_', '-')} needs {lacking}")


def _hires(options: argparse.Namespace, like: Hires | None) -> Hires | None:
    if options.hires is None and like is None:
        _refuse(options, AGAIN, "a second pass: give its scale as --hires")
        return None
    changes = {"scale": options.hires, **{name: getattr(options, option) for option, name in AGAIN.items()}}
    asked: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if options.hires is not None:
        asked["size"] = None  # which a picture may say in place of a scale
    return replace(Hires() if like is None else like, **asked)


def _refiner(options: argparse.Namespace, like: Refiner | None) -> Refiner | None:
    asked = like if options.refiner is None else Refiner(model=options.refiner)
    if asked is None:
        _refuse(options, ("refiner_switch",), "a model: give it as --refiner")
    elif options.refiner_switch is not None:
        asked = replace(asked, switch=options.refiner_switch)
    return asked


def _source(options: argparse.Namespace) -> Source:
    from pochade.images.fitting import widened
    from pochade.images.opening import on_white, open_picture

    if options.mask is None and options.outpaint is None:
        _refuse(options, MASKED, "a mask: give it as --mask, or margins to draw in as --outpaint")
    if not options.only_masked:
        _refuse(options, ("padding",), "a part that is drawn alone: add --only-masked")
    image = on_white(open_picture(options.init))
    mask = None if options.mask is None else open_picture(options.mask)
    strength = options.strength
    if options.outpaint is not None:
        if mask is not None:
            raise InvalidRequest("--outpaint makes its own mask; draw the --mask in a second call")
        image, mask = widened(image, *options.outpaint)
        strength = 1.0 if strength is None else strength
    about = {
        "denoising_strength": strength,
        "mask_blur": options.mask_blur,
        "fill": options.fill,
        "only_masked": options.only_masked,
        "padding": options.padding,
        "resize_mode": options.resize,
    }
    given: dict[str, Any] = {name: value for name, value in about.items() if value is not None}
    return Source(image=image, mask=mask, **given)


def _margins(text: str) -> tuple[int, int, int, int]:
    """'64' -> (64, 64, 64, 64); '0,0,128,0' -> left, top, right, bottom."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 4) or not all(re.fullmatch(r"[+-]?[0-9]{1,9}", part) for part in parts):
        raise argparse.ArgumentTypeError(
            f"'{text}' does not give margins in pixels; write one number for all sides, such as 64, or"
            " LEFT,TOP,RIGHT,BOTTOM, such as 0,0,128,0"
        )
    left, top, right, bottom = (int(part) for part in (parts * 4)[:4])
    for margin in (left, top, right, bottom):
        if not 0 <= margin <= MAX_MARGIN:
            raise argparse.ArgumentTypeError(
                f"a margin is {margin} px; each must lie between 0 and {MAX_MARGIN} px"
            )
    if not any((left, top, right, bottom)):
        raise argparse.ArgumentTypeError(f"'{text}' adds nothing; at least one margin must be above 0 px")
    return left, top, right, bottom


def size_of(text: str) -> tuple[int, int]:
    """'512x768' -> (512, 768)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write WIDTHxHEIGHT, for example 512x768")
    return int(width), int(height)


def _varied(options: argparse.Namespace, like: Variation | None) -> Variation | None:
    """The second seed and the seed's size that are asked for, each in place of like's own alone."""
    if options.variation is None and options.seed_size is None:
        return None
    before = Variation() if like is None else like
    second = before if options.variation is None else options.variation
    return replace(second, size=options.seed_size or before.size)


def _variation(text: str) -> Variation:
    """'8:0.2' -> the second seed 8, a fifth of it."""
    seed, _, strength = text.partition(":")
    try:
        return Variation(seed=int(seed), strength=float(strength or "0.1"))
    except ValueError as wrong:  # InvalidRequest too
        raise argparse.ArgumentTypeError(f"'{text}' is not SEED:STRENGTH, such as 8:0.2 ({wrong})") from wrong
