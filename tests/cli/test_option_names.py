"""Error messages name the options of the command line."""

import re
from argparse import Namespace
from pathlib import Path

import pytest

from pochade.cli.main import main
from pochade.cli.option_names import OPTIONS, in_options


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--clip-skip", "20"], "--clip-skip is 20; it must lie between 1 and 12"),
        (["--cfg", "200"], "--cfg is 200.0; it must lie between 0 and 100"),
        (["--steps", "0"], "--steps is 0; it must lie between 1 and 1000"),
        (["--seed", "-4"], "--seed is -4; it must lie between 0 and"),
        (["--size", "9000x64"], "the width in --size is 9000; it must lie between 8 and 8192"),
        (["--size", "64x9000"], "the height in --size is 9000"),
        (["--negative", "x" * 200_001], "--negative has 200,001 characters"),
        (["--rng", "mps"], "--rng is 'mps'; one of: NV, CPU"),
        (["--emphasis", "loud"], "--emphasis is 'loud'; one of: Original"),
        (["--speed", "warp"], "--speed 'warp' is unknown; one of: exact"),
        (["--seed-size", "2x64"], "a side in --seed-size is 2; it must lie between 8 and 8192"),
        (["--hires", "9"], "--hires is 9.0; it must lie between 1 and 8"),
        (["--hires", "2", "--hires-steps", "0"], "--hires-steps is 0"),
        (["--hires", "2", "--hires-cfg", "200"], "--hires-cfg is 200.0"),
        (
            ["--hires", "2", "--hires-strength", "2"],
            "--hires-strength is 2.0; it must lie between 0 and 1",
        ),
        (["--hires", "2", "--hires-prompt", "x" * 200_001], "--hires-prompt has 200,001 characters"),
        (["--hires", "2", "--hires-negative", "x" * 200_001], "--hires-negative has 200,001 characters"),
        (["--refiner", "r", "--refiner-switch", "2"], "--refiner-switch is 2.0"),
        (["--init", "in.png", "--strength", "2"], "--strength is 2.0; it must lie between 0 and 1"),
        (["--init", "in.png", "--mask", "in.png", "--mask-blur", "999"], "--mask-blur is 999.0"),
        (
            ["--init", "in.png", "--mask", "in.png", "--only-masked", "--padding", "9999"],
            "--padding is 9999",
        ),
        (
            ["--control", "in.png", "--control-model", "x", "--control-strength", "3"],
            "--control-strength is 3.0",
        ),
        (["--control", "in.png", "--control-model", "x", "--control-start", "3"], "--control-start is 3.0"),
        (["--control", "in.png", "--control-model", "x", "--control-end", "3"], "--control-end is 3.0"),
        (["--threads", "0"], "--threads is 0; it must lie between 1 and 1024"),
        (["--engine", "numpy", "--threads", "2"], "--threads is 2, but the numpy engine cannot limit"),
        (["--device", "tpu"], "--device 'tpu' is unknown; one of: auto, cpu"),
        (["--engine", "onnx"], "--engine 'onnx' is unknown; one of: auto, openvino"),
        (["--precision", "f8"], "--precision 'f8' is unknown; one of: auto, f32"),
        (["--sampler", "Eular"], "--sampler 'Eular' is unknown; "),
        (
            ["--sampler", "Heun", "--hires", "2", "--hires-sampler", "Eular"],
            "--hires-sampler 'Eular' is unknown",
        ),
        (["--schedule", "Karass"], "--schedule 'Karass' is unknown; "),
    ],
    ids=lambda value: value[-2] if isinstance(value, list) else "",
)
def test_errors_name_the_option(
    words: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64)).save("in.png")
    assert main(["draw", "a fox", *words]) == 1
    assert f"pochade: error: {complaint}" in capfd.readouterr().err


def test_what_was_not_given_keeps_its_name() -> None:
    message = "clip_skip is 20; it must lie between 1 and 12"
    assert in_options(message, Namespace(clip_skip=None)) == message
    assert in_options(message, Namespace()) == message
    assert in_options("seeds is 3", Namespace(seed=3)) == "seeds is 3"
    assert in_options("device 'x' is unknown", Namespace(device="auto")) == "device 'x' is unknown"


def test_the_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["draw", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    named = {re.search(r"--[a-z-]+", option)[0] for _, option in OPTIONS.values()} - {"--frames"}  # of walk
    assert named <= known


def test_folding_without_a_lora_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["draw", "a fox"], ["plot", "a fox", "--x", "seed=1-2"], ["walk", "a fox", "a cat"]):
        assert main([*command, "--fold-loras"]) == 1
        assert "--fold-loras needs a LoRA: give one as --lora" in capfd.readouterr().err
    # One that any prompt names is enough: the next fault is that it is unknown.
    for words in (["a fox <lora:absent:1>"], ["a fox", "--hires", "2", "--hires-prompt", "<lora:absent>"]):
        assert main(["draw", *words, "--fold-loras", "--size", "64x64", "--steps", "1"]) == 1
        said = capfd.readouterr().err
        assert "<lora:absent" in said and "--fold-loras" not in said


def test_the_limits_of_a_server_say_what_they_bound(capsys: pytest.CaptureFixture[str]) -> None:
    from dataclasses import fields

    from pochade.cli.server_options import LIMITS
    from pochade.jobs.limits import Limits

    assert set(LIMITS) == {field.name for field in fields(Limits)}
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "--max-body-bytes N size of a request, in bytes (default: 67108864)" in said
    assert "--max-side N width and height of a picture, in pixels (default: 8192)" in said
