"""Few-step models on the command line: the report, and the settings that are used."""

import shutil
from pathlib import Path

from PIL import Image

from pochade.images.metadata import read_parameters
from pochade.settings import starter_folder
from tests.cli.conftest import Command


def test_a_model_of_few_steps(pochade: Command, tmp_path: Path) -> None:
    shutil.copytree(starter_folder(), tmp_path / "tiny-turbo-2step")
    done = pochade("draw", "a fox", "--model", "tiny-turbo-2step", "--sampler", "Heun", "-o", "fox.png")
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "pochade: few-step model: Turbo (its name is 'tiny-turbo-2step'): 2 steps,"
        " no guidance, sampler Heun, schedule Turbo\n"
    )
    with Image.open(tmp_path / "fox.png") as image:
        values = read_parameters(image.info["parameters"]).values
    asked = ("Steps", "CFG scale", "Sampler", "Schedule type")
    assert [values[name] for name in asked] == ["2", "1", "Heun", "Turbo"]
    told = pochade("models", "info", "tiny-turbo-2step")
    assert "few steps  Turbo (its name is 'tiny-turbo-2step'): 2 steps, no" in told.stdout


def test_nothing_is_said_where_nothing_was_left_open(pochade: Command, tmp_path: Path) -> None:
    shutil.copytree(starter_folder(), tmp_path / "tiny-lcm")
    given = ("--steps", "2", "--cfg", "2", "--sampler", "Euler", "--schedule", "Karras")
    done = pochade("draw", "a fox", "--model", "tiny-lcm", *given)
    assert (done.returncode, done.stderr) == (0, "")
