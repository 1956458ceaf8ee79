"""The package: public names, and the cost of importing it."""

import dataclasses
import inspect
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import pochade
from pochade.errors import PochadeError
from pochade.request import DEFAULTS, Request

ROOT = Path(__file__).parent.parent

NO_NETWORK = """
import socket
class Refused(socket.socket):
    def __new__(cls, *arguments, **options):
        raise AssertionError("a socket was opened")
socket.socket = socket.SocketType = Refused
def refuse(*arguments, **options):
    raise AssertionError("a name was looked up")
socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refuse
"""

ONLY_THE_BASE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
sys.meta_path.insert(0, Absent())
"""

EXTRAS = [
    "torch",
    "tokenizers",
    "huggingface_hub",
    "resvg_py",
    "c2pa",
    "cryptography",
    "IPython",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "scipy",
    "sqlalchemy",
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "mcp",
]
HEAVY = ["numpy", "openvino", "PIL", "torch", "diffusers", "transformers", "tokenizers", "scipy", "tqdm"]
HEAVY += ["sqlalchemy", "fastapi", "uvicorn", "mcp"]


def fresh(code: str) -> Any:
    """Run code in a new interpreter, without a network; the JSON that it prints on its last line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", NO_NETWORK + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def loaded(code: str) -> set[str]:
    """Which of the heavy packages code brings in."""
    show = "\nimport json, sys; print(json.dumps([name for name in sys.modules if '.' not in name]))"
    return set(fresh(code + show)) & set(HEAVY)


def test_importing_the_package_brings_in_nothing_heavy() -> None:
    assert loaded("import pochade") == set()
    assert loaded("import pochade; pochade.Request; pochade.PochadeError") == set()


def test_the_help_and_the_version_need_nothing_heavy() -> None:
    for argument in ("--help", "--version"):
        code = f"""
from pochade.cli.main import main
try:
    main(["{argument}"])
except SystemExit as end:
    assert end.code == 0
"""
        assert loaded(code) == set()


def test_the_guard_against_the_network_guards() -> None:
    for code in (
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.socket()",
        "socket.getaddrinfo('a', 1)",
    ):
        with pytest.raises(AssertionError, match=r"AssertionError: a (socket was opened|name was looked up)"):
            fresh(code)


def test_importing_the_engine_tells_nobody() -> None:
    """OpenVINO's own package would report the import to a statistics service, from a process of its own."""
    code = """
import json, multiprocessing, threading
def refuse(*arguments, **options):
    raise AssertionError("a process was started")
multiprocessing.Process.start = refuse
import pochade.engines.openvino, sys
told = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print(json.dumps([told, [thread.name for thread in threading.enumerate()]]))
"""
    assert fresh(code) == [[], ["MainThread"]]


def test_the_base_package_is_whole_without_any_extra() -> None:
    """Every module outside training can be imported where only the base dependencies are installed."""
    optional = ("pochade.engines.torch", "pochade.training", "pochade.evaluation", "pochade.__main__")
    optional += ("pochade.jobs", "pochade.server")
    code = f"""
ABSENT = {EXTRAS!r}
{ONLY_THE_BASE}
import importlib, json, pkgutil, pochade
modules = pkgutil.walk_packages(pochade.__path__, "pochade.", onerror=lambda name: None)
names = [module.name for module in modules if not module.name.startswith({optional!r})]
for name in names:
    importlib.import_module(name)
print(json.dumps(names))
"""
    names = fresh(code)
    assert {"pochade.pipeline.pipeline", "pochade.engines.openvino", "pochade.cli.draw"} <= set(names)


# --- names that others rely on ------------------------------------------------------------------------


def test_public_names_are_there_when_they_are_asked_for() -> None:
    assert set(pochade.__all__) == {
        "Lora",
        "Pipeline",
        "PochadeError",
        "Progress",
        "Request",
        "Result",
        "__version__",
        "load",
    }
    for name in pochade.__all__:
        assert getattr(pochade, name).__doc__, name
    assert pochade.Request is Request
    assert pochade.PochadeError is PochadeError
    with pytest.raises(AttributeError, match="module 'pochade' has no attribute 'laod'"):
        _ = pochade.laod
    assert callable(pochade.load)  # also after its own module has been imported


