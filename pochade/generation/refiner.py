"""A second model that takes over for the last part of a pass: XL's refiner."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.parametrization import Denoise, denoiser
from pochade.diffusion.schedule import NoiseSchedule
from pochade.generation.conditioning import PromptPlan, condition_wordings
from pochade.generation.guided_unet import predictor
from pochade.generation.prompt_plan import Wording
from pochade.generation.prompt_weights import Weight
from pochade.loading.model import Model
from pochade.request import Settled

Floats = NDArray[np.float32]

ROUNDING = 1e-3
"""Of a training step: how far a level that was meant to lie on one may be from it."""


@dataclass(frozen=True, eq=False)
class RefinerSwitch:
    """A model that does the steps that begin below a share of the noise levels, in its own words.

    told: what its own text encoders made of the wordings. below: the training step.
    """

    model: Model
    told: PromptPlan
    switch: float

    def acts(self, level: float, schedule: NoiseSchedule) -> bool:
        """Whether it does the step that begins at a noise level of this schedule."""
        return schedule.timestep(level) < round(schedule.steps * (1 - self.switch)) - ROUNDING

    def denoiser(
        self, request: Settled, wording: Wording, weights: Sequence[Weight], extra: Floats | None
    ) -> Denoise:
        """Of a wording. extra: as in `predictor`, for a model that reads it. No ControlNet steers it."""
        networks = self.model.networks
        seen = extra if networks.traits.reads_mask else None
        predict = predictor(networks, request, self.told.conditionings[wording], weights, seen)
        return denoiser(predict, self.model.parametrization, self.model.schedule)


def refining(
    model: Model, request: Settled, wordings: Sequence[Wording], *, tiling: bool = False
) -> RefinerSwitch:
    """A model ready for a request that asks for it."""
    assert request.refiner is not None
    networks = replace(model.networks, tiling=tiling)
    told = condition_wordings(
        networks,
        model.tokenizers,
        wordings,
        request.clip_skip,
        request.emphasis,
        zeros_for_no_text=model.family.no_text(model.checkpoint),
    )
    return RefinerSwitch(
        replace(model, networks=networks), PromptPlan(wordings, told), request.refiner.switch
    )
