"""`pochade mcp`: serves drawing tools to an assistant that starts this command."""

import argparse
from contextlib import suppress
from pathlib import Path
from typing import Any

from pochade.cli.server_options import (
    NEEDED,
    add_drawing_options,
    add_model_options,
    check_packages,
    options_of,
)
from pochade.errors import InUse

PACKAGES = ("mcp", "mcp_types")
MAX_INSTANCES = 16
"""The maximum number of concurrent instances without --data."""

EXAMPLES = """for a settings file with "mcpServers":
  {"mcpServers": {"pochade": {"command": "pochade", "args": ["mcp"]}}}
A running `pochade serve` offers the same tools at http://127.0.0.1:7860/mcp.
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "mcp",
        help="offer drawing tools to an assistant (MCP)",
        description="Speak the Model Context Protocol over standard input and output. Needs the extra 'mcp'.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder for jobs and pictures (default: an unused one in the user's data folder)",
    )
    add_model_options(parser)
    add_drawing_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until the input ends."""
    check_packages((*NEEDED, *PACKAGES), "mcp")
    from pochade.server.stdio import GRACE_S, serve_stdio

    *others, last = _folders() if options.data is None else [options.data]
    for folder in others:
        with suppress(InUse):
            serve_stdio(options_of(options, folder, grace_s=GRACE_S))
            return 0
    serve_stdio(options_of(options, last, grace_s=GRACE_S))
    return 0


def _folders() -> list[Path]:
    """Return the data folders to try: the first that no other instance uses is taken."""
    from pochade.settings import assistants_dir

    return [assistants_dir() / str(number) for number in range(1, MAX_INSTANCES + 1)]
