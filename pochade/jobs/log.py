"""Words for whoever runs the server, on standard error.

It may be a file on a disk that is full: what cannot be written there must not end what goes on.
"""

import sys
import traceback
from contextlib import suppress


def log(message: str) -> None:
    """A line of the log."""
    with suppress(OSError, ValueError):  # ValueError: it was closed
        print(f"pochade: {message}", file=sys.stderr, flush=True)


def log_traceback() -> None:
    """Of the exception that is being handled."""
    with suppress(OSError, ValueError):
        traceback.print_exc(file=sys.stderr)
