"""Unset fields of a job get the defaults of its model, or of an adapter in its prompt."""

import secrets

import numpy as np
import pytest

from pochade.checkpoints import safetensors
from pochade.jobs.catalogue import Folders, scan_folders
from pochade.jobs.limits import Limits
from pochade.server.dialects.a1111 import conversion
from pochade.server.dialects.native.schemas import JobBody
from pochade.server.submission import settled
from pochade.server.uploads import Inputs
from tests.checkpoints.test_library import SD1, UNET
from tests.fake_hub import write_tensors

SETTINGS = ("steps", "cfg_scale", "sampler", "schedule")
PLAIN, LCM = [20, 7.0, "DPM++ 2M", "Automatic"], [4, 1.0, "LCM", "Automatic"]


@pytest.fixture
def catalogue(tmp_path):
    root = tmp_path / "models"
    for name in ("plain", "tiny-lcm"):
        write_tensors(root / "checkpoints" / f"{name}.safetensors", UNET, SD1)
    (root / "loras").mkdir()
    safetensors.write(root / "loras" / "sd_lightning_8step.safetensors", {"unet.a": np.zeros(1, np.float32)})
    return scan_folders(Folders(roots=(root,)))


def nothing():
    """No pictures come with the job."""
    return Inputs(lambda name: b"", lambda content: None)


def drawn_with(catalogue, asked):
    request = settled(asked, catalogue, secrets.token_hex, Limits()).request
    return [getattr(request, name) for name in SETTINGS]


def native(catalogue, **body):
    return drawn_with(
        catalogue, JobBody.model_validate(body).to_order(Inputs(lambda name: b"", lambda content: None))
    )


def a1111(catalogue, **body):
    body = conversion.TextBody(**body)
    return drawn_with(catalogue, conversion.submitted_order(body, {}, catalogue, nothing()))


def test_a_job_that_leaves_it_open(catalogue):
    assert native(catalogue, model="plain") == PLAIN
    assert native(catalogue, model="tiny-lcm") == LCM
    assert native(catalogue, model="tiny-lcm", steps=9, schedule="Karras") == [9, 1.0, "LCM", "Karras"]


def test_an_adapter_in_the_prompt(catalogue):
    prompt = "a fox <lora:sd_lightning_8step:1>"
    assert native(catalogue, model="plain", prompt=prompt) == [8, 1.0, "Euler", "Turbo"]
    assert native(catalogue, model="plain", prompt=prompt.replace(":1", ":0.1")) == PLAIN
    assert native(catalogue, model="plain", prompt=prompt, steps=3)[0] == 3


def test_a1111_fills_in_what_it_always_did_save_for_models_of_few_steps(catalogue):
    chosen = {"override_settings": {"sd_model_checkpoint": "tiny-lcm"}}
    assert a1111(catalogue) == [50, 7.0, "Euler", "Automatic"]
    assert a1111(catalogue, **chosen) == LCM
    assert a1111(catalogue, **chosen, steps=7, sampler_name="Euler a") == [7, 1.0, "Euler a", "Automatic"]
