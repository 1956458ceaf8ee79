"""`pochade models list` and `remove`: the models in the folders."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pochade.cli.model_options import add_models_option
from pochade.cli.pull import add_pull, ask

if TYPE_CHECKING:
    from pochade.checkpoints.contents import Contents
    from pochade.checkpoints.library import ModelEntry


def add_actions(actions: Any) -> None:
    listing = actions.add_parser(
        "list",
        help="show the models in the folders of models",
        description="List the models in $POCHADE_MODELS (or --models) and in Pochade's own folder.",
    )
    add_models_option(listing)
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_list)

    add_pull(actions, add_models_option)

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
            " (POCHADE_MODELS, --models DIR), or pull one: pochade models pull sd15 ('pochade models known'"
            " lists others)"
        )
        return 0
    from pochade.cli.terminal import size_text

    lines = [("name", "family", "size", "kind", "where")]
    lines += [
        (row["name"], row["family"] or "-", size_text(row["bytes"]), row["kind"], row["path"]) for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(4)]
    for line in lines:
        print("  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[4]]))
    return 0


def _row(entry: "ModelEntry", contents: "Contents", size: int) -> dict[str, Any]:
    """Return a row of the list, with the family, or the reason for an unsupported or unreadable file."""
    from pochade.checkpoints.contents import MODEL

    known = contents.kind == MODEL
    row = {**_place(entry), "kind": contents.kind, "family": contents.family if known else "", "bytes": size}
    return row if known or not contents.family else {**row, "reason": contents.family}


def _place(entry: "ModelEntry") -> dict[str, Any]:
    return {"name": entry.name, "path": str(entry.path), "root": str(entry.root)}


def _remove(options: argparse.Namespace) -> int:
    from pochade.checkpoints.own_folder import check_removable, remove
    from pochade.cli.terminal import size_text
    from pochade.settings import model_roots

    matches = _resolve(options.model, model_roots(options.models))
    for entry in matches:
        check_removable(entry)
        print(f"{entry.name}  {entry.path}", file=sys.stderr)
    if not options.yes:
        ask("Remove this?", "confirm with --yes")
    freed = sum(remove(entry) for entry in matches)
    print(f"removed '{options.model}'; {size_text(freed)} freed")
    return 0


def _resolve(name: str, roots: Sequence[Path]) -> "list[ModelEntry]":
    """Return the model with this name, or otherwise its unfinished pulls."""
    from pochade.checkpoints.library import entries, pick
    from pochade.checkpoints.own_folder import unfinished

    known = entries(roots)
    left = [entry for entry in unfinished(roots) if name in (entry.name, entry.name.partition("@")[0])]
    if left and not any(entry.answers_to(name) for entry in known):
        return left
    return [pick(name, known, roots)]
