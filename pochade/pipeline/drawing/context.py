"""What all stages of one generation share: the model, its additions, how memory is to be spared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pochade.checkpoints.few_steps import FewSteps
from pochade.diffusion.samplers import Sampler
from pochade.pipeline.drawing.wording import Prompts
from pochade.pipeline.loading.adapting import Additions
from pochade.pipeline.loading.budget import Plan
from pochade.pipeline.loading.memory import release
from pochade.pipeline.loading.model import Model
from pochade.pipeline.loading.network import Network
from pochade.request import Settled


@dataclass(frozen=True, eq=False, kw_only=True)
class GenerationContext:
    """Model and settings shared by all stages of one generation.

    additions: those that the model's networks have in them. roots: folders in which other models are looked
    for by name. plan: how to keep within a memory budget; None if there is none. second: what the second
    pass is drawn with, if that is another model or has other additions.
    """

    model: Model
    additions: Additions
    roots: Sequence[Path]
    plan: Plan | None = None
    second: "GenerationContext | None" = None

    @property
    def last(self) -> "GenerationContext":
        """What the last pass is drawn with."""
        return self if self.second is None else self.second

    @property
    def sparing(self) -> bool:
        """Whether each network is let go before the next is loaded."""
        return self.plan is not None and self.plan.one_by_one

    def let_go(self, *done: Network | None) -> None:
        """Of networks that are not needed soon, if memory is short."""
        if self.sparing:
            for each in done:
                if each is not None:
                    each.let_go()
            release()


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared:
    """A request that is settled for a model: what `Pipeline.prepare` returns and `Pipeline.draw` draws.

    prompts: those of the request, parsed. sampler: of the first pass, or the only one. few_steps: what the
    model, or an adapter that the prompts ask for, was made for, if that is to draw in a few steps.
    """

    request: Settled
    prompts: Prompts
    sampler: Sampler
    context: GenerationContext
    few_steps: FewSteps | None = None

    def within(self, plan: Plan) -> "Prepared":
        """The same, drawn as a plan says."""
        second = self.context.second
        planned = None if second is None else replace(second, plan=plan)
        return replace(self, context=replace(self.context, plan=plan, second=planned))
