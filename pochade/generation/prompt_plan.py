"""The prompts of a request at each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pochade.errors import InvalidRequest
from pochade.prompts.composition import PromptPart
from pochade.prompts.parse import ParsedPrompt, as_parsed, parse_prompt
from pochade.request import Request


@dataclass(frozen=True)
class StepPrompts:
    """The prompts of one step.

    parts: the composed prompts with their weights; one of weight 1 without AND. negative: None if guidance is
    off. blend_with: a text that is blended with the prompt at `share`. Emphasis is not parsed yet.
    """

    parts: tuple[PromptPart, ...]
    negative: str | None
    blend_with: str | None = None
    share: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompts:
    """The parsed prompts of a request, shared by everything that reads them.

    second, second_negative: of the second pass, which by default has those of the first.
    """

    prompt: ParsedPrompt
    negative: ParsedPrompt
    blend: ParsedPrompt | None
    second: ParsedPrompt
    second_negative: ParsedPrompt

    @property
    def first_pass(self) -> list[ParsedPrompt]:
        """All prompts that can name adapters and embeddings for the first or only pass."""
        return [self.prompt, self.negative, *([] if self.blend is None else [self.blend])]

    @property
    def second_pass(self) -> list[ParsedPrompt]:
        """All prompts that can name adapters and embeddings for the second pass."""
        return [self.second, self.second_negative, *([] if self.blend is None else [self.blend])]


def parse_prompts(request: Request) -> Prompts:
    """Parse the prompts of a request, each text once. Raises InvalidRequest as `parse_prompt` does."""
    known: dict[tuple[str, bool], ParsedPrompt] = {}

    def parsed(text: str, *, negative: bool = False) -> ParsedPrompt:
        if (text, negative) not in known:
            known[text, negative] = parse_prompt(text, negative=negative)
        return known[text, negative]

    second = second_negative = None
    if request.hires is not None:
        second, second_negative = request.hires.prompt, request.hires.negative_prompt
    return Prompts(
        prompt=parsed(request.prompt),
        negative=parsed(request.negative_prompt, negative=True),
        blend=None if request.blend is None else parsed(request.blend.prompt),
        second=parsed(request.prompt if second is None else second),
        second_negative=parsed(
            request.negative_prompt if second_negative is None else second_negative, negative=True
        ),
    )


def prompts_of_steps(
    prompt: str | ParsedPrompt,
    negative_prompt: str | ParsedPrompt,
    steps: int,
    *,
    guided: bool,
    first_pass_steps: int | None = None,
    blend: ParsedPrompt | None = None,
    share: float = 0.0,
) -> list[StepPrompts]:
    """Return the prompts of each step; they are equal where nothing changes.

    guided: whether guidance is on. Prompts joined by AND always need the negative prompt.
    first_pass_steps: for the second pass of a hires fix (`prompts.schedules.Schedule.stretches`).
    blend, share: a second prompt, and its share.

    Raises InvalidRequest for a blend of prompts joined by AND.
    """
    parsed = as_parsed(prompt)
    if isinstance(negative_prompt, str):
        negative_prompt = parse_prompt(negative_prompt, negative=True)
    parts = parsed.at_steps(steps, first_pass_steps)
    guided = guided or len(parsed.parts) > 1
    negatives: Sequence[str | None] = [None] * steps
    if guided:
        negatives = [texts[0].prompt for texts in negative_prompt.at_steps(steps, first_pass_steps)]
    found = [StepPrompts(texts, negative) for texts, negative in zip(parts, negatives, strict=True)]
    if blend is None:
        return found
    if len(parsed.parts) > 1 or len(blend.parts) > 1:
        raise InvalidRequest("a blend cannot contain prompts joined by AND")
    texts = [texts[0].prompt for texts in blend.at_steps(steps, first_pass_steps)]
    return [replace(each, blend_with=text, share=share) for each, text in zip(found, texts, strict=True)]
