"""Request options: names used by other tools."""

import pytest

from pochade.errors import InvalidRequest
from pochade.request_options import RESIZE_MODES, find_resize_mode


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        (0, "stretch"),
        (1, "crop"),
        (2, "fill"),
        (3, "stretch"),  # latents are resized there
        ("0", "stretch"),
        ("1", "crop"),
        ("2", "fill"),
        ("Just Resize", "stretch"),
        ("Crop and Resize", "crop"),
        ("Resize and Fill", "fill"),
        ("Just Resize (Latent Upscale)", "stretch"),
        ("Scale to Fit (Inner Fit)", "crop"),
        ("Envelope (Outer Fit)", "fill"),
        ("Inner Fit (Scale to Fit)", "crop"),
        ("Outer Fit (Shrink to Fit)", "fill"),
        ("ResizeMode.INNER_FIT", "crop"),
        ("OUTER_FIT", "fill"),
        (" crop ", "crop"),
        *((mode, mode) for mode in RESIZE_MODES),
    ],
)
def test_a_resize_mode_by_any_of_its_names(given: object, mode: str) -> None:
    assert find_resize_mode(given) == mode


@pytest.mark.parametrize("given", [4, -1, 1.5, True, None, "", "bend", [1], "Inner"])
def test_an_unknown_resize_mode_is_named(given: object) -> None:
    with pytest.raises(
        InvalidRequest, match=r"resize_mode is '.*'; one of: stretch, crop, fill, or 0 \(Just"
    ):
        find_resize_mode(given)