PUBLIC = {
    "Request": "prompt negative_prompt seed steps cfg_scale guidance_rescale width height sampler schedule "
    "eta clip_skip batch_size template negative_template speed tiling rng emphasis source blend variation "
    "hires refiner controls",
    "Result": "images seeds infotexts",
    "Progress": "step steps denoised result preview now",
    "Lora": "path weight text_weight name",
    "Pipeline": "path txt2img img2img inpaint outpaint stream encode_prompt unet encode_image decode",
}
"""Attributes that are not removed or renamed without notice: CONTRIBUTING, "What is public"."""


@pytest.mark.parametrize("name", PUBLIC)
def test_public_attributes_stay(name: str) -> None:
    public = getattr(pochade, name)
    there = set(dir(public)) | {field.name for field in dataclasses.fields(public)}
    assert set(PUBLIC[name].split()) <= there


def test_commands_stay() -> None:
    from pochade.cli.main import COMMANDS

    stay = "draw serve mcp plot walk upscale info models doctor bench train evaluate"
    assert set(stay.split()) <= set(COMMANDS)


def test_the_contributors_page_says_what_is_public_and_how_it_goes() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = " ".join(page.partition("\n## What is public\n")[2].split())
    for said in ("`pochade.__all__`", "commands, options, environment variables", "docs/api.md"):
        assert said in section
    assert 'the changelog lists it under "Deprecated" for at least one minor version' in section


def test_the_signatures_that_outside_code_relies_on() -> None:
    assert next(iter(inspect.signature(pochade.load).parameters)) == "model"
    assert {"device", "precision"} <= set(inspect.signature(pochade.load).parameters)
    for method, expected in {
        "txt2img": ["self", "prompt", "noise", "options"],
        "stream": ["self", "request", "noise"],
        "encode_prompt": ["self", "prompt"],
        "unet": ["self", "x", "timestep", "context"],
        "encode_image": ["self", "image"],
        "decode": ["self", "latent"],
    }.items():
        parameters = list(inspect.signature(getattr(pochade.Pipeline, method)).parameters)
        assert parameters[: len(expected)] == expected, method
    assert set(pochade.Result.__dataclass_fields__) >= {"images", "seeds", "infotexts"}
    assert set(pochade.Progress.__dataclass_fields__) >= {"step", "steps"}
    assert callable(pochade.Progress.preview)


def test_the_options_of_a_request_and_their_defaults() -> None:
    request = Request(prompt="a red fox in the snow")
    assert (request.negative_prompt, request.seed, request.batch_size) == ("", None, 1)
    left_to_the_model = ("width", "height", "steps", "cfg_scale", "sampler", "schedule")
    assert {getattr(request, name) for name in left_to_the_model} == {None}
    assert pochade.load().defaults == DEFAULTS
    assert (DEFAULTS.steps, DEFAULTS.cfg_scale) == (20, 7.0)
    assert (DEFAULTS.sampler, DEFAULTS.schedule) == ("DPM++ 2M", "Automatic")


def test_the_version_stands_in_one_more_place_only() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == pochade.__version__
    assert f"## [{pochade.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_folders_of_tests_have_the_names_of_the_folders_that_they_test() -> None:
    """benchmarks, the page (`server/static`) and recorded numbers are not packages."""
    others = {"bench", "page", "golden"}
    ours = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*/*.py")}
    theirs = {path.parent.relative_to(ROOT / "pochade") for path in (ROOT / "pochade").rglob("*/*.py")}
    assert ours - theirs == {Path(name) for name in others}
    top = {folder for folder in theirs if len(folder.parts) == 1}
    assert top <= ours  # every package has tests of its own


def test_the_notice_credits_every_source_of_the_starter() -> None:
    from pochade.training.corpus.sources import EMOJIBASE, SOURCES

    notice = " ".join((ROOT / "NOTICE").read_text(encoding="utf-8").split())
    for package in [EMOJIBASE, *(source.package for source in SOURCES)]:
        assert f"{package.name} {package.version}" in notice
        for credit in package.credit.split("; "):
            assert credit in notice
