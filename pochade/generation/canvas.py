"""The canvas of a pass: the latent it starts from, its mask, and how the result is pasted back."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pochade.diffusion.parametrization import Denoise
from pochade.errors import InvalidRequest
from pochade.generation.decoding import from_image
from pochade.generation.sizes import Size
from pochade.images import masks
from pochade.images.decode import on_white
from pochade.images.fitting import filled_up, fit
from pochade.images.masks import in_latent
from pochade.images.upscaling import upscaled
from pochade.loading.networks import Networks
from pochade.ops import Tensor
from pochade.request import FILLED, FITTED, SET_BACK
from pochade.request_options import Source

Floats = NDArray[np.float32]
Finish = Callable[[Image.Image], Image.Image]

STRETCHED = "stretched"
"""The framing of a source picture with tiling, instead of FILLED: resize to the drawn size and back."""

HALF = 127
"""Mask pixels lighter than this are hidden from an inpainting model."""


def unchanged(image: Image.Image) -> Image.Image:
    return image


@dataclass(frozen=True, eq=False, kw_only=True)
class Canvas:
    """The start of a pass.

    latent: (1, C, h, w), scaled, to which noise is added; None for text-to-image.
    strength: share of the steps that are done.
    mask: (1, 1, h, w), ones where the picture is redrawn; None means everywhere.
    fill: the initial content under the mask, of `pochade.request_options.FILLS`.
    extra: (1, C + 1, h, w), further input channels of inpainting models.
    box: the part of the source picture that is drawn, if not all of it.
    filled: width and height of the source picture, px, if it was padded to whole latent pixels.
    finish: pastes a drawn picture back into its source.
    """

    latent: Floats | None = None
    strength: float = 1.0
    mask: Floats | None = None
    fill: str = "original"
    extra: Floats | None = None
    box: masks.Box | None = None
    filled: Size | None = None
    finish: Finish = unchanged

    def placed(self, place: Callable[[Floats], Tensor]) -> "Canvas":
        """Return a copy with its arrays on the engine's device."""
        arrays = {name: getattr(self, name) for name in ("latent", "mask", "extra")}
        return replace(self, **{name: place(array) for name, array in arrays.items() if array is not None})

    def first_step(self, steps: int) -> int:
        """Return how many steps are skipped; noise of the first remaining step's level is added."""
        if self.latent is None:
            return 0
        done = min(int(self.strength * steps), steps - 1) + 1
        return steps - done

    def start(self, noise: Tensor, sigma: float, scale: Callable[[float], float]) -> Tensor:
        """Return the starting latent (B, C, h, w) at noise level sigma.

        noise: unit normal, (B, C, h, w). scale: `Family.starting_scale`, used for text-to-image.
        """
        if self.latent is None:
            return noise * scale(sigma)
        latent = self.latent
        if self.mask is not None and self.fill in ("noise", "nothing"):
            under = noise if self.fill == "noise" else 0.0 * noise
            latent = latent * (1 - self.mask) + under * self.mask
        return latent + noise * sigma

    def keeping_source(self, denoise: Denoise) -> Denoise:
        """Wrap `denoise` so that it returns the source picture outside of the mask."""
        if self.mask is None or self.latent is None:
            return denoise
        mask, kept = self.mask, self.latent * (1 - self.mask)

        def keep(x: Tensor, sigma: float) -> Tensor:
            return denoise(x, sigma) * mask + kept

        return keep


