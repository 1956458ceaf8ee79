"""`pochade upscale`: enlarges a picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.model_options import add_models_option, add_threads_option
from pochade.errors import InvalidRequest, expect

if TYPE_CHECKING:
    from PIL import Image

EXAMPLES = """examples:
  pochade upscale fox.png large.png --model RealESRGAN_x4plus.pth
  pochade upscale fox.png large.png --model RealESRGAN_x4plus.pth --scale 2
  pochade upscale fox.png large.png --upscaler RealESRGAN_x4plus
  pochade upscale fox.png large.png --scale 2
"""
MAX_SIDE = 32768


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "upscale",
        help="make a picture larger",
        description="Make a picture larger, with an ESRGAN or Real-ESRGAN model or, without one, by Lanczos.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="IN")
    parser.add_argument("target", type=Path, metavar="OUT", help=".png, .jpg or .webp; never overwritten")
    by = parser.add_mutually_exclusive_group()
    by.add_argument("--model", type=Path, metavar="FILE", help="an ESRGAN or Real-ESRGAN file")
    by.add_argument(
        "--upscaler",
        metavar="NAME",
        help="its name in the folders of models; or Lanczos, Bicubic, Bilinear, Nearest",
    )
    add_models_option(parser)
    parser.add_argument(
        "--scale",
        type=float,
        metavar="S",
        help="scale factor (default: the model's own, or 2 without a model)",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, gpu, cuda or mps")
    parser.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16 or f16")
    parser.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    add_threads_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the enlarged picture, with the parameters text of the original, and print its path."""
    from pochade.images.decode import open_picture
    from pochade.images.embedded_text import enlarged_mark, enlarged_text
    from pochade.images.files import check_destination, save_without_overwriting
    from pochade.images.upscaling import upscaled

    if options.scale is not None:
        expect("--scale", options.scale, 1.0, 16.0)
    check_destination(options.target)
    image = open_picture(options.source)
    model, plain = _upscaler(options)
    if model is None:
        width, height = _size(image, 2.0 if options.scale is None else options.scale)
        larger, name = upscaled(image, width, height, plain), plain
    else:
        larger, name = _by_model(options, model, image), model.stem
    content = options.source.read_bytes()
    text = enlarged_text(content, larger.width / image.width, name)
    mark = enlarged_mark(content, by_model=model is not None)
    print(save_without_overwriting(larger, options.target, text, mark=mark))
    return 0


def _upscaler(options: argparse.Namespace) -> tuple[Path | None, str]:
    """Return the file of a model, or the name of a method without a model. Raises InvalidRequest."""
    from pochade.images.upscaling import LATENT_UPSCALERS, UPSCALERS

    if options.upscaler is None:
        return options.model, "Lanczos"
    from pochade.loading.auxiliary import resolve_upscaler
    from pochade.settings import model_roots

    found = resolve_upscaler(options.upscaler, model_roots(options.models))
    if found in LATENT_UPSCALERS:
        raise InvalidRequest(f"upscaler '{found}' is for latents; a picture needs another, such as Lanczos")
    return (None, found) if found in UPSCALERS else (Path(found), "")


def _by_model(options: argparse.Namespace, model: Path, image: "Image.Image") -> "Image.Image":
    from pochade.configs.networks import RrdbConfig
    from pochade.generation.upscale import resize_with
    from pochade.loading.auxiliary import load_upscaler

    network = load_upscaler(
        model,
        device=options.device,
        precision=options.precision,
        engine=options.engine,
        threads=options.threads,
    )
    assert isinstance(network.config, RrdbConfig)
    scale = network.config.scale if options.scale is None else options.scale
    return resize_with(network, image, *_size(image, scale))


def _size(image: "Image.Image", scale: float) -> tuple[int, int]:
    """Return width and height, px."""
    width, height = round(image.width * scale), round(image.height * scale)
    if max(width, height) > MAX_SIDE:
        raise InvalidRequest(
            f"the picture would have {width} x {height} px; a side may have at most {MAX_SIDE} px"
        )
    return width, height
