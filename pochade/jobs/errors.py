"""Error messages for users who must not see details of the server's machine."""

import re

from pochade.atomic import ADVICE
from pochade.errors import OutputError, PochadeError
from pochade.jobs.log import log, log_traceback

PATH = re.compile(r"(?<![\w:/.])(?:/|~/|[A-Za-z]:\\)(?:[^\s'\",;:/\\]+[/\\])+")


def without_paths(message: str) -> str:
    """Return the message with each absolute path reduced to its last part."""
    return PATH.sub("", message)


def is_of_the_disk(error: BaseException | None) -> bool:
    """Return whether the error means that the server's disk is full or not writable."""
    return isinstance(error, OutputError) or (isinstance(error, OSError) and error.errno in ADVICE)


def reason_of(error: Exception) -> str:
    """Return the reason of a job's failure without paths or internals, which its owner must not see.

    The details are logged.
    """
    if isinstance(error, OutputError):
        log(f"{error}")
        return f"on the server's disk: {without_paths(str(error))}"
    if isinstance(error, PochadeError):
        return without_paths(str(error))
    log_traceback()
    if isinstance(error, OSError) and error.errno in ADVICE:
        return f"on the server's disk: {error.strerror}; ask the server's administrator"
    if isinstance(error, MemoryError):
        return "out of memory; request a smaller picture, or fewer at once"
    return f"internal error: {type(error).__name__}; the server's log has the details"
