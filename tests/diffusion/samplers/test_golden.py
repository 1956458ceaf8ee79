"""Samplers compared with recorded results of k-diffusion in float64 (see `tests/golden/samplers.py`)."""

import json

import numpy as np
import pytest

from pochade.diffusion.samplers import SAMPLERS
from tests.golden.samplers import CASES, FILE, LEVELS, denoise, noises, start

GOLDEN = json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_final_latents(name):
    label, _, settings = CASES[name]
    if label == "DPM fast":
        # one level per evaluation; and no 0 at the end, for k-diffusion stops above it
        levels = np.geomspace(LEVELS[0], LEVELS[-1], settings["n"] + 1).tolist()
    elif label == "DPM adaptive":
        levels = [LEVELS[0], LEVELS[-1]]
    elif label == "LMS":
        levels = [*LEVELS]
    else:
        levels = [*LEVELS, 0.0]
    options = {"eta": settings["eta"]} if "eta" in settings else {}
    stream = noises()
    steps = list(SAMPLERS[label].function(denoise, start(), levels, lambda: next(stream), **options))
    np.testing.assert_allclose(steps[-1].x.ravel(), GOLDEN[name], rtol=1e-10, atol=1e-12)


def test_every_number_is_used():
    assert list(GOLDEN) == list(CASES)
