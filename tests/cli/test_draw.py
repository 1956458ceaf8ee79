"""`pochade draw`: pictures, and errors for invalid input."""

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pochade.images.metadata import Parameters, read_parameters
from tests.cli.conftest import Command


def test_draws_a_picture_that_says_how_it_was_made(pochade: Command, tmp_path: Path) -> None:
    done = pochade(
        "draw", "a red apple", "--seed", "7", "--steps", "3", "--negative", "blue", "-o", "apple.png"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["apple.png"]
    image = Image.open(tmp_path / "apple.png")
    parameters = read_parameters(image.info["parameters"])
    assert (parameters.prompt, parameters.negative_prompt) == ("a red apple", "blue")
    assert parameters.values["Seed"] == "7"
    assert parameters.values["Sampler"] == "DPM++ 2M"
    assert parameters.values["Size"] == f"{image.width}x{image.height}"
    assert re.fullmatch(r"[0-9a-f]{10}", parameters.values["Model hash"])
    assert np.asarray(image).std() > 1


def test_same_seed_same_picture_and_nothing_is_overwritten(pochade: Command, tmp_path: Path) -> None:
    for _ in range(2):
        assert pochade("draw", "a cat", "--seed", "1", "--steps", "2", "-o", "cat.png").returncode == 0
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("cat.png", "cat-2.png"))
    assert np.array_equal(first, second)


def test_count_goes_on_with_the_next_seeds(pochade: Command, tmp_path: Path) -> None:
    done = pochade("draw", "a cat", "--seed", "5", "--steps", "2", "--count", "3")
    assert done.stdout.splitlines() == ["a-cat-5.png", "a-cat-6.png", "a-cat-7.png"]
    alone = pochade("draw", "a cat", "--seed", "7", "--steps", "2", "-o", "alone.png")
    assert alone.returncode == 0
    pictures = [np.asarray(Image.open(tmp_path / name)) for name in ("a-cat-7.png", "alone.png")]
    assert np.array_equal(*pictures)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "🦊 in the 雪 with ünïcödé",
        "tab\tnewline\nbell\x07escape\x1b[31m",
        "(((",
        "x" * 3000,
        b"bad \xff\xfe bytes",
    ],
    ids=["empty", "unicode", "control", "parentheses", "long word", "not utf-8"],
)
def test_any_text_is_a_prompt(pochade: Command, prompt: str | bytes, tmp_path: Path) -> None:
    done = pochade("draw", prompt, "--steps", "1", "--seed", "1")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.iterdir()
    Image.open(path).load()


def test_templates_styles_and_wildcards(pochade: Command, tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "animal.txt").write_text("fox\nowl\n")
    (tmp_path / "styles.csv").write_text('name,prompt,negative_prompt\nflat,"{prompt}, flat style",photo\n')
    files = ("--wildcards", "words", "--styles", "styles.csv", "--style", "flat")
    done = pochade("draw", "a {red|blue} __animal__", *files, "--steps", "1", "--seed", "1", "--count", "6")
    assert done.returncode == 0, done.stderr
    drawn = [read_picture(tmp_path / name) for name in done.stdout.splitlines()]
    for _, found in drawn:
        assert re.fullmatch("a (red|blue) (fox|owl), flat style", found.prompt)
        assert found.negative_prompt == "photo"
        assert found.values["Template"] == "a {red|blue} __animal__, flat style"
    assert len({found.prompt for _, found in drawn}) > 1
    pixels, last = drawn[-1]
    again = pochade("draw", last.prompt, "--negative", "photo", "--steps", "1", "--seed", "6", "-o", "x.png")
    assert again.returncode == 0
    same, found = read_picture(tmp_path / "x.png")
    assert np.array_equal(same, pixels)
    assert "Template" not in found.values


def read_picture(path: Path) -> "tuple[np.typing.NDArray[np.uint8], Parameters]":
    with Image.open(path) as image:
        return np.asarray(image), read_parameters(image.info["parameters"])


