"""`pochade models pull`, and the offer to fetch a known model that is missing."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.errors import InvalidRequest, OutputError

if TYPE_CHECKING:
    from pochade.hub.known_models import KnownModel
    from pochade.hub.pull import Pull

MODEL_OPTIONS = ("model", "vae", "hires_model", "refiner", "control_model")
"""Options that name models; the last one names several."""

DECLINED = "the licence was not accepted, so nothing was fetched"


def add_pull(actions: Any, add_models_option: Any) -> None:
    pull = actions.add_parser(
        "pull",
        help="fetch a model from the Hugging Face hub",
        description="Fetch a model from the Hugging Face hub into Pochade's own folder of models: one with a"
        " short name ('pochade models known' lists them), or any other by its id. An interrupted pull is"
        " resumed.",
    )
    pull.add_argument("model", metavar="NAME", help="a short name, or OWNER/NAME[@REVISION]")
    pull.add_argument("--variant", metavar="NAME", help="variant of the weights, such as fp16")
    pull.add_argument("--file", metavar="NAME", help="fetch this one file instead of the diffusers folder")
    pull.add_argument("--yes", action="store_true", help="accept the licence without being asked")
    add_models_option(pull)
    pull.set_defaults(run=run)

    listing = actions.add_parser(
        "known",
        help="list the models that have a short name",
        description="List the models that 'pochade models pull' knows by a short name. Nothing is fetched.",
    )
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=list_known)


def run(options: argparse.Namespace) -> int:
    """Fetch a model and print its path."""
    from pochade.hub.pull import plan

    if "/" not in options.model:
        return _pull_known(options)
    repo, at, revision = options.model.partition("@")
    if at and not revision:
        raise InvalidRequest(f"'{options.model}' names no revision; write OWNER/NAME@REVISION")
    root = _own_root(options.models)
    pull = plan(repo, root, revision=revision or None, variant=options.variant, file=options.file)
    print(_fetched(pull, accepted=options.yes))
    return 0


def _pull_known(options: argparse.Namespace) -> int:
    from pochade.hub.known_models import known
    from pochade.hub.pull import find_pulled, plan_known

    model = known(options.model)
    if options.variant is not None or options.file is not None:
        raise InvalidRequest(
            f"'{model.name}' is the short name of one variant; for another, give the id: pochade models pull"
            f" {model.repo}"
        )
    root = _own_root(options.models)
    installed = find_pulled(model, root)
    if installed is not None:
        print(f"'{model.name}' is already installed", file=sys.stderr)
        print(installed)
        return 0
    other = next(iter(_answering(model.name, options.models)), None)
    if other is not None:
        raise InvalidRequest(
            f"'{model.name}' already names '{other}'; use that one, move it, or pull the other under"
            f" its id: pochade models pull {model.repo}"
        )
    print(_fetched(plan_known(model, root), accepted=options.yes))
    return 0


def list_known(options: argparse.Namespace) -> int:
    """List the models with a short name: size, licence, memory and settings."""
    import json

    from pochade.cli.terminal import size_text
    from pochade.hub.known_models import KNOWN_MODELS

    if options.json:
        print(json.dumps([model.as_json() for model in KNOWN_MODELS], indent=1))
        return 0
    for model in KNOWN_MODELS:
        weights = ", ".join(f"{size_text(model.weights_bytes(name))} in {name}" for name in ("int8", "bf16"))
        print(f"{model.name}  {model.title}")
        for what, text in (
            ("page", model.page),
            ("licence", licence_text(model)),
            ("fetches", f"about {size_text(model.download_bytes)}"),
            ("memory", f"{weights}, computed, for the weights alone"),
            ("measured", model.measured),
            ("draws", f"{model.side}x{model.side}, {model.defaults}" if model.defaults else ""),
            ("note", model.note),
        ):
            if text:
                print(f"{what:>10}  {text}")
    return 0


def offer_missing(options: argparse.Namespace) -> None:
    """Offer to pull a missing known model that a command names.

    Raises InvalidRequest, with the command that fetches it, without a terminal; OutputError if the answer is
    no.
    """
    from pochade.hub.known_models import find_known

    given = [getattr(options, name, None) for name in MODEL_OPTIONS]
    named = [name for each in given for name in (each if isinstance(each, list) else [each])]
    for name in dict.fromkeys(str(each) for each in named if each is not None):
        model = find_known(name)
        if model is not None and not Path(name).exists() and not _answering(model.name, options.models):
            _offer(model, options.models)


def licence_text(model: "KnownModel") -> str:
    """The licence of a known model, in a few words."""
    return model.licence or "unconfirmed; the hub states it before anything is downloaded"


def ask(question: str, without_terminal: str, declined: str = "nothing was done") -> None:
    """Ask a question. Raises OutputError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise OutputError(f"cannot ask without a terminal; {without_terminal}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OutputError(declined)


# --- inside -----------------------------------------------------------------------------------------------


def _offer(model: "KnownModel", models: Path | None) -> None:
    from pochade.cli.terminal import size_text
    from pochade.hub.pull import plan_known

    command = model.command if models is None else f"{model.command} --models {models}"
    about = f"'{model.name}' ({model.title}) is not on this computer"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidRequest(
            f"{about}; fetch it with '{command}' (about {size_text(model.download_bytes)}; licence:"
            f" {licence_text(model)})"
        )
    print(f"pochade: {about}", file=sys.stderr)
    ask(
        f"Ask the hub for it (about {size_text(model.download_bytes)}, {model.page})?",
        f"fetch it with '{command}'",
        f"'{model.name}' was not fetched; '{command}' fetches it later",
    )
    _fetched(plan_known(model, _own_root(models)), accepted=False)


def _fetched(pull: "Pull", *, accepted: bool) -> Path:
    """Fetch a model; returns its path. accepted: whether the licence is accepted without asking."""
    from tqdm import tqdm

    from pochade.hub.pull import already_pulled, check_space, fetch, install

    installed = already_pulled(pull)
    if installed is not None:
        print(f"'{pull.name}' is already installed", file=sys.stderr)
        return installed
    check_space(pull)
    _show(pull)
    if not accepted:
        ask("Accept the licence and fetch it?", "read the licence, then accept it with --yes", DECLINED)
    with tqdm(total=pull.size, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for grown in fetch(pull):
            bar.update(grown)
    return install(pull)


def _show(pull: "Pull") -> None:
    from pochade.cli.terminal import size_text

    downloaded = f", {size_text(pull.local_bytes)} of them downloaded" if pull.local_bytes else ""
    pickled = [file.path for file in pull.files if file.path.endswith((".bin", ".ckpt", ".pt", ".pth"))]
    for what, text in (
        ("model", f"{pull.model.repo} at {pull.model.commit[:12]}"),
        ("licence", f"{pull.model.licence or 'none is named'}  {pull.model.licence_link}"),
        ("files", f"{len(pull.files)}, {size_text(pull.size)}{downloaded}"),
        (
            "pickled",
            f"{', '.join(pickled)} (no other files; code in them is not executed)" if pickled else "",
        ),
        ("into", str(pull.root)),
    ):
        if text:
            print(f"{what:>8}  {text}", file=sys.stderr)


def _roots(models: Path | None) -> Sequence[Path]:
    from pochade.settings import model_roots

    return model_roots(models)


def _own_root(models: Path | None) -> Path:
    """The folder for fetched models."""
    from pochade.checkpoints.own_folder import own_folder

    roots = _roots(models)
    return own_folder(roots[:1] if models is not None else roots)


def _answering(name: str, models: Path | None) -> list[Path]:
    """The files and folders that the name refers to."""
    from pochade.checkpoints.library import entries

    return [entry.path for entry in entries(_roots(models)) if entry.answers_to(name)]
