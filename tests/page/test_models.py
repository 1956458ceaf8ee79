"""The list of downloadable models: licence, progress, cancelling, and use of the new model."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pochade.hub.known_models import KNOWN_MODELS, known
from tests.fake_hub import FakeHub
from tests.fake_hub import serving as hub_serving
from tests.page.conftest import Visit, serving, visiting

pytest.importorskip("playwright")
from playwright.sync_api import expect

pytestmark = pytest.mark.slow
NAME = "lcm-dreamshaper"


@pytest.fixture(scope="module")
def hub(whole: Callable[[str], Any]) -> Iterator[FakeHub]:
    folder = whole("SD 1.5").saved()
    files = [each for each in folder.rglob("*") if each.is_file()]
    contents = {each.relative_to(folder).as_posix(): each.read_bytes() for each in files}
    with hub_serving(FakeHub(contents, repo=known(NAME).repo)) as there:
        yield there


@pytest.fixture(scope="module")
def fetching(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that asks that hub."""
    folder: Path = tmp_path_factory.mktemp("fetching")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.address)
        patch.setenv("HF_HUB_OFFLINE", "0")
        patch.setenv("HF_HOME", str(folder / "hf"))
        patch.delenv("HF_TOKEN", raising=False)
        with serving(folder, "--models", str(folder / "models")) as address:
            yield address


@pytest.fixture
def visit(browser: Any, fetching: str) -> Iterator[Visit]:
    with visiting(browser, fetching) as open_page:
        yield open_page


def entry(page: Any, name: str = NAME) -> Any:
    return page.locator(f'.known-models li[data-name="{name}"]')


def test_the_list_says_what_each_is_and_asks_nobody(visit: Visit, hub: FakeHub) -> None:
    page = visit(path="/#settings")
    expect(page.locator(".known-models li")).to_have_count(len(KNOWN_MODELS))
    words = entry(page, "sd15")
    expect(words).to_contain_text("Stable Diffusion 1.5")
    expect(words).to_contain_text("about 2.1 GB · creativeml-openrail-m")
    expect(words).to_contain_text("1.3 GB in int8, 2.1 GB in bf16")
    expect(entry(page, "sd-turbo")).to_contain_text("licence: shown before the download")
    assert words.get_by_role("link").get_attribute("href") == known("sd15").page
    assert hub.log == []


def test_a_declined_licence_fetches_nothing(visit: Visit, hub: FakeHub) -> None:
    page = visit(path="/#settings")
    entry(page).get_by_role("button", name="Download").click()
    paper = page.get_by_role("dialog")
    expect(paper).to_contain_text("openrail++")
    paper.get_by_role("button", name="Not now").click()
    expect(page.locator("#notes")).to_contain_text("The licence was not accepted, so nothing was downloaded.")
    expect(entry(page).get_by_role("button", name="Download")).to_be_visible()
    assert hub.requests("store") == []


def test_cancelled_on_the_way_and_fetched_then(visit: Visit, hub: FakeHub) -> None:
    page = visit(path="/#settings")
    hub.cuts = [3000, *[0] * 20]
    entry(page).get_by_role("button", name="Download").click()
    page.get_by_role("button", name="Accept the licence and download").click()
    expect(entry(page)).to_contain_text("% downloaded")
    page.reload()
    expect(entry(page)).to_contain_text("% downloaded")  # whoever comes back sees it
    expect(page.get_by_role("progressbar", name="LCM Dreamshaper v7")).to_be_visible()
    entry(page).get_by_role("button", name="Cancel").click()
    expect(page.locator("#notes")).to_contain_text("The downloaded part is kept")
    expect(entry(page).get_by_role("button", name="Download")).to_be_visible()
    hub.cuts = []
    entry(page).get_by_role("button", name="Download").click()
    page.get_by_role("button", name="Accept the licence and download").click()
    expect(entry(page)).to_contain_text("The model is available.")
    expect(entry(page).get_by_role("button", name="Download")).to_be_hidden()
    options = page.locator(".bar-model option")
    expect(options.filter(has_text=NAME)).to_have_count(1)  # it can be chosen at once
