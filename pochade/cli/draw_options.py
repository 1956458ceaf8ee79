"""The options of `pochade draw` for img2img, second passes, ControlNets and marks."""

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.errors import InvalidRequest
from pochade.request import Request, find_rng
from pochade.request_options import FILLS, RESIZE_MODES, Control, Hires, Refiner, Source, Variation
from pochade.speed import SPEEDS

if TYPE_CHECKING:
    from pochade.images.files import Sign

NEED_INIT = ("strength", "mask", "mask_blur", "fill", "only_masked", "padding", "resize", "outpaint")
"""Options that need --init."""

NEED_MASK = ("mask_blur", "fill", "only_masked", "padding")
"""Options that need --mask or --outpaint."""

MAX_MARGIN = 4096
"""Largest margin of --outpaint, px."""

NEED_HIRES = {
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
"""Options that need --hires, and the fields of `Hires` that they set."""

REPEATED = {
    "control_model": ("--control-model", None),
    "preprocessor": ("--preprocessor", "none"),
    "control_strength": ("--control-strength", 1.0),
    "control_start": ("--control-start", 0.0),
    "control_end": ("--control-end", 1.0),
}
"""Options of each --control, with their defaults."""


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Add the option groups; options that are not given change nothing."""
    over = parser.add_argument_group("img2img and inpainting")
    over.add_argument("--init", type=Path, metavar="FILE", help="the picture to start from")
    over.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="denoising strength, how much may change, 0 to 1 (default: 0.75, or 1 to outpaint)",
    )
    over.add_argument("--mask", type=Path, metavar="FILE", help="white (or opaque) in the area to redraw")
    over.add_argument("--mask-blur", type=float, metavar="PX", help="blur of the mask's edge (default: 4)")
    over.add_argument(
        "--fill",
        choices=FILLS,
        help="initial content of the masked area (default: original)",
    )
    over.add_argument(
        "--only-masked", action="store_true", default=None, help="draw only the masked area, at full size"
    )
    over.add_argument(
        "--padding", type=int, metavar="PX", help="margin around the area, with --only-masked (default: 32)"
    )
    over.add_argument(
        "--resize", choices=RESIZE_MODES, help="how the picture is fitted to the size (default: crop)"
    )
    over.add_argument(
        "--outpaint",
        type=_margins,
        metavar="PX",
        help="extend the picture by this many pixels: one number, or left,top,right,bottom",
    )
    larger = parser.add_argument_group("second pass (hires. fix)")
    larger.add_argument(
        "--hires", type=float, metavar="SCALE", help="scale of the second pass, for example 2"
    )
    larger.add_argument(
        "--hires-steps",
        type=int,
        metavar="N",
        help="steps of the second pass (default: as many as in the first)",
    )
    larger.add_argument(
        "--hires-strength",
        type=float,
        metavar="S",
        help="denoising strength of the second pass (default: 0.7)",
    )
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
    larger.add_argument("--hires-negative", metavar="TEXT", help="negative prompt of the second pass")
    larger.add_argument("--hires-sampler", metavar="NAME", help="sampler of the second pass")
    larger.add_argument("--hires-schedule", metavar="NAME", help="schedule of the second pass")
    larger.add_argument("--hires-cfg", type=float, metavar="SCALE", help="guidance scale of the second pass")
    larger.add_argument("--hires-model", metavar="MODEL", help="model of the second pass: a path or a name")
    last = parser.add_argument_group("refiner")
    last.add_argument(
        "--refiner",
        metavar="MODEL",
        help="SDXL's refiner, or another model of the same family: a path or a name",
    )
    last.add_argument(
        "--refiner-switch",
        type=float,
        metavar="SHARE",
        help="fraction of the steps after which it takes over (default: 0.8)",
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
        help=(
            "generate the noise for a picture of this size, so that a seed keeps its composition at"
            " another size"
        ),
    )
    parser.add_argument(
        "--speed",
        metavar="NAME",
        help=(
            f"{', '.join(SPEEDS)}: how much computation may be skipped, see docs/guide/speed.md (default:"
            " exact)"
        ),
    )
    noise.add_argument(
        "--rng",
        metavar="NAME",
        help="random number generator for the noise: NV (as on a CUDA device; GPU, A1111's name, means the"
        " same) or CPU (as torch on the CPU, ComfyUI and diffusers) (default: NV)",
    )
    noise.add_argument("--tiling", action="store_true", help="draw a texture: opposite edges match")


def generation_options(options: argparse.Namespace, like: Request | None = None) -> dict[str, Any]:
    """Return the fields of a Request that the options set; None for options that were not given.

    like: the request of a --like picture, which the options change. Raises InvalidRequest, naming the option,
    for options that would have no effect or contradict each other.
    """
    if options.init is None:
        _refuse(options, NEED_INIT, "a picture: give it as --init")
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
    """Raise InvalidRequest for the first of these options that is given: it needs `lacking`."""
    for name in names:
        if getattr(options, name) is not None:
            raise InvalidRequest(f"--{name.replace('_', '-')} needs {lacking}")


def _hires(options: argparse.Namespace, like: Hires | None) -> Hires | None:
    if options.hires is None and like is None:
        _refuse(options, NEED_HIRES, "a second pass: give its scale as --hires")
        return None
    changes = {
        "scale": options.hires,
        **{name: getattr(options, option) for option, name in NEED_HIRES.items()},
    }
    asked: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if options.hires is not None:
        asked["size"] = None  # the picture's request may have a size instead of a scale
    return replace(Hires() if like is None else like, **asked)


def _refiner(options: argparse.Namespace, like: Refiner | None) -> Refiner | None:
    asked = like if options.refiner is None else Refiner(model=options.refiner)
    if asked is None:
        _refuse(options, ("refiner_switch",), "a model: give it as --refiner")
    elif options.refiner_switch is not None:
        asked = replace(asked, switch=options.refiner_switch)
    return asked


def _source(options: argparse.Namespace) -> Source:
    from pochade.images.decode import on_white, open_picture
    from pochade.images.fitting import widened

    if options.mask is None and options.outpaint is None:
        _refuse(options, NEED_MASK, "a mask: give it as --mask, or margins to draw in as --outpaint")
    if not options.only_masked:
        _refuse(options, ("padding",), "a part that is drawn alone: add --only-masked")
    image = on_white(open_picture(options.init))
    mask = None if options.mask is None else open_picture(options.mask)
    strength = options.strength
    if options.outpaint is not None:
        if mask is not None:
            raise InvalidRequest("--outpaint makes its own mask; use --mask in a second call")
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
    """Return the variation seed and the seed's size, each from the options or from `like`."""
    if options.variation is None and options.seed_size is None:
        return None
    before = Variation() if like is None else like
    second = before if options.variation is None else options.variation
    return replace(second, size=options.seed_size or before.size)


def _variation(text: str) -> Variation:
    """'8:0.2' -> seed 8 at strength 0.2."""
    seed, _, strength = text.partition(":")
    try:
        return Variation(seed=int(seed), strength=float(strength or "0.1"))
    except ValueError as wrong:  # includes InvalidRequest
        raise argparse.ArgumentTypeError(f"'{text}' is not SEED:STRENGTH, such as 8:0.2 ({wrong})") from wrong


# --- ControlNets -----------------------------------------------------------------------------------


def add_control_options(parser: argparse.ArgumentParser) -> None:
    """Add the option group; options that are not given change nothing."""
    group = parser.add_argument_group(
        "ControlNet",
        "For several pictures, repeat --control; an option given once applies to all of them.",
    )

    def add(name: str, **settings: Any) -> None:
        group.add_argument(name, action="append", **settings)

    add(
        "--control",
        type=Path,
        metavar="FILE",
        help="the control picture, such as edges or a photo to find them in",
    )
    add("--control-model", type=Path, metavar="PATH", help="the ControlNet: a file, a folder or a name")
    add("--preprocessor", metavar="NAME", help="none, canny, invert, scribble or tile (default: none)")
    add("--control-strength", type=float, metavar="S", help="weight, 0 to 2 (default: 1)")
    add(
        "--control-start",
        type=float,
        metavar="SHARE",
        help="fraction of the steps at which it begins (default: 0)",
    )
    add(
        "--control-end",
        type=float,
        metavar="SHARE",
        help="fraction of the steps at which it ends (default: 1)",
    )


def controls(options: argparse.Namespace) -> tuple[Control, ...]:
    """Return the controls of the options. Raises InvalidRequest for contradictions and unknown names."""
    files: Sequence[Path] = options.control or ()
    if not files:
        for name, (flag, _) in REPEATED.items():
            if getattr(options, name) is not None:
                raise InvalidRequest(f"{flag} needs a picture: give it as --control")
        return ()
    if options.control_model is None:
        raise InvalidRequest("--control needs a ControlNet: give its file or folder as --control-model")

    from pochade.images.decode import open_picture
    from pochade.images.preprocessors import find_preprocessor

    about = {name: _each(options, name, len(files)) for name in REPEATED}
    return tuple(
        Control(
            image=open_picture(file),
            model=about["control_model"][i],
            preprocessor=find_preprocessor(about["preprocessor"][i]),
            strength=about["control_strength"][i],
            start=about["control_start"][i],
            end=about["control_end"][i],
        )
        for i, file in enumerate(files)
    )


def _each(options: argparse.Namespace, name: str, count: int) -> list[Any]:
    """Return one value for each picture."""
    flag, default = REPEATED[name]
    values = getattr(options, name) or [default]
    if len(values) not in (1, count):
        raise InvalidRequest(
            f"{flag} is given {len(values)} times for {count} pictures; give it once, or once for each"
        )
    return list(values) * (count if len(values) == 1 else 1)


# --- output ----------------------------------------------------------------------------------------


def add_file_options(parser: argparse.ArgumentParser, kinds: str) -> None:
    """Add the options about the output file. kinds: its supported suffixes."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help=f"{kinds}; an existing file is never overwritten: a number is added",
    )
    add_mark_options(parser)


def add_mark_options(parser: argparse.ArgumentParser) -> None:
    """Add --no-mark and --sign."""
    group = parser.add_argument_group("metadata and signature")
    group.add_argument(
        "--no-mark", action="store_true", help="omit the XMP mark that says that a model made the picture"
    )
    group.add_argument(
        "--sign",
        action="store_true",
        help="sign the file (C2PA) with your own key, which is created on first use; needs the extra c2pa",
    )


def signer_of(options: argparse.Namespace) -> "Sign | None":
    """Return the signer if --sign was given. Raises MissingDependency before anything is drawn."""
    if not options.sign:
        return None
    from datetime import UTC, datetime

    import pochade
    from pochade.images.signing import signer_in
    from pochade.settings import signing_file

    return signer_in(signing_file(), datetime.now(UTC), pochade.__version__)


def mark_of(options: argparse.Namespace, mark: str | None) -> str | None:
    """Return the mark, or None if --no-mark was given."""
    return None if options.no_mark else mark
