"""Sentences for those who may not see the insides of the server's computer."""

import re

from pochade.atomic import WAYS_OUT
from pochade.errors import OutputError, PochadeError
from pochade.jobs.log import log, log_traceback

PATH = re.compile(r"(?<![\w:/.])(?:/|~/|[A-Za-z]:\\)(?:[^\s'\",;:/\\]+[/\\])+")


def without_paths(message: str) -> str:
    """The message with each absolute path cut to its last part."""
    return PATH.sub("", message)


def is_of_the_disk(error: BaseException | None) -> bool:
    """Whether the server's disk refused: it is full, or may not be written to."""
    return isinstance(error, OutputError) or (isinstance(error, OSError) and error.errno in WAYS_OUT)


def reason_of(error: Exception) -> str:
    """Why a job has failed, for its owner, who may not be who runs the server: no paths, no insides.

    The rest goes to the log.
    """
    if isinstance(error, OutputError):
        log(f"{error}")
        return f"on the server's disk: {without_paths(str(error))}"
    if isinstance(error, PochadeError):
        return without_paths(str(error))
    log_traceback()
    if isinstance(error, OSError) and error.errno in WAYS_OUT:
        return f"on the server's disk: {error.strerror}; ask the server's administrator"
    if isinstance(error, MemoryError):
        return "out of memory; request a smaller picture, or fewer at once"
    return f"internal error: {type(error).__name__}; the server's log has the details"
