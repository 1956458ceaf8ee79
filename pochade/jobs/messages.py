"""Sentences for those who may not see the insides of the server's computer."""

import re

PATH = re.compile(r"(?<![\w:/.])(?:/|~/|[A-Za-z]:\\)(?:[^\s'\",;:/\\]+[/\\])+")


def without_paths(message: str) -> str:
    """The message with each absolute path cut to its last part."""
    return PATH.sub("", message)
