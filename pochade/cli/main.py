"""The entry point: parses arguments, runs a subcommand, and prints errors as one line."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import pochade
from pochade.errors import PochadeError

COMMANDS = (
    *("draw", "serve", "mcp", "plot", "walk", "upscale", "info", "models", "doctor", "bench", "train"),
    "evaluate",
)
"""The subcommands; each is a module of this package."""

BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT, the exit status of shells after Ctrl-C
BROKEN_PIPE = 141  # 128 + SIGPIPE, if the reader of the output ends, as in `| head`


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="pochade",
        description="Text to image with Stable Diffusion on your own computer.",
        epilog="Try: pochade draw 'a red apple'",
    )
    parser.add_argument("--version", action="version", version=f"pochade {pochade.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    requested = arguments[0] if arguments else ""
    # Only the requested command is imported; help and errors need all of them.
    for name in [requested] if requested in COMMANDS else COMMANDS:
        import_module(f"pochade.cli.{name}").add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()  # raises here for a closed pipe, not at interpreter exit
    except PochadeError as error:
        from pochade.cli.option_names import in_options

        print(f"pochade: error: {in_options(str(error), options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pochade: stopped", file=sys.stderr)
        _exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as bug:
        if os.environ.get("POCHADE_DEBUG"):
            raise
        print(
            f"pochade: this is a bug in Pochade: {type(bug).__name__}: {bug}\n"
            "Set POCHADE_DEBUG=1 to see where it happened, and please report it.",
            file=sys.stderr,
        )
        return BUG
    return status


def _exit(status: int) -> NoReturn:
    """Exit immediately; otherwise Python would wait for interrupted native code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
