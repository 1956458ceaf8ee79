"""Detection of the prediction type: all sources, and their precedence."""

import json
import shutil

import pytest
import torch

from pochade.checkpoints.contents import contents_of
from pochade.checkpoints.read import read_checkpoint
from pochade.errors import InvalidCheckpoint
from pochade.tools.convert import convert

torch.set_num_threads(1)

V_PRED, ZTSNR = {"v_pred": torch.tensor([])}, {"ztsnr": torch.tensor([])}

LDM = """\
model:
  base_learning_rate: 1.0e-4
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    # parameterization: "x0"
    {entry}
    linear_start: 0.00085
"""
SGM = """\
model:
  target: sgm.models.diffusion.DiffusionEngine
  params:
    scale_factor: 0.13025
    denoiser_config:
      target: sgm.modules.diffusionmodules.denoiser.DiscreteDenoiser
      params:
        num_idx: 1000
        scaling_config:
          target: sgm.modules.diffusionmodules.denoiser_scaling.{scaling}
"""


@pytest.fixture
def file(whole):
    """A file with further keys and metadata, and what stands beside it; nothing is left behind."""
    beside = []

    def make(family, keys=None, metadata=None, yaml=None, name="model.safetensors", suffix=".yaml"):
        path = whole(family).file(lambda state: {**state, **(keys or {})}, metadata=metadata or {}, name=name)
        if yaml is not None:
            beside.append(path.with_suffix(suffix))
            beside[-1].write_bytes(yaml if isinstance(yaml, bytes) else yaml.encode())
        return path

    yield make
    for each in beside:
        each.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("key", "said", "expected"),
    [
        ("modelspec.prediction_type", "v", "v_prediction"),
        ("modelspec.prediction_type", "V-Prediction", "v_prediction"),
        ("modelspec.prediction_type", "velocity", "v_prediction"),
        ("modelspec.prediction_type", "epsilon", "epsilon"),
        ("modelspec.prediction_type", "None", "epsilon"),
        ("modelspec.prediction_type", "x0", "sample"),
        ("modelspec.predict_key", "v", "v_prediction"),  # ComfyUI's name for it
        ("modelspec.predict_key", "epsilon", "epsilon"),
        ("ss_v_parameterization", "True", "v_prediction"),
        ("ss_v_parameterization", "False", "epsilon"),
    ],
)
def test_metadata(file, key, said, expected):
    checkpoint = read_checkpoint(file("SD 1.5", metadata={key: said}))
    assert checkpoint.scheduler["prediction_type"] == expected


@pytest.mark.parametrize(
    "metadata",
    [
        {"modelspec.prediction_type": "epsilon"},
        {"modelspec.predict_key": "epsilon"},
        {"pochade.config": '{"scheduler": {"prediction_type": "epsilon", "rescale_betas_zero_snr": false}}'},
    ],
)
def test_keys_come_before_metadata(file, metadata):
    """A merge may keep the metadata of one model and the keys of another."""
    checkpoint = read_checkpoint(file("SDXL", {**V_PRED, **ZTSNR}, metadata))
    assert checkpoint.scheduler["prediction_type"] == "v_prediction"
    assert checkpoint.scheduler["rescale_betas_zero_snr"] is True
    assert checkpoint.prediction_reason == "the file holds the key 'v_pred'"
    given = {"scheduler": {"prediction_type": "epsilon", "rescale_betas_zero_snr": False}}
    asked = read_checkpoint(file("SDXL", {**V_PRED, **ZTSNR}, metadata), config=given)
    assert asked.scheduler["prediction_type"] == "epsilon"
    assert asked.scheduler["rescale_betas_zero_snr"] is False


def test_a_schedule_that_ends_in_noise(file):
    alone = read_checkpoint(file("SDXL", ZTSNR))
    assert (alone.scheduler["prediction_type"], alone.scheduler["rescale_betas_zero_snr"]) == (
        "v_prediction",
        True,
    )
    told = {"modelspec.prediction_type": "v", "ss_zero_terminal_snr": "True"}
    assert read_checkpoint(file("SDXL", metadata=told)).scheduler["rescale_betas_zero_snr"] is True


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        (LDM.format(entry='parameterization: "v"'), "v_prediction"),
        (LDM.format(entry="parameterization: v   # 768 pixels"), "v_prediction"),
        (LDM.format(entry="'parameterization' : 'eps'"), "epsilon"),
        (LDM.format(entry="parameterization: x0"), "sample"),
        (LDM.format(entry="timesteps: 1000"), "epsilon"),  # says nothing
        (LDM.format(entry='parameterization: "v"').replace("\n", "\r\n"), "v_prediction"),
        ("\N{BYTE ORDER MARK}" + LDM.format(entry="parameterization: v"), "v_prediction"),
        ('{"model": {"params": {"parameterization": "v", "timesteps": 1000}}}', "v_prediction"),  # JSON
        ("model: {params: {timesteps: 1000, parameterization: v}}", "v_prediction"),
        (LDM.format(entry="# parameterization: v"), "epsilon"),
        (LDM.format(entry="timesteps: 1000 # was {parameterization: v}"), "epsilon"),
        (LDM.format(entry="parameterization: null"), "epsilon"),
        (SGM.format(scaling="VScaling"), "v_prediction"),
        (SGM.format(scaling="EpsScaling"), "epsilon"),
        ("", "epsilon"),
    ],
)
def test_the_yaml_file_beside_it(file, yaml, expected):
    path = file("SD 1.5", yaml=yaml, name="some.model.v1.safetensors")
    assert path.with_suffix(".yaml").name == "some.model.v1.yaml"
    assert read_checkpoint(path).scheduler["prediction_type"] == expected


