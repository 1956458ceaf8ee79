"""The refiner: a second model that takes over for the last part of a pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pochade.diffusion.parametrization import Denoise, denoiser
from pochade.diffusion.schedule import NoiseSchedule
from pochade.generation.conditioning import PromptPlan, condition_steps
from pochade.generation.guided_unet import predictor
from pochade.generation.prompt_plan import StepPrompts
from pochade.generation.prompt_weights import Weight
from pochade.loading.model import Model
from pochade.request import Settled

Floats = NDArray[np.float32]

ROUNDING = 1e-3
"""Tolerance in timesteps for the level at which the refiner takes over."""


@dataclass(frozen=True, eq=False)
class RefinerSwitch:
    """A model that takes over for the steps below a share of the timesteps.

    prompt_plan: the prompts, encoded by its own text encoders. switch: the share.
    """

    model: Model
    prompt_plan: PromptPlan
    switch: float

    def is_active(self, level: float, schedule: NoiseSchedule) -> bool:
        """Whether it computes the step that begins at a noise level of this schedule."""
        return schedule.timestep(level) < round(schedule.steps * (1 - self.switch)) - ROUNDING

    def denoiser(
        self, request: Settled, step_prompts: StepPrompts, weights: Sequence[Weight], extra: Floats | None
    ) -> Denoise:
        """Return the denoiser for these prompts, without ControlNets. extra: as in `predictor`."""
        networks = self.model.networks
        seen = extra if networks.traits.reads_mask else None
        predict = predictor(networks, request, self.prompt_plan.conditionings[step_prompts], weights, seen)
        return denoiser(predict, self.model.parametrization, self.model.schedule)


def refiner_switch(
    model: Model, request: Settled, steps: Sequence[StepPrompts], *, tiling: bool = False
) -> RefinerSwitch:
    """Prepare a refiner for a request."""
    assert request.refiner is not None
    networks = replace(model.networks, tiling=tiling)
    conditionings = condition_steps(
        networks,
        model.tokenizers,
        steps,
        request.clip_skip,
        request.emphasis,
        zeros_for_no_text=model.family.no_text(model.checkpoint),
    )
    return RefinerSwitch(
        replace(model, networks=networks), PromptPlan(steps, conditionings), request.refiner.switch
    )
