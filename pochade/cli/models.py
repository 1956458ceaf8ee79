"""`pochade models`: list, pull, inspect, check and convert models."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.model_options import add_models_option
from pochade.cli.models_folder import add_actions
from pochade.cli.quantize import add_quantize
from pochade.cli.terminal import size_text
from pochade.errors import InvalidCheckpoint, InvalidRequest

if TYPE_CHECKING:
    from pochade.checkpoints.folder import Checkpoint
    from pochade.tools.inspect import CheckpointFacts

EXAMPLES = """examples:
  pochade models info model.safetensors
  pochade models verify model.ckpt --sha256 6ce0161689
  pochade models convert model.ckpt model.safetensors --precision f16
  pochade models convert model.safetensors model/
  pochade models quantize model.safetensors -o model.int8.safetensors
  pochade models list --models ~/ComfyUI
  pochade models known
  pochade models pull sd15
  pochade models pull OWNER/NAME --variant fp16
  pochade models remove OWNER/NAME
"""

PRECISIONS = ("f16", "bf16", "f32")
MEMORY = {"f32": 4, "bf16 or f16": 2}
"""Bytes per weight in memory, by precision."""

HASH_DIGITS = 8  # fewer could match by chance


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "models",
        help="list, fetch, inspect, check and convert models",
        description="List, fetch, inspect, check and convert checkpoint files and diffusers folders.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    info = actions.add_parser("info", help="show what a model contains and how much memory it needs")
    _source(info, "path")
    info.set_defaults(run=_info)

    verify = actions.add_parser("verify", help="read a whole model and check that it is complete")
    _source(verify, "path")
    verify.add_argument(
        "--sha256", metavar="DIGITS", help="expected SHA-256 of the file, or the beginning of it"
    )
    verify.set_defaults(run=_verify)

    convert = actions.add_parser(
        "convert",
        help="convert a model to another layout",
        description="Write a single file if TARGET ends in .safetensors, else a diffusers folder.",
    )
    _source(convert, "source")
    convert.add_argument("target", type=Path, metavar="TARGET", help="a new file or folder")
    convert.add_argument(
        "--precision", choices=PRECISIONS, help="precision of the numbers in the file (default: as stored)"
    )
    convert.set_defaults(run=_convert)
    add_quantize(actions, _source)
    add_actions(actions)


def _source(parser: argparse.ArgumentParser, name: str) -> None:
    parser.add_argument(
        name,
        type=Path,
        metavar=name.upper(),
        help="a checkpoint's file, a diffusers folder, the name of a model, or 'starter'",
    )
    add_models_option(parser)
    parser.add_argument("--vae", metavar="PATH", help="an autoencoder in place of the model's own")
    parser.add_argument("--variant", metavar="NAME", help="variant of a folder's weights, such as fp16")
    parser.add_argument(
        "--config",
        metavar="PATH",
        help="a diffusers folder or a JSON file with the configuration that the file lacks",
    )
    parser.add_argument("--prediction", metavar="NAME", help="what the model predicts: epsilon, v_prediction")


def _open(options: argparse.Namespace, path: Path) -> "Checkpoint":
    from pochade.checkpoints.library import find
    from pochade.checkpoints.read import read_checkpoint
    from pochade.pipeline.loader import model_path
    from pochade.settings import model_roots

    vae = options.vae
    return read_checkpoint(
        model_path(path, options.models),
        variant=options.variant,
        vae=None if vae is None else find(vae, model_roots(options.models), "vae"),
        config=options.config,
        prediction=options.prediction,
    )


def _info(options: argparse.Namespace) -> int:
    from pochade.checkpoints.fingerprint import cached_hash
    from pochade.settings import cache_dir
    from pochade.tools.inspect import facts

    found = facts(_open(options, options.path))
    for line in _lines(found):
        print(line)
    for file in found.files:
        print(f"{'hash':>12}  {cached_hash(file, cache_dir() / 'hashes.json')}  {file}")
    return 0


def _lines(found: "CheckpointFacts") -> list[str]:
    kind = f"{found.family}, for inpainting" if found.inpainting else found.family
    rows = [
        ("name", found.name),
        ("family", kind),
        ("draws", f"{found.side}x{found.side}, if no size is given"),
        ("predicts", f"{found.prediction}: {found.prediction_reason}"),
    ]
    if found.few_steps is not None:
        rows.append(("few steps", str(found.few_steps)))
    for part in found.parts:
        text = f"{_millions(part.parameters)} in {part.tensors:,} tensors, {', '.join(part.types)}"
        rows.append((part.name.replace("_", " "), f"{text}, {size_text(part.bytes)}"))
    needs = [f"{size_text(found.parameters * width)} in {name}" for name, width in MEMORY.items()]
    rows.append(("memory", f"{', '.join(needs)}, for the weights alone"))
    return [f"{what:>14}  {text}" for what, text in rows]


def _verify(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from pochade.checkpoints.pull_record import check_record, pulled_files
    from pochade.pipeline.loader import model_path
    from pochade.tools.inspect import components, facts, hashing, verify

    expected = None if options.sha256 is None else _digits(options.sha256)
    checkpoint = _open(options, options.path)
    files = facts(checkpoint).files
    if expected is not None and len(files) > 1:
        raise InvalidRequest(f"--sha256 applies to a single file; '{options.path}' has {len(files)}")
    total = sum(tensor.nbytes for part in components(checkpoint) for tensor in part.tensors.values())
    total += sum(file.stat().st_size for file in files)
    path = model_path(options.path, options.models)
    total += sum(file.stat().st_size for file in pulled_files(path) if file.is_file())
    hashes: dict[Path, str] = {}
    with _bar(tqdm, total) as bar:
        for step in verify(checkpoint):
            bar.update(step)
        for step in check_record(path):
            bar.update(step)
        for file in files:
            for read, digest in hashing(file):
                bar.update(read)
                hashes[file] = digest
    for file, digest in hashes.items():
        if expected is not None and not digest.startswith(expected):
            raise InvalidCheckpoint(
                f"'{file}' has the SHA-256 {digest}, not {expected}...: it is a different file, or damaged;"
                " download it again"
            )
        print(f"{digest}  {file}")
    print(f"complete: {sum(len(part.tensors) for part in components(checkpoint)):,} tensors, all finite")
    return 0


def _convert(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from pochade.tools.convert import convert

    checkpoint = _open(options, options.source)
    with _bar(tqdm, 0) as bar:
        # Not in the background, so that Ctrl-C removes the incomplete output.
        for step in convert(checkpoint, options.target, options.precision):
            bar.total = step.total
            bar.update(step.done - bar.n)
    print(options.target)
    return 0


def _bar(tqdm: Any, total: int) -> Any:
    return tqdm(total=total, unit="B", unit_scale=True, leave=False, disable=None)


def _digits(text: str) -> str:
    digits = text.strip().lower()
    if not HASH_DIGITS <= len(digits) <= 64 or set(digits) - set("0123456789abcdef"):
        raise InvalidRequest(f"--sha256 '{text}' is not a hash: give {HASH_DIGITS} to 64 hexadecimal digits")
    return digits


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} million numbers"
