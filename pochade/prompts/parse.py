"""A prompt, parsed once: the networks that it names, the prompts that it joins, how each of them changes."""

from dataclasses import dataclass

from pochade.prompts.composition import PromptPart, composition
from pochade.prompts.extra_networks import ExtraNetwork, extra_networks
from pochade.prompts.schedules import Schedule, parse_schedule


@dataclass(frozen=True, eq=False)
class ParsedPrompt:
    """What `parse_prompt` returns.

    text: as it was written. plain: without extra networks. parts: the prompts that are drawn together, one
    unless AND joins several; their texts may change while a picture is drawn, as `schedules` say, one for
    each part (None: it never changes). Emphasis and BREAK are still written in all of them.
    """

    text: str
    plain: str
    extra_networks: tuple[ExtraNetwork, ...]
    parts: tuple[PromptPart, ...]
    schedules: tuple[Schedule | None, ...]

    def at_steps(self, steps: int, first_pass_steps: int | None = None) -> list[tuple[PromptPart, ...]]:
        """The parts as they read at each step.

        first_pass_steps: for the second pass of a hires fix (`Schedule.stretches`).

        Raises InvalidRequest if the texts of all steps together would fill the memory.
        """
        columns = []
        for part, schedule in zip(self.parts, self.schedules, strict=True):
            if schedule is None:
                columns.append([part] * steps)
                continue
            column: list[PromptPart] = []
            for until, text in schedule.stretches(steps, first_pass_steps=first_pass_steps):
                column += [part._replace(prompt=text)] * (until - len(column))
            columns.append(column)
        return list(zip(*columns, strict=True))


def parse_prompt(text: str, *, negative: bool = False) -> ParsedPrompt:
    """Read a prompt in the grammar of docs/guide/prompts.md, except templates and styles.

    negative: it is a negative prompt, in which AND is a word like any other.

    Raises InvalidRequest for an extra network without a name or with a number that is none, for more prompts
    than may be joined, and for a region without an inside.
    """
    plain, networks = extra_networks(text) if "<" in text else (text, [])
    parts = composition(plain) if "AND" in plain and not negative else [PromptPart(plain, 1.0)]
    schedules = (parse_schedule(part.prompt) if "[" in part.prompt else None for part in parts)
    return ParsedPrompt(text, plain, tuple(networks), tuple(parts), tuple(schedules))


def as_parsed(prompt: str | ParsedPrompt) -> ParsedPrompt:
    """The prompt itself if it has been parsed, else what `parse_prompt` makes of it."""
    return parse_prompt(prompt) if isinstance(prompt, str) else prompt