@pytest.mark.parametrize(
    ("prompt", "options", "said"),
    [
        ("a cat", (), ""),
        ("a cat", ("-v",), "prompt: 2 tokens, 1 chunk\n"),
        ("a cat BREAK a (dog:1.2)", ("--count", "2"), "prompt: 4 tokens, 2 chunks\n"),
        ("a BREAK b", ("--negative", "dark"), "prompt: 2 tokens, negative prompt: 1 token, 2 chunks\n"),
    ],
)
def test_says_how_long_the_prompt_is(
    pochade: Command, prompt: str, options: tuple[str, ...], said: str
) -> None:
    done = pochade("draw", prompt, "--steps", "1", "--seed", "1", *options)
    assert done.returncode == 0
    assert done.stderr == said


BAD = {
    "no steps": (["--steps", "0"], "--steps is 0"),
    "many steps": (["--steps", "10000"], "--steps is 10000"),
    "odd size": (["--size", "100x64"], "width in --size is 100;"),
    "huge size": (["--size", "100000x64"], "width in --size is 100000;"),
    "sampler": (["--sampler", "foo"], "sampler 'foo' is unknown; one of: Euler"),
    "which samplers": (
        ["--sampler", "?"],
        "sampler '?' is unknown; one of: Euler, Euler a, Heun, LMS, DPM2,",
    ),
    "schedule": (["--schedule", "foo"], "schedule 'foo' is unknown"),
    "which schedules": (["--schedule", "?"], "one of: Automatic, Uniform, Karras, Exponential,"),
    "device": (["--device", "abacus"], "device 'abacus' is unknown; one of: auto, cpu"),
    "precision": (["--precision", "f12"], "precision 'f12' is unknown"),
    "engine": (["--engine", "steam"], "engine 'steam' is unknown"),
    "cfg": (["--cfg", "nan"], "--cfg is nan"),
    "seed": (["--seed", "-3"], "--seed is -3"),
    "suffix": (["-o", "picture.gif"], "picture.gif"),
    "no model": (["--model", "nowhere"], "'nowhere' does not exist"),
    "no wildcards": (["--negative", "__x__"], "the wildcard '__x__', but no folder"),
    "no folder of wildcards": (["--wildcards", "nowhere"], "'nowhere' does not exist"),
    "no styles": (["--style", "flat"], "style 'flat' needs a file of styles; give one as --styles FILE"),
    "no file of styles": (["--styles", "nowhere.csv"], "'nowhere.csv' cannot be read"),
    "network": (["--negative", "<lora:x:y>"], "'y' in '<lora:x:y>' is not a number"),
    "no words of memory": (["--count", "0"], "--count is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(pochade: Command, name: str, tmp_path: Path) -> None:
    arguments, expected = BAD[name]
    done = pochade("draw", "a cat", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("pochade: error: ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(tmp_path.iterdir())


def test_a_prompt_of_100_kB_is_refused_with_its_length(pochade: Command) -> None:
    done = pochade("draw", "a red fox " * 10_000, "--steps", "1")
    assert done.returncode == 1
    assert re.search(r"the prompt has [\d,]+ tokens; at most 4,800 are read", done.stderr)


def test_a_size_that_is_none(pochade: Command) -> None:
    done = pochade("draw", "a cat", "--size", "big")
    assert done.returncode == 2
    assert "write WIDTHxHEIGHT" in done.stderr


def test_a_folder_that_cannot_be_written(pochade: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    done = pochade("draw", "a cat", "--steps", "1", "-o", "file/cat.png")
    assert done.returncode == 1
    assert "file/cat.png" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send to a process")
def test_ctrl_c_stops_and_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pochade", "draw", "a cat", "--steps", "1000", "--sampler", "Heun"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's job in the background ignores Ctrl-C, and so would all that it starts, these tests too.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    watched = psutil.Process(process.pid)
    while watched.cpu_times().user < 3:  # into the drawing, also on a busy machine: starting takes less
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip().endswith("pochade: stopped")
    assert "Traceback" not in errors
    assert not any(tmp_path.iterdir())


def test_doctor_says_what_would_be_used(pochade: Command) -> None:
    done = pochade("doctor", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert re.search(r"would use  openvino on cpu in (bf16|f32)", done.stdout)
    assert "because" in done.stdout


def test_help_shows_examples(pochade: Command) -> None:
    done = pochade("draw", "--help")
    assert done.returncode == 0
    assert 'pochade draw "a red apple"' in done.stdout
