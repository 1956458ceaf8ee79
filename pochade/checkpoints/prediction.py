"""Detects what the UNet of a checkpoint predicts: noise, v, or the data. Tensor shapes do not determine it.

The first rule that applies decides:
1. `load(prediction=...)` or the scheduler of `load(config=...)`;
2. the key `v_pred`, an empty tensor that trainers of XL models add for this purpose;
3. the file `x.yaml` next to `x.safetensors`, as in A1111's web UI: `parameterization` of the latent
   diffusion code, or the scaling of the generative models code;
4. the file's metadata: Pochade's own, `modelspec.prediction_type`, `modelspec.predict_key` as ComfyUI writes
   it, `ss_v_parameterization`, or `modelspec.architecture`, which names SD 2.x at 768 pixels as
   "stable-diffusion-v2-768-v";
5. the key `ztsnr`: a model with a zero-terminal-SNR schedule cannot predict noise at its last timestep;
6. SD 2.x: v, unless it is an inpainting model or its training stopped at step 875,000, as that of the
   published models at 512 pixels did. diffusers guesses the same, which is wrong for later models at 512
   pixels;
7. everything else: noise.

Models that were trained on EDM's noise levels (Karras et al. 2022) or by flow matching are not supported; if
a file, its metadata or a scheduler indicate this, an error names the reason. `contents` detects EDM's keys.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy.typing as npt

from pochade.checkpoints.detect import FileFormat
from pochade.errors import InvalidCheckpoint

Array = npt.NDArray[Any]

EPSILON, V, SAMPLE = "epsilon", "v_prediction", "sample"
V_KEY, ZERO_SNR_KEY = "v_pred", "ztsnr"
LAST_STEP_AT_512 = "875000"

NAMES: Mapping[str, str] = {
    **dict.fromkeys(("epsilon", "eps", "noise"), EPSILON),
    **dict.fromkeys(("v", "v_prediction", "v_pred", "vpred", "velocity"), V),
    **dict.fromkeys(("x0", "sample"), SAMPLE),
}
"""Names of prediction types in other programs, in lower case with "_" -> names in diffusers."""

METADATA = ("modelspec.prediction_type", "modelspec.predict_key")
SCALINGS: Mapping[str, str] = {"EpsScaling": EPSILON, "VScaling": V}
"""Scaling classes of the generative models code, without those of EDM."""

MAX_YAML_BYTES = 1_000_000
BEGIN = r"""(?:^|[{,])\s*["']?"""
"""Matches the start of an entry: at the start of a line, or within braces as in JSON."""
VALUE = r"""["']?\s*:\s*["']?"""
COMMENT = re.compile(r"(?:^|(?<=\s))#.*", re.MULTILINE)
PARAMETERIZATION = re.compile(rf"""{BEGIN}parameterization{VALUE}([^\s"'#,}}]+)""", re.MULTILINE)
SCALING = re.compile(rf"""{BEGIN}target{VALUE}[\w.]*\.denoiser_scaling\.(\w+)""", re.MULTILINE)
YAML_SUFFIXES = (".yaml", ".yml", ".YAML", ".YML")
NOTHING = ("null", "Null", "NULL", "~")

EDM = "it was trained on the noise levels of EDM, which is not supported"
FLOW = "it was trained by flow matching, which is not supported"
NAME_IT = "name what the model predicts (--prediction epsilon or v_prediction)"
CORRECT = "correct the file"
FOREIGN_SCHEDULERS: Mapping[str, str] = {
    "EDM": EDM,
    "CosineDPMSolver": EDM,
    "CMStochasticIterative": EDM,
    "KarrasVe": EDM,
    "ScoreSdeVe": EDM,
    "FlowMatch": FLOW,
}
"""Prefixes of class names in diffusers."""


def find_prediction(
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str],
    family: FileFormat,
    in_channels: int,
    where: Path,
    stored: Mapping[str, Any],
) -> tuple[str, str]:
    """Return (prediction type in diffusers' name, reason). stored: the scheduler in the file's metadata.

    Raises InvalidCheckpoint for an unsupported prediction type.
    """
    if V_KEY in tensors:
        return V, f"the file holds the key '{V_KEY}'"
    prediction = read_yaml_prediction(where) or _in_metadata(metadata, where, stored)
    if prediction is not None:
        return prediction
    if ZERO_SNR_KEY in tensors:
        return V, f"the file holds the key '{ZERO_SNR_KEY}'"
    if not family.predicts_v:
        return EPSILON, f"the default of {family.label}"
    if in_channels == 9:
        return EPSILON, "as the inpainting model of SD 2.x"
    if metadata.get("global_step") == LAST_STEP_AT_512:
        return EPSILON, "as SD 2.x at 512 pixels, whose training stopped at the same step"
    return V, "a guess: most SD 2.x models do, and the file has no information"


def predicts_to_zero_snr(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> bool:
    """Whether the noise schedule has zero terminal SNR (Lin et al. 2023)."""
    return ZERO_SNR_KEY in tensors or metadata.get("ss_zero_terminal_snr", "").lower() == "true"


def read_yaml_prediction(where: Path) -> tuple[str, str] | None:
    """Read the prediction type from the YAML file next to a checkpoint; None if it has neither entry.

    Raises InvalidCheckpoint if it cannot be read or names an unsupported type.
    """
    paths = [where.with_suffix(suffix) for suffix in YAML_SUFFIXES]
    path = next((path for path in paths if path != where and path.is_file()), None)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_YAML_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidCheckpoint(
            f"'{path}', the configuration of '{where.name}', cannot be read ({error}); repair it, or"
            " remove it"
        ) from error
    text = COMMENT.sub("", text)
    found = PARAMETERIZATION.search(text)
    if found is not None and found[1] not in NOTHING:
        return _named(found[1], f"parameterization '{found[1]}'", path), f"as in '{path.name}'"
    found = SCALING.search(text)
    if found is None:
        return None
    if found[1] not in SCALINGS:
        _refuse(path, EDM if "EDM" in found[1] else "it is not supported", f"scaling '{found[1]}'")
    return SCALINGS[found[1]], f"as in '{path.name}'"


def check_scheduler(scheduler: Mapping[str, Any], where: Path | str) -> None:
    """Raise InvalidCheckpoint for the scheduler of an unsupported model, naming the reason.

    scheduler: the content of a `scheduler_config.json`.
    """
    name = str(scheduler.get("_class_name", ""))
    reason = next((why for begin, why in FOREIGN_SCHEDULERS.items() if name.startswith(begin)), None)
    if reason is not None:
        _refuse(where, reason, f"_class_name '{name}'", CORRECT)
    if scheduler.get("use_flow_sigmas") is True:
        _refuse(where, FLOW, "'use_flow_sigmas'", CORRECT)
    if scheduler.get("timestep_type") == "continuous":
        _refuse(where, EDM, "timestep_type 'continuous'", CORRECT)
    prediction = scheduler.get("prediction_type", EPSILON)
    if prediction not in (EPSILON, V, SAMPLE):
        _named(str(prediction), f"prediction_type '{prediction}'", where)
        raise InvalidCheckpoint(
            f"'{where}' says prediction_type {prediction!r}; one of: {', '.join((EPSILON, V, SAMPLE))}."
            f" {NAME_IT}"
        )


# --- inside -----------------------------------------------------------------------------------------------


def _in_metadata(
    metadata: Mapping[str, str], where: Path, stored: Mapping[str, Any]
) -> tuple[str, str] | None:
    stored_type = stored.get("prediction_type")
    if stored_type is not None:
        return _named(
            str(stored_type), f"prediction_type '{stored_type}'", where
        ), "as in the file's metadata"
    for key in METADATA:
        prediction = metadata.get(key, "").strip()
        if prediction and prediction.lower() != "none":
            return _named(
                prediction, f"{key} '{prediction}'", where
            ), f"the file's metadata say '{prediction}'"
    if metadata.get("ss_v_parameterization", "").lower() == "true":
        return V, "the file's metadata say 'ss_v_parameterization'"
    architecture = metadata.get("modelspec.architecture", "")
    if architecture.startswith("stable-diffusion-v2-"):
        kind = architecture.split("/")[0]
        return (V if kind.endswith("-v") else EPSILON), f"the file's metadata say '{architecture}'"
    return None


def _named(prediction: str, entry: str, where: Path | str) -> str:
    plain = prediction.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in NAMES:
        return NAMES[plain]
    flows = "flow" in plain or plain == "rf"
    _refuse(where, EDM if "edm" in plain else FLOW if flows else "it is unknown", entry)


def _refuse(where: Path | str, why: str, entry: str, advice: str = NAME_IT) -> NoReturn:
    raise InvalidCheckpoint(f"'{where}' says {ascii(entry)[1:-1][:120]}: {why}. If that is wrong, {advice}")
