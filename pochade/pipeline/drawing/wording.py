"""What the two prompts of a request say at each step."""

from dataclasses import dataclass, replace

from pochade.errors import InvalidRequest
from pochade.prompts.composition import Part, composition
from pochade.prompts.extra_networks import extra_networks
from pochade.prompts.schedules import schedule
from pochade.ways import Blend


@dataclass(frozen=True)
class Wording:
    """parts: the texts that are drawn together, with their weights; one of weight 1 unless there is an AND.
    negative: None where no guidance is computed. towards: a text to which this one is on the way, at `share`.
    Emphasis is still written in all of them."""

    parts: tuple[Part, ...]
    negative: str | None
    towards: str | None = None
    share: float = 0.0


def wordings(
    prompt: str,
    negative_prompt: str,
    steps: int,
    *,
    guided: bool,
    first_pass_steps: int | None = None,
    blend: Blend | None = None,
) -> list[Wording]:
    """One for each step; equal ones where nothing changes.

    guided: whether guidance is asked for. Prompts joined by AND need the negative one in any case.
    first_pass_steps: for the second pass of a hires fix (`prompts.schedules.schedule`).
    blend: a second prompt.

    Raises InvalidRequest for prompts joined by AND on either side of a blend.
    """
    parts = composition(_plain(prompt))
    columns = [
        [part._replace(prompt=text) for text in by_step(part.prompt, steps, first_pass_steps)]
        for part in parts
    ]
    guided = guided or len(parts) > 1
    negatives = by_step(_plain(negative_prompt), steps, first_pass_steps) if guided else [None] * steps
    found = [
        Wording(told, negative) for told, negative in zip(zip(*columns, strict=True), negatives, strict=True)
    ]
    return found if blend is None else _on_the_way(found, blend, first_pass_steps)


def _on_the_way(found: list[Wording], blend: Blend, first_pass_steps: int | None) -> list[Wording]:
    plain = _plain(blend.prompt)
    if len(found[0].parts) > 1 or len(composition(plain)) > 1:
        raise InvalidRequest("a blend is of two prompts; one of these joins several by AND")
    texts = by_step(plain, len(found), first_pass_steps)
    return [replace(each, towards=text, share=blend.share) for each, text in zip(found, texts, strict=True)]


def by_step(prompt: str, steps: int, first_pass_steps: int | None = None) -> list[str]:
    """The text of a scheduled prompt at each step."""
    texts: list[str] = []
    for until, text in schedule(prompt, steps, first_pass_steps=first_pass_steps):
        texts += [text] * (until - len(texts))
    return texts


def _plain(prompt: str) -> str:
    """Without the names of adapters, which have been loaded by now (see `adapting`)."""
    return extra_networks(prompt)[0]
