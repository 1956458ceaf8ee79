"""Reads and writes the parameters text of a picture, in A1111's format.

    a red fox in the snow
    Negative prompt: blurry
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, ...

Readers differ, so the writer uses only what all of them understand: `Steps` comes first on the last line, and
the two keywords that readers search for occur nowhere else.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pochade.errors import InvalidRequest

Value = str | int | float | None

NEGATIVE = "Negative prompt:"
MARKS = (NEGATIVE, "Steps:")
BYTE_ORDER_MARK = "\ufeff"

KEY = r"\w[\w \-/]+"
COMMA_NUMBER = rf"-?[0-9]+,[0-9]+(?=\s*(?:,\s*{KEY}:|$))"
"""Matches decimals with a comma, such as 7,5."""
PAIR = re.compile(rf'\s*({KEY}):\s*("(?:\\.|[^\\"])+"|{COMMA_NUMBER}|[^,]*)(?:,|$)')
FIRST_PAIR = re.compile(r"\s*Steps:\s*[0-9]")
TRAILING_SPACE = " \t\n\r\v\f\0"
"""Characters that are stripped from the end of a text; C programs end theirs with a zero byte."""
EXTENSION_LINES = ("Template:", "Negative Template:")
"""Prefixes of the lines that the Dynamic Prompts extension writes after the settings."""
MAX_JSON_TRIES = 20
"""The most values of one line that may look like JSON without being valid; later ones are not tried."""
MIN_PAIRS = 3  # a last line with fewer is part of the prompt


@dataclass(frozen=True)
class Parameters:
    """A parsed parameters text. Values are as written: "7.5", "512x512"."""

    prompt: str
    negative_prompt: str
    values: Mapping[str, str]


def parameters_text(
    *,
    prompt: str,
    negative_prompt: str = "",
    steps: int,
    sampler: str,
    schedule: str | None,
    cfg_scale: float,
    seed: int,
    width: int,
    height: int,
    model_hash: str | None,
    model: str | None,
    extra: Iterable[tuple[str, Value]] = (),
    version: str | None,
) -> str:
    """Return the parameters text of one picture. Sizes are in pixels; sampler and schedule are labels.

    model_hash: the first 10 hexadecimal digits of the SHA-256 of the model's file.
    extra:      further pairs, in the given order before the version.

    A pair whose value is None is omitted. "Negative prompt:" and "Steps:" inside the prompts are written in
    lower case, which does not matter to the tokenizer, since other tools search for these words. For the same
    reason a comma or a colon in the model's name becomes "_".

    Raises InvalidRequest if readers would not recognise the name of an extra pair.
    """
    pairs: list[tuple[str, Value]] = [
        ("Steps", steps),
        ("Sampler", sampler),
        ("Schedule type", schedule),
        ("CFG scale", cfg_scale),
        ("Seed", seed),
        ("Size", f"{width}x{height}"),
        ("Model hash", model_hash),
        ("Model", None if model is None else re.sub(r"[,:\r\n]", "_", model)),
        *extra,
        ("Version", version),
    ]
    return parameters_line(prompt, negative_prompt, pairs)


def parameters_line(prompt: str, negative_prompt: str, pairs: Iterable[tuple[str, Value]]) -> str:
    """Return the text of prompts and any pairs. Otherwise as `parameters_text`."""
    lines = [
        _plain(prompt).lstrip(BYTE_ORDER_MARK),  # at the start of a text, readers drop it
        f"{NEGATIVE} {_plain(negative_prompt)}" if negative_prompt else "",
        ", ".join(f"{_key(key)}: {_value(value)}" for key, value in pairs if value is not None),
    ]
    return "\n".join(line for line in lines if line)


def read_parameters(text: str) -> Parameters:
    """Parse a parameters text, including those of other tools: the inverse of `parameters_text`.

    A text without a line of pairs is a prompt. Of two pairs with the same name the later one counts. After
    the line of pairs there may be empty lines and lines of extensions, such as `Template: ...`, which are
    parsed too.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").removeprefix(BYTE_ORDER_MARK)
    lines = text.rstrip(TRAILING_SPACE).split("\n")
    place = _settings_line(lines)
    pairs = [] if place is None else _pairs(lines[place])
    prompts = lines if place is None else lines[:place]
    start = next((i for i, line in enumerate(prompts) if line.startswith(NEGATIVE)), len(prompts))
    negative = "\n".join(prompts[start:]).removeprefix(NEGATIVE).removeprefix(" ")
    values = {key: _unquoted(value) for key, value in pairs}
    behind = {} if place is None else _extension_values(lines[place + 1 :])
    return Parameters("\n".join(prompts[:start]), negative, {**behind, **values})


