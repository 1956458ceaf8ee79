"""What the two prompts of a request say at each step."""

from dataclasses import dataclass

from pochade.prompts.composition import Part, composition
from pochade.prompts.extra_networks import extra_networks
from pochade.prompts.schedules import schedule


@dataclass(frozen=True)
class Wording:
    """parts: the texts that are drawn together, with their weights; one of weight 1 unless there is an AND.
    negative: None where no guidance is computed. Emphasis is still written in both."""

    parts: tuple[Part, ...]
    negative: str | None


def wordings(
    prompt: str, negative_prompt: str, steps: int, *, guided: bool, first_pass_steps: int | None = None
) -> list[Wording]:
    """One for each step; equal ones where nothing changes.

    guided: whether guidance is asked for. Prompts joined by AND need the negative one in any case.
    first_pass_steps: for the second pass of a hires fix (`prompts.schedules.schedule`).
    """
    parts = composition(_plain(prompt))
    columns = [
        [Part(text, part.weight) for text in by_step(part.prompt, steps, first_pass_steps)] for part in parts
    ]
    guided = guided or len(parts) > 1
    negatives = by_step(_plain(negative_prompt), steps, first_pass_steps) if guided else [None] * steps
    return [
        Wording(told, negative) for told, negative in zip(zip(*columns, strict=True), negatives, strict=True)
    ]


def by_step(prompt: str, steps: int, first_pass_steps: int | None = None) -> list[str]:
    """The text of a scheduled prompt at each step."""
    texts: list[str] = []
    for until, text in schedule(prompt, steps, first_pass_steps=first_pass_steps):
        texts += [text] * (until - len(texts))
    return texts


def _plain(prompt: str) -> str:
    """Without the names of adapters, which have been loaded by now (see `adapting`)."""
    return extra_networks(prompt)[0]
