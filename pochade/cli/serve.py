"""`pochade serve`: the web page and the HTTP APIs."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.server_options import (
    NEEDED,
    add_drawing_options,
    add_model_options,
    check_packages,
    options_of,
)
from pochade.errors import InvalidRequest

if TYPE_CHECKING:
    from pochade.server.auth import Keys

PORT = 7860
KEY = "POCHADE_KEY"

EXAMPLES = """examples:
  pochade serve
  pochade serve --port 8000 --model ~/models/sd15.safetensors --data ~/pictures
  pochade serve --models ~/ComfyUI --styles styles.csv
  POCHADE_KEY=... pochade serve --host 0.0.0.0
  pochade serve --host 0.0.0.0 --keys keys.txt --allow-host studio.example.org
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the web page and the HTTP APIs",
        description=(
            "Serve the web page and the HTTP APIs (native, A1111, OpenAI, MCP). Needs the extra 'serve'."
        ),
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; any other than this computer's own requires a key",
    )
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help="0 picks a free port (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="folder for jobs and pictures (default: the user's data folder)",
    )
    add_model_options(parser)
    who = parser.add_argument_group("access")
    who.add_argument(
        "--key",
        metavar="KEY",
        help=f"the key; safer in ${KEY} or a file, since other users can see a command's options",
    )
    who.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds the key")
    who.add_argument("--keys", type=Path, metavar="FILE", help="several users: lines NAME:KEY")
    who.add_argument(
        "--admin",
        action="append",
        default=[],
        metavar="NAME",
        help="a user from --keys who may download models; may be repeated",
    )
    who.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name that requests may use; * allows any",
    )
    who.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of the reverse proxies whose X-Forwarded-For is trusted",
    )
    add_drawing_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until stopped."""
    check_packages(NEEDED, "serve")
    if not 0 <= options.port <= 65535:
        raise InvalidRequest(f"--port is {options.port}; it must lie between 0 and 65535")
    from pochade.server.run import serve
    from pochade.settings import studio_dir

    keys = keys_of(options, os.environ)
    studio = options_of(
        options,
        options.data or studio_dir(),
        keys=keys,
        admins=admins_of(options, keys),
        trusted_proxies=tuple(options.trusted_proxy),
    )
    serve(studio, options.host, options.port, tuple(options.allow_host))
    return 0


def admins_of(options: argparse.Namespace, keys: "Keys") -> tuple[str, ...]:
    """Return the users given with --admin. Raises InvalidRequest for one without a key."""
    for name in options.admin:
        if options.keys is None or name not in keys.digests:
            known = (
                ", ".join(keys.digests) if options.keys is not None else "none: give them with --keys FILE"
            )
            raise InvalidRequest(f"--admin '{name}' is not a user; the users are {known}")
    return tuple(options.admin)


def keys_of(options: argparse.Namespace, environ: Mapping[str, str]) -> "Keys":
    """Return the keys of the server. Raises InvalidRequest if more than one source is given."""
    from pochade.server.auth import Keys, one_key, read_keys

    places = {
        "--key": options.key,
        "--key-file": options.key_file,
        "--keys": options.keys,
        f"${KEY}": environ.get(KEY) or None,
    }
    given = [name for name, value in places.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} were given; use only one of them")
    if options.keys is not None:
        return read_keys(options.keys)
    if options.key_file is not None:
        try:
            return one_key(options.key_file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"--key-file '{options.key_file}' cannot be read: {error}") from error
    key = options.key if options.key is not None else environ.get(KEY)
    return one_key(key) if key else Keys()
