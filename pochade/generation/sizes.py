"""Sizes over a picture whose own size may be kept. Arithmetic only."""

from pochade.request import FILLED, FITTED, SET_BACK

Size = tuple[int, int]
"""Width and height, px."""

MUCH_LARGER = 2.25
"""Of pixels: up to here, models of this family draw larger than they were trained to."""

MASKED_LARGER = 4.0
"""The same where a part of the old picture is kept, which the model is held to at every step."""


def size_over(picture: Size, model_size: Size, factor: int, *, masked: bool) -> tuple[Size, str]:
    """What is drawn over a whole picture if no size is asked for, in whole latent pixels; and its framing
    (`pochade.request.FRAMINGS`), which says what comes out.

    picture: its size. model_size: the model's. factor: pixels along a latent pixel. masked: a part of it is
    kept.

    The picture's size is drawn unless it is much larger or smaller than the model's: then its shape in about
    the model's size. Without a mask that is what comes out. With one the picture comes out in its own size in
    any case: what is kept of it must not change.
    """
    pixels, room = picture[0] * picture[1], model_size[0] * model_size[1]
    if room / 4 <= pixels <= (MASKED_LARGER if masked else MUCH_LARGER) * room:
        return whole_latents(picture, factor), FILLED
    scale = (room / pixels) ** 0.5
    width, height = (max(factor, round(scale * side / factor) * factor) for side in picture)
    return (width, height), SET_BACK if masked else FITTED


def whole_latents(size: Size, factor: int) -> Size:
    """The next larger size of whole latent pixels."""
    width, height = (-(-side // factor) * factor for side in size)
    return width, height