def has_settings(text: str) -> bool:
    """Whether a text has a line of pairs, which begins with the number of steps."""
    return "Steps" in read_parameters(text).values


def _settings_line(lines: Sequence[str]) -> int | None:
    """The index of the line of pairs: the last line, or the last before those of extensions."""
    last = len(lines) - 1
    if len(_pairs(lines[last])) >= MIN_PAIRS and not lines[last].startswith(EXTENSION_LINES):
        return last
    for place in reversed(range(last)):
        behind = next((line for line in lines[place + 1 :] if line.strip()), "")
        if not behind.startswith(EXTENSION_LINES) or FIRST_PAIR.match(lines[place]) is None:
            continue
        if len(_pairs(lines[place])) >= MIN_PAIRS:
            return place
    return None


def _pairs(line: str) -> list[tuple[str, str]]:
    """The names and values of a line. A JSON table or list, as Civitai writes them, is one value."""
    found: list[tuple[str, str]] = []
    tries = MAX_JSON_TRIES
    match = PAIR.search(line)
    while match is not None:
        value, end = match[2], match.end()
        if value.startswith(("{", "[")) and tries:
            whole = _json_at(line, match.start(2))
            if whole is None:
                tries -= 1
            else:
                value, end = whole
        found.append((match[1], value))
        match = PAIR.search(line, end)
    return found


def _json_at(line: str, begin: int) -> tuple[str, int] | None:
    """The JSON value at this position, and the position after its comma; None if it is not valid JSON."""
    try:
        _, end = json.JSONDecoder().raw_decode(line, begin)
    except (ValueError, RecursionError):
        return None
    behind = re.compile(r"\s*(?:,|$)").match(line, end)
    return None if behind is None else (line[begin:end], behind.end())


def _extension_values(lines: Sequence[str]) -> dict[str, str]:
    """The values that extensions wrote on separate lines; each extends to the next one."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        begin = next((each for each in EXTENSION_LINES if line.startswith(each)), None)
        if begin is not None:
            name = begin.removesuffix(":")
            found[name] = line.removeprefix(begin).strip()
        elif name:
            found[name] += f"\n{line}"
    return {name: value.strip() for name, value in found.items()}


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which cannot be encoded, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _plain(text: str) -> str:
    """Normalise line breaks, and lower the case of keywords that readers search for."""
    text = encodable(text).replace("\r\n", "\n").replace("\r", "\n")
    for mark in MARKS:
        text = text.replace(mark, mark[0].lower() + mark[1:])
    return text


def _key(key: str) -> str:
    if not re.fullmatch(KEY, key) or key != key.strip():
        raise InvalidRequest(
            f"'{key}' cannot name a value in a picture's text;"
            " use letters, digits, spaces, - and /, at least two"
        )
    return key


def _value(value: Value) -> str:
    """Format a value: as a JSON string if a reader would otherwise split or change it."""
    text = f"{value:.10g}" if isinstance(value, float) else encodable(str(value))
    unsafe = text != text.strip() or re.search(r'[,:"\r\n]', text)
    return json.dumps(text, ensure_ascii=False) if unsafe else text


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value.strip()
    try:
        return str(json.loads(value))
    except ValueError:  # quoted differently by another tool
        return value
