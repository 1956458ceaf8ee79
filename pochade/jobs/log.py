"""The server's log on standard error.

Standard error may be a file on a full disk: an error while writing the log never stops the server.
"""

import sys
import traceback
from contextlib import suppress


def log(message: str) -> None:
    """Write one line."""
    with suppress(OSError, ValueError):  # ValueError: it was closed
        print(f"pochade: {message}", file=sys.stderr, flush=True)


def log_traceback() -> None:
    """Write the traceback of the exception being handled."""
    with suppress(OSError, ValueError):
        traceback.print_exc(file=sys.stderr)
