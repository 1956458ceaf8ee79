"""What the prompts of a request say at each step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pochade.errors import InvalidRequest
from pochade.prompts.composition import PromptPart
from pochade.prompts.parse import ParsedPrompt, as_parsed, parse_prompt
from pochade.request import Request


@dataclass(frozen=True)
class Wording:
    """parts: the texts that are drawn together, with their weights; one of weight 1 unless there is an AND.
    negative: None where no guidance is computed. towards: a text to which this one is on the way, at `share`.
    Emphasis is still written in all of them."""

    parts: tuple[PromptPart, ...]
    negative: str | None
    towards: str | None = None
    share: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Prompts:
    """The parsed prompts of a request, which everything reads that its prompts matter to.

    second, second_negative: of the second pass; those of the first unless it has its own.
    """

    prompt: ParsedPrompt
    negative: ParsedPrompt
    blend: ParsedPrompt | None
    second: ParsedPrompt
    second_negative: ParsedPrompt

    @property
    def first_pass(self) -> list[ParsedPrompt]:
        """All that may name adapters and new words for the first pass, or the only one."""
        return [self.prompt, self.negative, *([] if self.blend is None else [self.blend])]

    @property
    def second_pass(self) -> list[ParsedPrompt]:
        """The same for the second pass."""
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


def wordings(
    prompt: str | ParsedPrompt,
    negative_prompt: str | ParsedPrompt,
    steps: int,
    *,
    guided: bool,
    first_pass_steps: int | None = None,
    blend: ParsedPrompt | None = None,
    share: float = 0.0,
) -> list[Wording]:
    """One for each step; equal ones where nothing changes.

    guided: whether guidance is asked for. Prompts joined by AND need the negative one in any case.
    first_pass_steps: for the second pass of a hires fix (`prompts.schedules.Schedule.stretches`).
    blend, share: a second prompt, and how far the picture is on the way to it.

    Raises InvalidRequest for prompts joined by AND on either side of a blend.
    """
    parsed = as_parsed(prompt)
    if isinstance(negative_prompt, str):
        negative_prompt = parse_prompt(negative_prompt, negative=True)
    parts = parsed.at_steps(steps, first_pass_steps)
    guided = guided or len(parsed.parts) > 1
    negatives: Sequence[str | None] = [None] * steps
    if guided:
        negatives = [told[0].prompt for told in negative_prompt.at_steps(steps, first_pass_steps)]
    found = [Wording(told, negative) for told, negative in zip(parts, negatives, strict=True)]
    if blend is None:
        return found
    if len(parsed.parts) > 1 or len(blend.parts) > 1:
        raise InvalidRequest("a blend is of two prompts; one of these joins several by AND")
    texts = [told[0].prompt for told in blend.at_steps(steps, first_pass_steps)]
    return [replace(each, towards=text, share=share) for each, text in zip(found, texts, strict=True)]
