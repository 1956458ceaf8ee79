"""Matching names of files, and the shortest unambiguous names."""

from pathlib import Path

import pytest

from pochade.checkpoints.library import ModelEntry, matching_entries, shortest_names


def known(*names: str) -> list[ModelEntry]:
    return [ModelEntry(name, Path(f"/models/{name}.safetensors"), Path("/models")) for name in names]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ink", "oil"], ["ink", "oil"]),
        (["styles/ink", "lines/ink"], ["styles/ink", "lines/ink"]),
        (["ink", "styles/ink"], ["ink", "styles/ink"]),
        (["a/styles/ink", "b/styles/ink", "b/oil"], ["a/styles/ink", "b/styles/ink", "oil"]),
        (["Ink", "x/ink"], ["Ink", "x/ink"]),
        (["ink", "ink/a", "ink/b"], ["ink", "a", "b"]),
    ],
)
def test_the_shortest_name_means_its_file(names: list[str], expected: list[str]) -> None:
    entries = known(*names)
    assert shortest_names(entries) == expected
    for name, entry in zip(expected, entries, strict=True):
        assert matching_entries(name, entries) == [entry]


def test_what_several_have_means_several() -> None:
    assert len(matching_entries("ink", known("styles/ink", "lines/ink"))) == 2
    assert len(matching_entries("styles", known("styles/ink", "styles/oil"))) == 2
    assert matching_entries("oil", known("styles/ink")) == []
    assert matching_entries("../ink", known("styles/ink")) == []
