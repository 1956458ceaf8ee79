"""`pochade serve`: the studio, for a browser and for other programs."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.library import add_models_option
from pochade.cli.marks import add_mark_options, signer_of
from pochade.errors import InvalidRequest, MissingDependency

if TYPE_CHECKING:
    from pochade.server.keys import Keys

PORT = 7860
KEY = "POCHADE_KEY"
NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "multipart")

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
        help="draw in a browser, or through an API",
        description="Serve a page to draw in, and APIs that other programs speak. Needs the extra 'serve'.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="another than this computer's own needs a key"
    )
    parser.add_argument(
        "--port", type=int, default=PORT, metavar="N", help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="where jobs and pictures are kept (default: the user's data folder)",
    )
    parser.add_argument(
        "--model", metavar="PATH", help="the default model: a path, or a name (default: the starter)"
    )
    add_models_option(parser)
    who = parser.add_argument_group("who may come in")
    who.add_argument(
        "--key", metavar="KEY", help=f"better in ${KEY} or a file: others may see a command's options"
    )
    who.add_argument("--key-file", type=Path, metavar="FILE", help="a file that holds the key")
    who.add_argument("--keys", type=Path, metavar="FILE", help="several users: lines NAME:KEY")
    who.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which the server is called; * is any",
    )
    what = parser.add_argument_group("what it draws with")
    what.add_argument(
        "--lora-dir", type=Path, metavar="DIR", help="default: where the folders of models have them"
    )
    what.add_argument("--embeddings-dir", type=Path, metavar="DIR", help="default: the same")
    what.add_argument("--upscalers-dir", type=Path, metavar="DIR", help="ESRGAN models (default: the same)")
    what.add_argument("--styles", type=Path, metavar="FILE", help="a styles.csv")
    what.add_argument("--wildcards", type=Path, metavar="DIR", help="where __animal__ finds animal.txt")
    what.add_argument(
        "--device",
        action="append",
        metavar="NAME",
        help="auto, cpu, gpu, cuda, mps; repeated: a worker for each",
    )
    what.add_argument("--precision", default="auto", metavar="NAME", help="auto, f32, bf16, f16 or int8")
    what.add_argument("--engine", default="auto", metavar="NAME", help="auto, openvino, torch or numpy")
    what.add_argument(
        "--memory-budget", metavar="SIZE", help="such as 4GB, for each worker: as for 'pochade draw'"
    )
    add_mark_options(parser)
    much = parser.add_argument_group("how much")
    for name, default in _limits().items():
        much.add_argument(
            f"--max-{name.replace('_', '-')}", type=int, metavar="N", help=f"default: {default}"
        )
    much.add_argument(
        "--budget", type=float, default=20.0, metavar="GB", help="for pictures; the oldest go (default: 20)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serves until it is stopped."""
    import importlib.util

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"serving needs more packages ({', '.join(missing)}): pip install 'pochade[serve]'"
        )
    if not 0 <= options.port <= 65535:
        raise InvalidRequest(f"--port is {options.port}; it must lie between 0 and 65535")
    if not 0.001 <= options.budget <= 1e6:
        raise InvalidRequest(
            f"--budget is {options.budget:g}; it must lie between 0.001 and 1000000 (gigabytes)"
        )
    from pochade.jobs.catalogue import Folders
    from pochade.jobs.limits import Limits
    from pochade.pipeline.loading.budget import bytes_of
    from pochade.server.desk import Options
    from pochade.server.run import serve
    from pochade.settings import cache_dir, model_roots, signing_file, studio_dir

    signer_of(options)  # what cannot be signed is said now, and the key is made

    for name in ("lora_dir", "embeddings_dir", "upscalers_dir", "wildcards"):
        folder = getattr(options, name)
        if folder is not None and not folder.is_dir():
            raise InvalidRequest(f"--{name.replace('_', '-')} '{folder}' is no folder")
    given = {name: getattr(options, f"max_{name}") for name in _limits()}
    for name, value in given.items():
        if value is not None and value < 1:
            raise InvalidRequest(f"--max-{name.replace('_', '-')} is {value}; it must be at least 1")
    serve(
        Options(
            data=(options.data or studio_dir()).expanduser().absolute(),
            folders=Folders(
                model=options.model,
                roots=model_roots(options.models),
                memory=cache_dir() / "models.json",
                loras=options.lora_dir,
                embeddings=options.embeddings_dir,
                upscalers=options.upscalers_dir,
                styles=options.styles,
                wildcards=options.wildcards,
            ),
            devices=tuple(options.device or ("auto",)),
            precision=options.precision,
            engine=options.engine,
            memory_budget="" if options.memory_budget is None else str(bytes_of(options.memory_budget)),
            marks=not options.no_mark,
            sign=signing_file() if options.sign else None,
            limits=Limits(**{name: value for name, value in given.items() if value is not None}),
            budget_bytes=int(options.budget * 1e9),
            keys=keys_of(options, os.environ),
        ),
        options.host,
        options.port,
        tuple(options.allow_host),
    )
    return 0


def keys_of(options: argparse.Namespace, environ: Mapping[str, str]) -> "Keys":
    """From one of the places where a key may be. Raises InvalidRequest if there are several."""
    from pochade.server.keys import Keys, one_key, read_keys

    places = {
        "--key": options.key,
        "--key-file": options.key_file,
        "--keys": options.keys,
        f"${KEY}": environ.get(KEY) or None,
    }
    given = [name for name, value in places.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{' and '.join(given)} were given; one of them is enough, and two may differ")
    if options.keys is not None:
        return read_keys(options.keys)
    if options.key_file is not None:
        try:
            return one_key(options.key_file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"--key-file '{options.key_file}' cannot be read: {error}") from error
    key = options.key if options.key is not None else environ.get(KEY)
    return one_key(key) if key else Keys()


def _limits() -> dict[str, int]:
    """The limits that may be changed, with their defaults. Plain numbers: help must not need the packages."""
    return {
        "pixels": 2048 * 2048,
        "steps": 150,
        "batch_size": 16,
        "pictures": 64,
        "queue": 5000,
        "own_queue": 1000,
        "body_bytes": 64 * 2**20,
        "picture_pixels": 32 * 2**20,
    }
