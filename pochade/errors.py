"""Errors that a person can mend.

Every message names the thing, its value and the way out. The command line prints them without a
traceback; the server turns them into a 4xx answer. Anything else that is raised is a bug.
"""


class PochadeError(Exception):
    """The base of all errors that are meant to be read by a user."""


class InvalidRequest(PochadeError, ValueError):
    """What was asked for cannot be drawn: a size, a step count, a name that is unknown."""


class InvalidCheckpoint(PochadeError):
    """A model file or folder is missing, damaged or of a kind that is not supported."""


class MissingDependency(PochadeError):
    """An optional package is needed; the message says which extra brings it."""


class OutputError(PochadeError):
    """A picture or a file could not be written where it was asked for."""


class InUse(OutputError):
    """Another process keeps its things there."""


def expect(name: str, value: float, low: float, high: float) -> None:
    """Raise InvalidRequest, naming thing and bounds, for a number that does not lie within them."""
    if not low <= value <= high:  # also refuses NaN
        raise InvalidRequest(f"{name} is {value}; it must lie between {low:g} and {high:g}")
