"""What the tools take. Their descriptions are read by language models, which see nothing else of Pochade.

Unlike in the other dialects unknown arguments are refused: whoever calls a tool has read its schema, and what
is misspelled would be missing in the picture.
"""

from typing import Annotated

from pydantic import ConfigDict, Field

from pochade.jobs.catalogue import Catalogue
from pochade.jobs.job_request import JobRequest, JobSource
from pochade.jobs.limits import LARGEST_SEED
from pochade.jobs.orders import IMG2IMG, INPAINT, TXT2IMG, Order
from pochade.server.request_bodies import Body
from pochade.server.submission import SubmittedOrder
from pochade.server.uploads import Inputs

MOST_PICTURES = 4
"""Of one call: all of them go into the reply."""

GIVEN = 'a PNG, JPEG or WebP file in base64 or as a data URL, or "picture:ID" for one that was drawn here'
Side = Annotated[
    int | None, Field(ge=8, le=8192, multiple_of=8, description="px; null: the model's native size")
]


class Arguments(Body):
    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    pass


class ReadArguments(Arguments):
    image: str = Field(description=GIVEN)


class DrawArguments(Arguments):
    prompt: str = Field(
        min_length=1,
        description=(
            "what the picture shows, in words; (word:1.3) weights a word, <lora:name:0.8> adds a LoRA"
        ),
    )
    negative_prompt: str = Field("", description="what the picture must not show")
    model: str | None = Field(None, description="a name of list_models; null: the default one")
    seed: int | None = Field(
        None, ge=-1, le=LARGEST_SEED, description="the same seed gives the same picture; null: a random one"
    )
    steps: int | None = Field(
        None, ge=1, description="each further step takes time and changes less; null: the model's own"
    )
    cfg_scale: float | None = Field(
        None, ge=0, le=100, description="how closely the prompt is followed; null: the model's own"
    )
    width: Side = None
    height: Side = None
    sampler: str | None = Field(None, description="a name of list_models; null: the model's own")
    schedule: str | None = Field(None, description="a name of list_models; null: the model's own")
    count: int = Field(1, ge=1, le=MOST_PICTURES, description="how many, each with a seed of its own")

    def asked(self, catalogue: Catalogue, inputs: Inputs) -> SubmittedOrder:
        """What the service takes. Raises InvalidRequest."""
        source = self.source(inputs)
        request = JobRequest(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            seed=None if self.seed == -1 else self.seed,
            steps=self.steps,
            cfg_scale=self.cfg_scale,
            width=self.width,
            height=self.height,
            sampler=self.sampler,
            schedule=self.schedule,
            source=source,
        )
        kind = TXT2IMG if source is None else INPAINT if source.mask is not None else IMG2IMG
        model = catalogue.model(self.model).name
        order = Order(kind=kind, model=model, request=request, count=self.count, preview=False, dialect="mcp")
        return SubmittedOrder(order=order, inputs=inputs.contents)

    def source(self, inputs: Inputs) -> JobSource | None:
        """The picture that is drawn over."""
        return None


class EditArguments(DrawArguments):
    image: str = Field(description=f"the picture to begin with: {GIVEN}")
    mask: str | None = Field(
        None, description=f"white where something new is wanted, black where nothing may change: {GIVEN}"
    )
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how much may change, 0 nothing, 1 all; null: 0.75, or 1 inside a mask",
    )

    def source(self, inputs: Inputs) -> JobSource | None:
        image = inputs.add(self.image, "image")
        mask = None if self.mask is None else inputs.add(self.mask, "mask")
        usual = 0.75 if mask is None else 1.0
        strength = usual if self.strength is None else self.strength
        return JobSource(image=image, mask=mask, denoising_strength=strength)
