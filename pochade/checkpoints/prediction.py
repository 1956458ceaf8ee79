"""What the UNet of a single file predicts: the noise, or v. No shape tells it.

The rule, from the top; the first that says something decides:
1. `load(prediction=...)` or the scheduler of `load(config=...)`;
2. the file's metadata: Pochade's own, `modelspec.prediction_type`, or `modelspec.architecture`, which names
   SD 2.x at 768 pixels as "stable-diffusion-v2-768-v";
3. the keys `v_pred` and `ztsnr`, empty tensors that trainers of XL models leave for this;
4. SD 2.x: v, unless it is an inpainting model or stopped at step 875,000, as the published ones at 512
   pixels did. diffusers guess the same. For a later model at 512 pixels the guess is wrong;
5. everything else: the noise.
"""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from pochade.checkpoints.detect import SD2, Family

Array = npt.NDArray[Any]

EPSILON, V = "epsilon", "v_prediction"
V_KEYS = ("v_pred", "ztsnr")
LAST_STEP_AT_512 = "875000"


def find_prediction(
    tensors: Mapping[str, Array], metadata: Mapping[str, str], family: Family, in_channels: int
) -> tuple[str, str]:
    """("epsilon" or "v_prediction", why)."""
    said = metadata.get("modelspec.prediction_type", "").strip().lower()
    if said in ("v", "v_prediction", "v-prediction", "velocity"):
        return V, f"the file's metadata say '{said}'"
    if said in ("epsilon", "eps"):
        return EPSILON, f"the file's metadata say '{said}'"
    architecture = metadata.get("modelspec.architecture", "")
    if architecture.startswith("stable-diffusion-v2-"):
        kind = architecture.split("/")[0]
        return (V if kind.endswith("-v") else EPSILON), f"the file's metadata say '{architecture}'"
    for key in V_KEYS:
        if key in tensors:
            return V, f"the file holds the key '{key}'"
    if family is not SD2:
        return EPSILON, f"{family.label} does unless a file says otherwise"
    if in_channels == 9:
        return EPSILON, "the inpainting model of SD 2.x does"
    if metadata.get("global_step") == LAST_STEP_AT_512:
        return EPSILON, "SD 2.x at 512 pixels does, and training stopped where that one's did"
    return V, "it is a guess: most of SD 2.x does, and nothing in the file says it"


def predicts_to_zero_snr(tensors: Mapping[str, Array]) -> bool:
    """Whether the noise schedule ends in pure noise (Lin et al. 2023)."""
    return "ztsnr" in tensors
