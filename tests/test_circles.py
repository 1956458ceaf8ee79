"""There are no circular imports between modules."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def modules(folder: Path, root: Path) -> dict[str, str]:
    """Full name of every module below a folder -> its source. root: names are counted from here."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imported(source: str) -> Iterator[str]:
    """Names of modules, or of things in them, that are imported at any level, those for types aside."""
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circle(sources: Mapping[str, str]) -> list[str]:
    """The names along one circle, or none."""

    def known(name: str) -> str:
        return name if name in sources else name.rpartition(".")[0]

    graph = {
        name: {known(each) for each in imported(source)} & sources.keys() - {name}
        for name, source in sources.items()
    }
    assert any(graph.values()), "no import between these files was found"
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize(("folder", "root"), [("pochade", "."), ("bench", "bench")])
def test_files_do_not_import_each_other_in_a_circle(folder: str, root: str) -> None:
    assert circle(modules(ROOT / folder, ROOT / root)) == []


@pytest.mark.parametrize(
    ("first", "closed"),
    [
        ("from a.two import thing", True),
        ("import a.two", True),
        ("def f():\n    from a import two", True),
        ("if TYPE_CHECKING:\n    from a.two import Thing", False),
        ("import math", False),
    ],
)
def test_a_circle_is_found(first: str, closed: bool) -> None:
    sources = {"a": "", "a.one": first, "a.two": "from a.three import x", "a.three": "from a.one import y"}
    assert bool(circle(sources)) is closed
