"""Removes comments from prompts: from "#" to the end of the line, as in A1111's web UI since version 1.8."""

import re

LINE = re.compile(r"(^|\n)#[^\n]*(\n|$)")
REST = re.compile(r"#[^\n]*(\n|$)")
VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})")


def without_comments(prompt: str) -> str:
    """Return the prompt without comments. A line that is only a comment is removed with its line break."""
    if "#" not in prompt:
        return prompt
    return REST.sub("\n", LINE.sub("\n", prompt))


def knows_comments(version: str) -> bool:
    """Whether the program version that a parameters text names treats "#" as a comment.

    A1111's web UI says "v1.8.0", Forge "f1.7.0-..." or "f2.0.1...", both of which came with it.
    """
    if re.match(r"f\d", version):
        return True
    found = VERSION.match(version)
    return found is not None and (int(found[1]), int(found[2])) >= (1, 8)
