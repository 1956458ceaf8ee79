"""Converts between PIL images and arrays in -1..1."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pochade.errors import InvalidRequest
from pochade.images.decode import on_white
from pochade.loading.networks import Networks

if TYPE_CHECKING:
    from PIL import Image

Floats = NDArray[np.float32]

PREVIEW_SIDE = 16
"""The longer side of a preview in latent pixels: decoding 128 pixels costs a sixteenth of 512."""


def to_images(pictures: Floats, made_by: str = "the autoencoder", precision: str = "") -> "list[Image.Image]":
    """Convert (B, 3, H, W), about -1..1, to RGB images.

    made_by, precision: the network that computed the numbers and its precision ("": unknown), for the
    InvalidRequest that is raised if they are not finite.
    """
    from PIL import Image

    check_finite(pictures, made_by, precision)
    bytes_ = np.rint((pictures.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    return [Image.fromarray(picture) for picture in bytes_.transpose(0, 2, 3, 1)]


def check_finite(numbers: Floats, made_by: str, precision: str) -> None:
    """Raise InvalidRequest, with advice for this precision, if numbers are not finite."""
    if np.isfinite(numbers).all():
        return
    if precision == "f16":
        advice = "f16 holds numbers up to 65504 only: take --precision bf16 or f32"
    else:
        advice = (
            "another precision does not help: an adapter or its weight may be too strong, or a file may be"
            " damaged or of another model (`pochade models verify` reads one through)"
        )
    in_precision = f" in {precision}" if precision else ""
    raise InvalidRequest(f"{made_by} gave numbers that are not finite{in_precision}; {advice}")


def from_image(image: "Image.Image") -> Floats:
    """Convert an image of any mode to (3, H, W) in -1..1. Transparency counts as white."""
    rgb = np.asarray(on_white(image), np.float32)
    return np.ascontiguousarray((rgb / 127.5 - 1).transpose(2, 0, 1))


def decoded_images(networks: Networks, latent: Floats) -> "list[Image.Image]":
    """Decode scaled latents (B, C, h, w). Raises InvalidRequest as `to_images` does."""
    pictures = networks.decode(latent)
    return to_images(pictures, precision=networks.coder.engine.precision)


def small_images(networks: Networks, latent: Floats) -> "list[Image.Image]":
    """Decode every n-th latent pixel to a small preview, which works for any family."""
    step = -(-max(latent.shape[2:]) // PREVIEW_SIDE)
    return decoded_images(networks, np.ascontiguousarray(latent[:, :, ::step, ::step], np.float32))


def rough_images(latent: Floats) -> "list[Image.Image]":
    """Show three channels of a latent (B, C, h, w) as colours, where decoding would take too much memory.

    Shapes are recognisable; the colours have no meaning.
    """
    shown = np.asarray(latent)[:, [0, 1, 2]]
    return to_images((shown / (np.abs(shown).max() + np.float32(1e-6))).astype(np.float32))
