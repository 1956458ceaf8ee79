"""Errors that a user can correct.

Each message names the thing, its value and what to do about it. The command line prints it without a
traceback; the server answers with a 4xx status. Any other exception is a bug.
"""


class PochadeError(Exception):
    """Base class of all errors that are addressed to the user."""


class InvalidRequest(PochadeError, ValueError):
    """The request cannot be drawn, for example because of its size or an unknown name."""


class InvalidCheckpoint(PochadeError):
    """A model file or folder is missing, damaged or not supported."""


class MissingDependency(PochadeError):
    """An optional package is not installed; the message names the extra that installs it."""


class OutputError(PochadeError):
    """A picture or another file could not be written to its destination."""


class InUse(OutputError):
    """Another process is using the folder."""


def expect(name: str, value: float, low: float, high: float) -> None:
    """Raise InvalidRequest, naming the value and its bounds, if a number lies outside of them."""
    if not low <= value <= high:  # also refuses NaN
        raise InvalidRequest(f"{name} is {value}; it must lie between {low:g} and {high:g}")
