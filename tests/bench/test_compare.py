"""`make bench`: contenders, counting and figures."""

import math
import xml.etree.ElementTree as xml

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

import compare
from contenders import full_models
from contenders.full_models import Case, parsed_seconds
from contenders.models import SHAPES, UNET, UNET_XL, make_model, random_model
from measure.ceiling import register_ceilings
from measure.plot import bars
from measure.record import Measured
from pochade.configs.read_json import unet_config
from pochade.loading.parameter_shapes import unet_shapes

LOG = """[INFO ] sampling completed, taking 12.50s
[INFO ] decode_first_stage completed, taking 3.25s
"""


def starter(tmp_path, **options):
    return Case(model=make_model(SHAPES["starter"], tmp_path), side=128, **options)


@pytest.mark.parametrize(("config", "millions"), [(UNET, 859.5), (UNET_XL, 2567.5)])
def test_the_shapes_are_the_published_ones(config, millions):
    shapes = unet_shapes(unet_config(config))
    assert sum(math.prod(shape) for shape in shapes.values()) == pytest.approx(millions * 1e6, rel=1e-3)


@pytest.mark.parametrize("name", ["sd15", "xl"])
def test_a_random_model_is_one_for_diffusers_too(name):
    made = random_model(SHAPES[name])
    shapes = {key: tensor_maker.args[1] for key, tensor_maker in made.unet.tensors.makers.items()}
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**made.unet.config).state_dict()
    assert shapes == {key: tuple(value.shape) for key, value in theirs.items()}
    assert (made.text_encoder_2 is not None) == (name == "xl")


def test_the_contenders(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "native_precisions", lambda: ["f32", "bf16", "int8"])
    case = starter(tmp_path)
    ours = ["pochade-f32", "pochade-bf16", "pochade-int8"]
    theirs = ["diffusers-f32", "diffusers-bf16"]
    assert list(compare.chosen("evaluation", case, ["exact"])) == ours + theirs
    pictures = compare.chosen("picture", case, ["exact", "fast"])
    assert (
        list(pictures)[:2] == ["pochade-f32", "pochade-f32-fast"]
        and pictures["pochade-f32-fast"].speed == "fast"
    )
    traced = starter(tmp_path, trace=tmp_path, int8=tmp_path / "unet.xml", file=tmp_path / "a")
    assert list(compare.chosen("picture", traced, ["exact"])) == [
        *ours, "diffusers-f32", "openvino-trace-f32", "diffusers-bf16", "openvino-trace-bf16",
        "openvino-trace-int8", "sd.cpp-f16",
    ]  # fmt: skip
    assert list(compare.chosen("evaluation", case, ["exact"], ["diffusers-f32"])) == ["diffusers-f32"]
    with pytest.raises(SystemExit, match="there is no contender 'other' here; one of: pochade-f32"):
        compare.chosen("evaluation", case, ["exact"], ["other"])


def test_a_case_is_the_same_for_all(tmp_path):
    case, again = starter(tmp_path), starter(tmp_path)
    assert case.inputs["sample"].shape == (2, 4, 16, 16) and case.inputs["context"].shape[1] == 32
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, again.inputs[name])
    assert case.flop > 1e9


def test_stable_diffusion_cpp_is_asked_and_timed(tmp_path, monkeypatch):
    """A program in its place notes what it was called with, and says what that one would."""
    program = tmp_path / "sd-cli"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\ncat <<END\n{LOG}END\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert full_models.sd_cpp() == str(program)
    case = starter(tmp_path, steps=7, file=tmp_path / "model.safetensors")
    contender = full_models.sd_cpp_picture(case, tmp_path, "f16")
    assert contender.evaluate() == 15.75
    asked = (tmp_path / "asked").read_text()
    for said in (f"-m {tmp_path}/model.safetensors", "--steps 7", "-W 128", "--cfg-scale 7.0", "--type f16"):
        assert said in asked
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    with pytest.raises(RuntimeError, match="ended with status 3: broken"):
        full_models.sd_cpp_picture(case, tmp_path, "f16")
    with pytest.raises(RuntimeError, match="did not say"):
        parsed_seconds("sampling completed, taking 1.0s")


def test_the_registers_have_a_ceiling():
    found = register_ceilings(1)
    if not found:
        pytest.skip("there is no C compiler")
    assert found["f32"] > 1e9
    assert set(found) <= {"f32", "bf16", "int8"}


def test_no_ceiling_without_a_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert register_ceilings(1) == {}


def test_bars_are_as_long_as_what_they_stand_for(tmp_path):
    path = tmp_path / "new" / "plot.svg"
    bars(path, "a <picture>", {"theirs": 4.0, "pochade-f32": 1.0}, "pochade")
    tree = xml.parse(path).getroot()
    drawn = [each for each in tree.iter() if each.tag.endswith("rect") and each.get("x")]
    lengths = [float(each.get("width")) for each in drawn]
    assert lengths[1] == 4 * lengths[0] and drawn[0].get("fill") != drawn[1].get("fill")
    texts = [each.text for each in tree.iter() if each.tag.endswith("text")]
    assert texts == ["a <picture>", "pochade-f32", "1 s (0.25)", "theirs", "4 s (1.00)"]


def test_starts_memory_and_shares():
    one = Measured(
        seconds=[2.0] * 5,
        processor_s=[2.0] * 5,
        others_s=[0.0] * 5,
        error=0.0,
        threads=1,
        phases={"load": 0.5, "first": 1.0},
        peak_bytes=10**9,
        first_phases={"load": 0.5, "first": 7.0},
        first_peak_bytes=3 * 10**9,
    )
    lines = compare.memory_and_starts({"it": one}, {"it": {"registers": 0.5}}).splitlines()
    assert lines[2].split() == ["it", "7.50", "s", "1.50", "s", "3.00", "GB", "50%", "-"]
