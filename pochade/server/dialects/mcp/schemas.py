"""Arguments of the tools. Language models read their descriptions and see nothing else of Pochade.

Unlike the other dialects, this one refuses unknown arguments: callers know the schema, and a misspelled
argument would be missing in the picture.
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
"""The maximum per call; the reply contains all pictures."""

PICTURE_FORMATS = (
    'a PNG, JPEG or WebP file in base64 or as a data URL, or "picture:ID" for a picture of this server'
)
Side = Annotated[
    int | None, Field(ge=8, le=8192, multiple_of=8, description="px; null: the model's native size")
]


class Arguments(Body):
    model_config = ConfigDict(extra="forbid")


class NoArguments(Arguments):
    pass


class ReadArguments(Arguments):
    image: str = Field(description=PICTURE_FORMATS)


class DrawArguments(Arguments):
    prompt: str = Field(
        min_length=1,
        description=("what the picture shows; (word:1.3) weights a word, <lora:name:0.8> adds a LoRA"),
    )
    negative_prompt: str = Field("", description="what the picture must not show")
    model: str | None = Field(None, description="a model of list_models; null: the default one")
    seed: int | None = Field(
        None, ge=-1, le=LARGEST_SEED, description="the same seed gives the same picture; null: a random one"
    )
    steps: int | None = Field(None, ge=1, description="number of sampling steps; null: the model's default")
    cfg_scale: float | None = Field(
        None, ge=0, le=100, description="how closely the prompt is followed; null: the model's default"
    )
    width: Side = None
    height: Side = None
    sampler: str | None = Field(None, description="a sampler of list_models; null: the model's default")
    schedule: str | None = Field(None, description="a schedule of list_models; null: the model's default")
    count: int = Field(1, ge=1, le=MOST_PICTURES, description="how many pictures, each with a different seed")

    def submitted_order(self, catalogue: Catalogue, inputs: Inputs) -> SubmittedOrder:
        """Convert the arguments to an order. Raises InvalidRequest."""
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
        """Return the source of an edit."""
        return None


class EditArguments(DrawArguments):
    image: str = Field(description=f"the picture to edit: {PICTURE_FORMATS}")
    mask: str | None = Field(
        None,
        description=f"white where the picture is redrawn, black where it is kept: {PICTURE_FORMATS}",
    )
    strength: float | None = Field(
        None,
        ge=0,
        le=1,
        description="how much changes, from 0 (nothing) to 1 (everything); null: 0.75, or 1 with a mask",
    )

    def source(self, inputs: Inputs) -> JobSource | None:
        image = inputs.add(self.image, "image")
        mask = None if self.mask is None else inputs.add(self.mask, "mask")
        default = 0.75 if mask is None else 1.0
        strength = default if self.strength is None else self.strength
        return JobSource(image=image, mask=mask, denoising_strength=strength)
