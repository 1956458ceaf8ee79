"""The drawn size for a source picture, whose own size may be kept."""

from pochade.request import FILLED, FITTED, SET_BACK

Size = tuple[int, int]
"""Width and height, px."""

MUCH_LARGER = 2.25
"""The factor in pixels up to which models draw larger than their training size."""

MASKED_LARGER = 4.0
"""The same with a mask, since the kept part guides the model at every step."""


def size_over(picture: Size, model_size: Size, factor: int, *, masked: bool) -> tuple[Size, str]:
    """Return the drawn size for a source picture in whole latent pixels, and its framing
    (`pochade.request.FRAMINGS`).

    picture: the picture's size. model_size: the model's. factor: pixels per latent pixel. masked: whether a
    part is kept.

    The picture's own size is drawn unless it is much larger or smaller than the model's; then about the
    model's size is drawn with the picture's aspect ratio. Without a mask the result has the drawn size. With
    a mask it always has the picture's own size, since the kept part must not change.
    """
    pixels, room = picture[0] * picture[1], model_size[0] * model_size[1]
    if room / 4 <= pixels <= (MASKED_LARGER if masked else MUCH_LARGER) * room:
        return whole_latents(picture, factor), FILLED
    scale = (room / pixels) ** 0.5
    width, height = (max(factor, round(scale * side / factor) * factor) for side in picture)
    return (width, height), SET_BACK if masked else FITTED


def whole_latents(size: Size, factor: int) -> Size:
    """Round a size up to whole latent pixels."""
    width, height = (-(-side // factor) * factor for side in size)
    return width, height
