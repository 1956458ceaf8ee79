"""The documentation: links are valid, and every page and picture is linked."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "pochade").rglob("*.md"),
        *ROOT.glob("bench/*.md"),
    ]
)


def links(page: str) -> list[str]:
    """The targets of links and pictures that lie in this repository; what stands in code is no link."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page, flags=re.DOTALL)
    return [target for target in re.findall(r"\]\(([^()\s]+)\)", prose) if "://" not in target]


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(path: Path, page: str) -> list[str]:
    """The links of a page that lead nowhere."""
    found = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path: Path) -> None:
    assert broken(path, path.read_text(encoding="utf-8")) == []


def test_a_broken_link_is_found() -> None:
    page = "[a](docs/api.md) [b](docs/apy.md) [c](docs/api.md#jobs) [d](docs/api.md#jots) `[e](docs/e.md)`"
    assert broken(ROOT / "README.md", page) == ["docs/apy.md", "docs/api.md#jots"]


def test_the_readme_leads_to_every_page_of_the_docs() -> None:
    shown = {
        (ROOT / link.partition("#")[0]).resolve() for link in links((ROOT / "README.md").read_text("utf-8"))
    }
    pages = {path for path in PAGES if ROOT / "docs" in path.parents and path.parent.name != "decisions"}
    assert pages <= shown
    assert ROOT / "docs" / "decisions" in shown


def test_every_picture_of_the_docs_is_shown() -> None:
    shown = {(path.parent / link).resolve() for path in PAGES for link in links(path.read_text("utf-8"))}
    pictures = set((ROOT / "docs" / "pictures").glob("*.png"))
    assert pictures and pictures <= shown
