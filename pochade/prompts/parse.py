"""Parses a prompt once: its extra networks, the prompts joined by AND, and their schedules."""

from dataclasses import dataclass

from pochade.prompts.composition import PromptPart, composition
from pochade.prompts.extra_networks import ExtraNetwork, extra_networks
from pochade.prompts.schedules import Schedule, parse_schedule


@dataclass(frozen=True, eq=False)
class ParsedPrompt:
    """The result of `parse_prompt`.

    text: the original text. plain: the text without extra networks. parts: the prompts joined by AND, or the
    only one. schedules: for each part, the changes of its text between steps (None: none). Emphasis
    and BREAK are not parsed yet.
    """

    text: str
    plain: str
    extra_networks: tuple[ExtraNetwork, ...]
    parts: tuple[PromptPart, ...]
    schedules: tuple[Schedule | None, ...]

    def at_steps(self, steps: int, first_pass_steps: int | None = None) -> list[tuple[PromptPart, ...]]:
        """Return the parts at each step.

        first_pass_steps: for the second pass of a hires fix (`Schedule.stretches`).

        Raises InvalidRequest if the texts of all steps together are too long.
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
    """Parse a prompt with the syntax of docs/guide/prompts.md, except templates and styles.

    negative: whether it is a negative prompt, in which AND is an ordinary word.

    Raises InvalidRequest for an extra network without a name or with an invalid number, for too many joined
    prompts, and for an empty region.
    """
    plain, networks = extra_networks(text) if "<" in text else (text, [])
    parts = composition(plain) if "AND" in plain and not negative else [PromptPart(plain, 1.0)]
    schedules = (parse_schedule(part.prompt) if "[" in part.prompt else None for part in parts)
    return ParsedPrompt(text, plain, tuple(networks), tuple(parts), tuple(schedules))


def as_parsed(prompt: str | ParsedPrompt) -> ParsedPrompt:
    """Return the prompt itself if it is parsed, else parse it."""
    return parse_prompt(prompt) if isinstance(prompt, str) else prompt
