"""How many modules of the package a plain picture executes, from the command line to the PNG."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MOST, MOST_OF_GENERATION = 75, 14
COMPILING = 2
"""Files more in the first drawing on a computer: what writes the graphs that are compiled then."""

GENERATION = ("generation/",)

COUNT = """
import importlib.util, inspect, json, sys, threading
from pathlib import Path

package = Path(importlib.util.find_spec("pochade").origin).parent
entered = set()

def note(frame, event, _):
    code = frame.f_code
    # Functions only, neither the bodies of modules and classes nor comprehensions.
    if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED or code.co_name[0] == "<":
        return
    if code.co_filename in entered or not Path(code.co_filename).is_relative_to(package):
        return
    while frame is not None:  # nor what a module of the package calls while it is imported
        if frame.f_code.co_name == "<module>" and Path(frame.f_code.co_filename).is_relative_to(package):
            return
        frame = frame.f_back
    entered.add(code.co_filename)

threading.setprofile(note)
sys.setprofile(note)
from pochade.cli.main import main

status = main(sys.argv[1:])
sys.setprofile(None)
threading.setprofile(None)
print(json.dumps([status, sorted(Path(name).relative_to(package).as_posix() for name in entered)]))
"""


def entered(environment: dict[str, str], folder: Path, *arguments: str) -> set[str]:
    """The files of the package whose functions `pochade draw` calls."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, "draw", *arguments, "-o", str(folder / "a.png")],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, files = json.loads(done.stdout.splitlines()[-1])
    assert status == 0, done.stderr
    return set(files)


@pytest.fixture(scope="module")
def plain(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[set[str]]:
    """Of a plain picture, drawn for the first time on a computer and for the second."""
    folder = tmp_path_factory.mktemp("plain")
    own = {**environment, "POCHADE_CACHE": str(folder / "cache")}
    return [entered(own, folder, "a red apple", "--seed", "7") for _ in range(2)]


def test_a_plain_picture_goes_through_few_files(plain: list[set[str]]) -> None:
    for files, more in zip(plain, (COMPILING, 0), strict=True):
        assert {"cli/draw.py", "prompts/tokenizer.py", "models/unet.py", "images/files.py"} <= files
        assert len(files) <= MOST + more, sorted(files)
        generation = [name for name in files if name.startswith(GENERATION)]
        assert 3 < len(generation) <= MOST_OF_GENERATION, sorted(generation)


def test_what_is_not_asked_for_is_not_entered(plain: list[set[str]]) -> None:
    asked_for = ("hires", "controlnet", "refiner", "prompt_weights", "pass_settings", "auxiliary")
    asked_for += ("composition", "extra_networks", "schedules", "dynamic", "styles", "wildcards", "speed")
    asked_for += ("train", "serve", "bench", "models", "evaluate")
    for files in plain:
        assert not {Path(name).stem for name in files} & set(asked_for)


def test_what_is_asked_for_is(environment: dict[str, str], tmp_path: Path) -> None:
    prompt = "a [red:blue:1] apple MASK(0 0.5) AND {a pear}"
    files = entered(environment, tmp_path, prompt, "--steps", "2", "--speed", "fast")
    stems = {Path(name).stem for name in files}
    assert {"prompt_weights", "composition", "schedules", "dynamic", "speed"} <= stems
    assert not {"hires", "controlnet", "refiner"} & stems