def blank_canvas(networks: Networks, width: int, height: int) -> Canvas:
    """Return the canvas for text-to-image. An inpainting model gets a mask of ones over a gray picture."""
    if not networks.traits.reads_mask:
        return Canvas()
    factor = networks.autoencoder_config.factor
    gray = np.zeros((3, height, width), np.float32)
    return Canvas(extra=_extra(networks, gray, np.ones((1, height // factor, width // factor), np.float32)))


def canvas_over(networks: Networks, source: Source, width: int, height: int, framing: str = FITTED) -> Canvas:
    """Return the canvas for image-to-image or inpainting.

    width, height: the drawn size, px. framing: one of `pochade.request.FRAMINGS`.

    Raises InvalidRequest if the mask is black, or becomes black when it is blurred and resized.
    """
    factor = networks.autoencoder_config.factor
    # With tiling the whole picture is drawn: if it were cropped, its edges would not fit.
    whole = networks.tiling and framing == FILLED and source.image.size != (width, height)
    picture, soft, box, finish = _looked_at(source, width, height, STRETCHED if whole else framing)
    pixels = from_image(picture)
    mask = None if soft is None else in_latent(soft, factor)
    if mask is not None and not mask.any():
        raise _faded(source, (width, height))
    extra = None
    if networks.traits.reads_mask:
        hidden = np.ones(pixels.shape[1:], bool) if soft is None else np.asarray(soft) > HALF
        shown = np.where(hidden, np.float32(0), pixels)
        everywhere = np.ones((1, height // factor, width // factor), np.float32)
        extra = _extra(networks, shown, everywhere if mask is None else mask)
    return Canvas(
        latent=networks.encode(pixels[None]),
        strength=source.denoising_strength,
        mask=None if mask is None else mask[None],
        fill=source.fill,
        extra=extra,
        box=box,
        filled=source.image.size if framing == FILLED and not source.only_masked else None,
        finish=finish,
    )


def _looked_at(
    source: Source, width: int, height: int, framing: str
) -> tuple[Image.Image, Image.Image | None, masks.Box | None, Finish]:
    """Return the drawn picture of width x height px, its blurred mask, its box if it is a part, and the
    function that pastes the result back."""
    whole, box = on_white(source.image), None
    if source.mask is None:
        if framing == FILLED:
            return filled_up(whole, width, height), None, None, partial(_cut, whole.size)
        if framing == STRETCHED:
            return _wrapped((width, height), whole), None, None, partial(_wrapped, whole.size)
        return fit(whole, width, height, source.resize_mode), None, None, unchanged
    mask = masks.gray(source.mask)
    masks.bounds(mask)  # refuses one that is black
    if framing == FILLED:
        picture, sharp = (filled_up(each, width, height) for each in (whole, mask))
        inner = masks.blurred(sharp, source.mask_blur)
        finish: Finish = partial(_cut_and_merged, whole, inner)
    elif framing == STRETCHED:
        soft = masks.blurred(mask, source.mask_blur)
        picture, inner = (_wrapped((width, height), each) for each in (whole, soft))
        finish = partial(_wrapped_and_merged, whole, soft)
    elif source.only_masked or framing == SET_BACK:
        soft = masks.blurred(mask, source.mask_blur)
        part = masks.Box(0, 0, *whole.size)
        if source.only_masked:
            if soft.getbbox() is None:
                raise _faded(source, soft.size)
            part = box = masks.region(soft, source.padding, width, height)
        picture, inner = (fit(each.crop(part), width, height, "stretch") for each in (whole, soft))
        finish = partial(_set_back, whole, soft, part)
    else:
        picture, sharp = (fit(each, width, height, source.resize_mode) for each in (whole, mask))
        inner = masks.blurred(sharp, source.mask_blur)
        finish = partial(_merged, picture, inner)
    if source.fill == "surroundings":
        picture = masks.surroundings(picture, inner)
    return picture, inner, box, finish


def _faded(source: Source, size: Size) -> InvalidRequest:
    """Return the error for a mask that vanishes in a picture of this size."""
    assert source.mask is not None
    box = masks.bounds(masks.gray(source.mask))
    width, height = source.mask.size
    other = "" if source.only_masked else ", or draw only what is masked"
    return InvalidRequest(
        f"the mask's white part, {box.size[0]} x {box.size[1]} of {width} x {height} px, fades away with a"
        f" mask blur of {source.mask_blur:g} px in a picture of {size[0]} x {size[1]} px: paint more of it"
        f" white, or take a smaller mask blur{other}"
    )


def _cut(size: Size, drawn: Image.Image) -> Image.Image:
    return drawn.crop((0, 0, *size))


def _cut_and_merged(old: Image.Image, mask: Image.Image, drawn: Image.Image) -> Image.Image:
    return masks.composite(old, *(_cut(old.size, each) for each in (drawn, mask)))


def _wrapped(size: Size, picture: Image.Image) -> Image.Image:
    """Resize a picture whose edges fit together, px."""
    return upscaled(picture, *size, tiling=True)


def _wrapped_and_merged(old: Image.Image, mask: Image.Image, drawn: Image.Image) -> Image.Image:
    return masks.composite(old, _wrapped(old.size, drawn), mask)


def _merged(old: Image.Image, mask: Image.Image, drawn: Image.Image) -> Image.Image:
    return masks.composite(old, drawn, mask)


def _set_back(whole: Image.Image, mask: Image.Image, box: masks.Box, drawn: Image.Image) -> Image.Image:
    """Paste a drawn part into the whole picture at its own size."""
    new = whole.copy()
    new.paste(fit(drawn, *box.size, "stretch"), box)
    return masks.composite(whole, new, mask)


def _extra(networks: Networks, picture: Floats, mask: Floats) -> Floats:
    """Encode mask (1, h, w) and picture (3, H, W), gray under the mask, as (1, C + 1, h, w)."""
    return np.concatenate([mask[None], networks.encode(picture[None])], axis=1)
