"""Small networks that a prompt asks for: <lora:name:0.8>, as A1111's web UI writes them.

They are taken out of the prompt and returned as data; loading them is not done here.
"""

import re
from dataclasses import dataclass

from pochade.errors import InvalidRequest

KINDS = ("lora", "lyco", "hypernet")
"""Other words between < and > are text."""

TAG = re.compile(rf"<({'|'.join(KINDS)}):([^<>]+)>")


@dataclass(frozen=True)
class ExtraNetwork:
    """<kind:name:numbers...:key=value...>. What the numbers mean is up to the kind.

    For a lora: the strength, or that in the text encoder and then that in the UNet; none means 1. Options
    `te` and `unet` say the same by name.
    """

    kind: str
    name: str
    numbers: tuple[float, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


def extra_networks(prompt: str) -> tuple[str, list[ExtraNetwork]]:
    """The prompt without them, and the networks in their order.

    Raises InvalidRequest for one without a name or with a number that is none.
    """
    found = [_read(tag) for tag in TAG.finditer(prompt)]
    return (TAG.sub("", prompt) if found else prompt), found


def _read(tag: re.Match[str]) -> ExtraNetwork:
    name, *arguments = (part.strip() for part in tag[2].split(":"))
    if not name:
        raise InvalidRequest(f"'{tag[0]}' has no name; write <{tag[1]}:name:0.8>")
    numbers, options = [], []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals:
            options.append((key.strip(), value.strip()))
        elif re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)", argument):
            numbers.append(float(argument))
        else:
            raise InvalidRequest(f"'{argument}' in '{tag[0]}' is not a number; write <{tag[1]}:{name}:0.8>")
    return ExtraNetwork(tag[1], name, tuple(numbers), tuple(options))
