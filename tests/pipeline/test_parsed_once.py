"""A request is resolved once, and each of its prompts is parsed once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pochade.adapters.library import names
from pochade.checkpoints import safetensors
from pochade.cli.main import main
from pochade.generation.settle import settle
from pochade.prompts.composition import composition
from pochade.prompts.extra_networks import extra_networks
from pochade.prompts.parse import parse_prompt
from pochade.prompts.schedules import parse_schedule
from pochade.request_options import Blend, Hires
from tests.additions import write_adapter, write_embedding
from tests.calls import calls_of
from tests.reference import FACTOR
from tests.tiny_models import Model

SIDE = 8 * FACTOR
NEGATIVE, SECOND, SECOND_NEGATIVE = "ugly [x|y]", "a [green:1] pear AND b", "dull"
PARSERS = parse_prompt, extra_networks, composition, parse_schedule


def check_once(called: dict[str, list[str]], *texts: str) -> None:
    assert sorted(called["parse_prompt"]) == sorted(texts)
    for name in ("extra_networks", "composition", "parse_schedule"):
        assert all(count == 1 for count in Counter(called[name]).values()), name


@pytest.fixture
def folders(model: Callable[[str], Model], tmp_path: Path) -> Path:
    """`loras/lcm-lora.safetensors`, which is made for few steps, and an empty folder `words`."""
    tensors = model("SD 1.5").load().checkpoint.unet.tensors
    key = next(name for name in tensors if name.endswith("attn2.to_v.weight"))
    outputs, inputs = tensors[key].shape
    layer = f"unet.{key.removesuffix('.weight')}"
    state = {
        f"{layer}.lora_B.weight": np.zeros((outputs, 2), np.float32),
        f"{layer}.lora_A.weight": np.zeros((2, inputs), np.float32),
    }
    (tmp_path / "loras").mkdir()
    (tmp_path / "words").mkdir()
    safetensors.write(tmp_path / "loras" / "lcm-lora.safetensors", state, {})
    return tmp_path


def test_over_a_pipeline(model: Callable[[str], Model], folders: Path) -> None:
    pipeline = model("SD 1.5").load().with_library(folders / "loras", folders / "words")
    prompt = "a [red:blue:1] apple AND a pear MASK(0 0.5) <lora:lcm-lora:1>"
    with calls_of(*PARSERS, settle, names) as called:
        result = pipeline.txt2img(prompt, negative_prompt=NEGATIVE, seed=1, width=SIDE, height=SIDE)
    assert "Steps: 4, Sampler: LCM" in result.infotexts[0]
    check_once(called, prompt, NEGATIVE)
    assert len(called["settle"]) == len(called["names"]) == 1


def test_over_two_passes_and_a_blend(model: Callable[[str], Model], folders: Path) -> None:
    pipeline = model("SD 1.5").load().with_library(folders / "loras", folders / "words")
    options = {"negative_prompt": NEGATIVE, "seed": 1, "steps": 2, "width": SIDE, "height": SIDE}
    own = Hires(scale=1.5, steps=2, prompt=SECOND, negative_prompt=SECOND_NEGATIVE)
    with calls_of(*PARSERS, settle) as called:
        pipeline.txt2img("an [old:new:1] apple", hires=own, **options)
    check_once(called, "an [old:new:1] apple", NEGATIVE, SECOND, SECOND_NEGATIVE)
    assert len(called["settle"]) == 1
    with calls_of(*PARSERS, names) as called:  # the same prompts in both passes
        pipeline.txt2img("an [old:new:1] apple", hires=Hires(scale=1.5, steps=2), **options)
    check_once(called, "an [old:new:1] apple", NEGATIVE)
    assert len(called["names"]) == 1
    with calls_of(*PARSERS) as called:
        pipeline.txt2img("a fox", blend=Blend(prompt="a [cat:dog:1]", share=0.5), **options)
    check_once(called, "a fox", NEGATIVE, "a [cat:dog:1]")


def test_over_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "words").mkdir()
    write_adapter(tmp_path / "ink.safetensors")
    write_embedding(tmp_path / "words" / "blob.safetensors")
    prompts = ["a [red:blue:1] blob <lora:ink:0.5>", NEGATIVE, SECOND]
    command = ["draw", prompts[0], "--negative", NEGATIVE, "--hires", "2", "--hires-prompt", SECOND]
    command += ["--lora-dir", str(tmp_path), "--embeddings-dir", str(tmp_path / "words")]
    command += ["--size", "32x32", "--steps", "2", "--seed", "1", "--engine", "numpy"]
    with calls_of(*PARSERS, settle) as called:
        assert main([*command, "-o", str(tmp_path / "a.png")]) == 0, capsys.readouterr().err
    check_once(called, *prompts)
    assert len(called["settle"]) == 1
