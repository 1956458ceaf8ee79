"""Styles: named texts that are added to prompts, in the CSV file of A1111's web UI.

The file has the columns name, prompt and negative_prompt. "{prompt}" in a style is replaced by the prompt it
is applied to; a style without it is appended after a comma.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pochade.errors import InvalidRequest

PLACEHOLDER = "{prompt}"
MAX_BYTES = 16_000_000


@dataclass(frozen=True)
class Style:
    """A named style; either text may be empty."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


def read_styles(path: Path | str) -> dict[str, Style]:
    """Read the styles of a file, name -> style, in order; of two with the same name the later is used.

    Raises InvalidRequest, naming the file, if it cannot be read or is not such a table.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"the styles file '{path}' cannot be read: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"the styles '{path}' have more than {MAX_BYTES:,} bytes; they must be a table")
    try:
        table = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = list(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"the styles file '{path}' is not a CSV table in UTF-8: {error}") from error
    columns = table.fieldnames or ()
    # The first versions of the file called the second column "text".
    prompt = "prompt" if "prompt" in columns else "text"
    if not {"name", prompt} <= set(columns):
        raise InvalidRequest(
            f"the styles '{path}' begin with the columns {', '.join(map(repr, columns)) or '(none)'};"
            " the first line must be: name,prompt,negative_prompt"
        )
    styles = [
        Style(line["name"], line[prompt] or "", line.get("negative_prompt") or "")
        for line in lines
        if line["name"]
    ]
    return {style.name: style for style in styles}


def find_styles(names: Sequence[str], styles: Mapping[str, Style]) -> list[Style]:
    """Return the styles of these names. Raises InvalidRequest, listing all styles, for an unknown name."""
    for name in names:
        if name not in styles:
            raise InvalidRequest(f"style '{name}' is unknown; one of: {', '.join(styles) or '(none)'}")
    return [styles[name] for name in names]


def apply_styles(prompt: str, negative_prompt: str, styles: Sequence[Style]) -> tuple[str, str]:
    """Apply the styles to both prompts, in the given order."""
    for style in styles:
        prompt = _applied(style.prompt, prompt)
        negative_prompt = _applied(style.negative_prompt, negative_prompt)
    return prompt, negative_prompt


def _applied(style: str, text: str) -> str:
    if not style:
        return text
    if PLACEHOLDER in style:
        return style.replace(PLACEHOLDER, text)
    return ", ".join(part for part in (text.strip(), style.strip()) if part)
