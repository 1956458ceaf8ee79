"""Extra networks in prompts: <lora:name:0.8>, with A1111's syntax.

The tags are removed from the prompt and returned as data; loading them happens elsewhere.
"""

import re
from dataclasses import dataclass

from pochade.errors import InvalidRequest

KINDS = ("lora", "lyco", "hypernet")
"""Other words between < and > are text."""

TAG = re.compile(rf"<({'|'.join(KINDS)}):([^<>]+)>")


@dataclass(frozen=True)
class ExtraNetwork:
    """The tag <kind:name:numbers...:key=value...>. The meaning of the numbers depends on the kind.

    For a lora: the weight, or the weights of the text encoder and of the UNet; the default is 1. The options
    `te` and `unet` set them by name.
    """

    kind: str
    name: str
    numbers: tuple[float, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


def extra_networks(prompt: str) -> tuple[str, list[ExtraNetwork]]:
    """Return the prompt without its tags, and the networks in order.

    Raises InvalidRequest for a tag without a name or with an invalid number.
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
