"""`pochade models list`, `pull` and `remove`: the folders of models, and what comes into Pochade's own."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.model_options import add_models_option
from pochade.errors import InvalidRequest, OutputError

if TYPE_CHECKING:
    from pochade.checkpoints.contents import Contents
    from pochade.checkpoints.library import Entry
    from pochade.hub.pulling import Pull


def add_actions(actions: Any) -> None:
    listing = actions.add_parser(
        "list",
        help="show the models in the folders of models",
        description="Looks through $POCHADE_MODELS (or --models) and Pochade's own folder.",
    )
    add_models_option(listing)
    listing.add_argument("--json", action="store_true", help="as JSON, for programs")
    listing.set_defaults(run=_list)

    pull = actions.add_parser(
        "pull",
        help="fetch a model from the Hugging Face hub",
        description="Fetch a model from the Hugging Face hub into Pochade's own folder of models. A pull that"
        " was broken off is gone on with.",
    )
    pull.add_argument("model", metavar="OWNER/NAME[@REVISION]")
    pull.add_argument("--variant", metavar="NAME", help="which edition of the weights, such as fp16")
    pull.add_argument("--file", metavar="NAME", help="one file, in place of the diffusers folder")
    pull.add_argument("--yes", action="store_true", help="accept the licence without being asked")
    add_models_option(pull)
    pull.set_defaults(run=_pull)

    remove = actions.add_parser("remove", help="remove a model from Pochade's own folder")
    remove.add_argument("model", metavar="NAME", help="as 'pochade models list' shows it")
    remove.add_argument("--yes", action="store_true", help="remove it without asking")
    add_models_option(remove)
    remove.set_defaults(run=_remove)


def _list(options: argparse.Namespace) -> int:
    from pochade.checkpoints.library import describe, entries, size_of
    from pochade.checkpoints.own_folder import unfinished
    from pochade.settings import contents_file, model_roots

    roots = model_roots(options.models)
    found = describe(entries(roots), contents_file())
    rows = [_row(entry, contents, size_of(entry.path)) for entry, contents in found]
    rows += [
        {**_place(entry), "kind": "unfinished", "family": "", "bytes": size_of(entry.path)}
        for entry in unfinished(roots)
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    if not rows:
        print(
            f"no models in {', '.join(map(str, roots))}. Put files there, name another folder"
            " (POCHADE_MODELS, --models DIR), or fetch one: pochade models pull OWNER/NAME"
        )
        return 0
    from pochade.cli.models import size_text

    lines = [("name", "family", "size", "kind", "where")]
    lines += [
        (row["name"], row["family"] or "-", size_text(row["bytes"]), row["kind"], row["path"]) for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    for line in lines:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[4]]))
    return 0


def _row(entry: "Entry", contents: "Contents", size: int) -> dict[str, Any]:
    """What of an unsupported or unreadable file is no family, is why."""
    from pochade.checkpoints.contents import MODEL

    known = contents.kind == MODEL
    row = {**_place(entry), "kind": contents.kind, "family": contents.family if known else "", "bytes": size}
    return row if known or not contents.family else {**row, "reason": contents.family}


def _place(entry: "Entry") -> dict[str, Any]:
    return {"name": entry.name, "path": str(entry.path), "root": str(entry.root)}


def _pull(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from pochade.checkpoints.own_folder import own_folder
    from pochade.hub.pulling import check_space, fetch, place, plan, there_already
    from pochade.settings import model_roots

    repo, at, revision = options.model.partition("@")
    if at and not revision:
        raise InvalidRequest(f"'{options.model}' names no revision; write OWNER/NAME@REVISION")
    roots = model_roots(options.models)
    root = own_folder(roots[:1] if options.models is not None else roots)
    pull = plan(repo, root, revision=revision or None, variant=options.variant, file=options.file)
    there = there_already(pull)
    if there is not None:
        print(f"'{pull.name}' is there already", file=sys.stderr)
        print(there)
        return 0
    check_space(pull)
    _show(pull)
    if not options.yes:
        _ask(
            "Accept the licence and fetch it?",
            "read the licence, then accept it with --yes",
        )
    with tqdm(total=pull.size, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for grown in fetch(pull):
            bar.update(grown)
    print(place(pull))
    return 0


def _show(pull: "Pull") -> None:
    from pochade.cli.models import size_text

    held = f", of which {size_text(pull.held)} are here already" if pull.held else ""
    pickled = [file.path for file in pull.files if file.path.endswith((".bin", ".ckpt", ".pt", ".pth"))]
    for what, text in (
        ("model", f"{pull.model.repo} at {pull.model.commit[:12]}"),
        ("licence", f"{pull.model.licence or 'none is named'}  {pull.model.licence_link}"),
        ("files", f"{len(pull.files)}, {size_text(pull.size)}{held}"),
        (
            "pickled",
            f"{', '.join(pickled)} (there is nothing else; no code in it is run)" if pickled else "",
        ),
        ("into", str(pull.root)),
    ):
        if text:
            print(f"{what:>8}  {text}", file=sys.stderr)


def _remove(options: argparse.Namespace) -> int:
    from pochade.checkpoints.own_folder import check_removable, remove
    from pochade.cli.models import size_text
    from pochade.settings import model_roots

    meant = _meant(options.model, model_roots(options.models))
    for entry in meant:
        check_removable(entry)
        print(f"{entry.name}  {entry.path}", file=sys.stderr)
    if not options.yes:
        _ask("Remove this?", "confirm with --yes")
    freed = sum(remove(entry) for entry in meant)
    print(f"removed '{options.model}'; {size_text(freed)} are free again")
    return 0


def _meant(name: str, roots: Sequence[Path]) -> "list[Entry]":
    """The model of a name; or else what pulls of it have left."""
    from pochade.checkpoints.library import entries, pick
    from pochade.checkpoints.own_folder import unfinished

    known = entries(roots)
    left = [entry for entry in unfinished(roots) if name in (entry.name, entry.name.partition("@")[0])]
    if left and not any(entry.answers_to(name) for entry in known):
        return left
    return [pick(name, known, roots)]


def _ask(question: str, without_terminal: str) -> None:
    """Raises OutputError unless the answer is yes."""
    if not sys.stdin.isatty():
        raise OutputError(f"there is no terminal to ask at; {without_terminal}")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise OutputError("nothing was done")