@pytest.mark.parametrize("suffix", [".yml", ".YAML"])
def test_other_endings_of_the_yaml_file(file, suffix):
    path = file("SD 1.5", yaml=LDM.format(entry="parameterization: v"), suffix=suffix)
    assert read_checkpoint(path).scheduler["prediction_type"] == "v_prediction"


def test_the_yaml_file_comes_behind_keys_and_before_metadata(file):
    path = file("SDXL", V_PRED, yaml=LDM.format(entry="parameterization: eps"))
    assert read_checkpoint(path).scheduler["prediction_type"] == "v_prediction"
    eps = {"modelspec.prediction_type": "epsilon"}
    checkpoint = read_checkpoint(file("SD 2.1", metadata=eps, yaml=LDM.format(entry='parameterization: "v"')))
    assert checkpoint.scheduler["prediction_type"] == "v_prediction"
    assert checkpoint.prediction_reason == "as in 'model.yaml'"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keys": {"edm_vpred.sigma_max": torch.tensor(80.0)}}, r"has EDM v-prediction \(CosXL"),
        ({"keys": {"edm_vpred.sigma_min": torch.tensor(0.002), **V_PRED}}, r"has EDM v-prediction"),
        ({"keys": {"edm_mean": torch.zeros(4)}}, r"has EDM preconditioning \(Playground"),
        ({"yaml": SGM.format(scaling="VScalingWithEDMcNoise")}, r"scaling 'VScalingWithEDMcNoise': .* EDM"),
        ({"yaml": SGM.format(scaling="EDMScaling")}, r"model\.yaml' says scaling 'EDMScaling'"),
        ({"yaml": LDM.format(entry="parameterization: w")}, r"parameterization 'w': it is unknown"),
        ({"yaml": b"\xff\xfe\x00"}, r"model\.yaml', the configuration of 'model\.safetensors', cannot"),
        ({"metadata": {"modelspec.prediction_type": "rectified flow"}}, r"'rectified flow': .* flow match"),
        ({"metadata": {"modelspec.predict_key": "edm"}}, r"predict_key 'edm': .* noise levels of EDM"),
        ({"metadata": {"modelspec.prediction_type": "score"}}, r"'score': it is unknown"),
        (
            {"metadata": {"pochade.config": '{"scheduler": {"_class_name": "EDMEulerScheduler"}}'}},
            r"_class_name 'EDMEulerScheduler'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(file, arguments, message):
    path = file("SDXL", **arguments)
    with pytest.raises(InvalidCheckpoint, match=message):
        read_checkpoint(path)
    if "metadata" not in arguments and b"\xff\xfe\x00" not in arguments.values():
        assert contents_of(path).kind == "other"


def test_what_is_wrong_can_be_said_otherwise(file):
    path = file("SDXL", metadata={"modelspec.prediction_type": "score"})
    assert read_checkpoint(path, prediction="v").scheduler["prediction_type"] == "v_prediction"
    path = file("SDXL", yaml=SGM.format(scaling="EDMScaling"))
    assert read_checkpoint(path, prediction="epsilon").prediction_reason == "as requested"


# --- folders ----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(whole, tmp_path):
    """A diffusers folder whose scheduler says so."""

    def make(**entries):
        made = shutil.copytree(whole("SDXL").saved(), tmp_path / "model", dirs_exist_ok=True)
        path = made / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
        return made

    return make


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            {"_class_name": "EDMEulerScheduler"},
            r"scheduler_config\.json' says _class_name 'EDMEulerSch.* EDM",
        ),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, r"noise levels of EDM"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, r"'FlowMatchEulerDisc.* by flow matching"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, r"trained by flow matching"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, r"noise levels of EDM"),
        ({"timestep_type": "continuous", "prediction_type": "v_prediction"}, r"timestep_type 'continuous'"),
        ({"use_flow_sigmas": True}, r"'use_flow_sigmas': .* flow matching"),
        ({"prediction_type": "flow_prediction"}, r"prediction_type 'flow_prediction': .* flow matching"),
        ({"prediction_type": "x1"}, r"prediction_type 'x1': it is unknown"),
        ({"prediction_type": None}, r"prediction_type 'None': it is unknown"),
    ],
)
def test_schedulers_that_cannot_be_drawn(folder, entries, message):
    path = folder(**entries)
    with pytest.raises(InvalidCheckpoint, match=message):
        read_checkpoint(path)
    assert contents_of(path).kind == "other"


@pytest.mark.parametrize(
    "name",
    [
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "EulerAncestralDiscreteScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    ],
)
def test_schedulers_of_stable_diffusion(folder, name):
    path = folder(_class_name=name, timestep_type="discrete", use_flow_sigmas=False)
    assert read_checkpoint(path).scheduler["_class_name"] == name
    assert contents_of(path).kind == "model"


def test_a_folder_may_be_told_otherwise(folder):
    checkpoint = read_checkpoint(folder(prediction_type="x1"), prediction="v")
    assert checkpoint.scheduler["prediction_type"] == "v_prediction"
    assert checkpoint.prediction_reason == "as requested"


@pytest.mark.parametrize(
    ("prediction", "zero_snr"),
    [
        ("epsilon", False),
        ("epsilon", True),
        ("v_prediction", False),
        ("v_prediction", True),
        ("sample", False),
    ],
)
def test_a_converted_file_says_the_same(folder, tmp_path, prediction, zero_snr):
    path = folder(prediction_type=prediction, rescale_betas_zero_snr=zero_snr)
    for _ in convert(read_checkpoint(path), tmp_path / "x.safetensors"):
        pass
    scheduler = read_checkpoint(tmp_path / "x.safetensors").scheduler
    assert (scheduler["prediction_type"], scheduler["rescale_betas_zero_snr"]) == (prediction, zero_snr)
