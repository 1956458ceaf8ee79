"""All visible text is in the tables of both languages; no resources are loaded from other hosts."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from tests.page.conftest import ROOT, Visit

STATIC = ROOT / "pochade" / "server" / "static"
SOURCES = {
    path: path.read_text(encoding="utf-8") for path in STATIC.rglob("*.js") if path.parent.name != "messages"
}
FIELDS = (
    r"(?<![.\w])(?:slider|number|choice|toggle|lines|labelled)"
    r"\(\s*(?:(?:form|how|tool|margins),\s*)?\"(\w+)\""
)
FAMILIES = (
    "panel",
    "speed",
    "rng",
    "emphasis",
    "shape",
    "fill",
    "resize",
    "side",
    "kind",
    "vary",
    "theme",
    "worker",
    "key",
    "field",
    "note",
    "refusal",
    "left_out",
)
"""Names that are put together: t(`panel_${name}`)."""


def table(language: str) -> dict[str, str]:
    text = (STATIC / "js" / "messages" / f"{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^ {2}(\w+):\s*"((?:[^"\\]|\\.)*)",$', text, re.MULTILINE))


def used() -> set[str]:
    names: set[str] = set()
    for source in SOURCES.values():
        names |= set(re.findall(r'\bt\("(\w+)"', source))
        names |= {
            f"{name}_{n}" for name in re.findall(r'\bcounted\("(\w+)"', source) for n in ("one", "many")
        }
        names |= {f"field_{name}" for name in re.findall(FIELDS, source)}
    return names


def test_both_languages_have_the_same_names_and_places() -> None:
    english, french = table("en"), table("fr")
    assert len(english) > 200
    assert set(english) == set(french)
    for name, words in english.items():
        assert set(re.findall(r"\{(\w+)\}", words)) == set(re.findall(r"\{(\w+)\}", french[name])), name


def test_every_word_that_is_used_is_there_and_the_other_way_round() -> None:
    english = table("en")
    assert used() - set(english) == set()
    families = {name for name in english if name.startswith(tuple(f"{family}_" for family in FAMILIES))}
    assert set(english) - used() - families == set()


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script>", page)
    for path in STATIC.rglob("*"):
        if path.suffix not in (".js", ".css", ".html", ".svg"):
            continue
        text = path.read_text(encoding="utf-8")
        addresses = set(
            re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
        )
        assert addresses <= {"http://www.w3.org"}, path  # the name of SVG
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text
        ), path


def test_small_files() -> None:
    for path, source in SOURCES.items():
        assert source.count("\n") <= 220, path


@pytest.mark.parametrize(
    ("locale", "word"), [("fr-FR", "Générer"), ("en-GB", "Generate"), ("de-DE", "Generate")]
)
def test_the_browsers_language_is_spoken(browser: object, server: str, locale: str, word: str) -> None:
    context = browser.new_context(locale=locale)  # type: ignore[attr-defined]
    try:
        page = context.new_page()
        page.goto(server)
        page.locator("html[data-ready]").wait_for()
        assert page.locator(".generate").inner_text().strip() == word
        assert page.locator("html").get_attribute("lang") == ("fr" if locale == "fr-FR" else "en")
    finally:
        context.close()


@pytest.mark.slow
def test_language_and_colours_are_chosen_and_kept(visit: Visit, size: str) -> None:
    page = visit(size, "/#settings", color_scheme="light")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("radio", name="Dark").click()
    dark = page.evaluate(paper)
    assert dark != light
    page.get_by_label("Language").select_option("fr")
    page.locator("html[lang=fr][data-ready]").wait_for()
    assert page.evaluate(paper) == dark
    assert page.get_by_role("tab", name="Réglages").get_attribute("aria-selected") == "true"


@pytest.mark.slow
def test_everything_has_a_name_and_is_large_enough_for_a_finger(visit: Visit) -> None:
    page = visit("phone")
    for panel in ("draw", "over", "board", "upscale", "info", "history", "settings"):
        page.locator(f"#tab-{panel}").click()
        page.locator(f"#panel-{panel}").wait_for()
        faults = page.evaluate(
            """() => [...document.querySelectorAll("button, select, textarea, input, summary, a")]
                .filter((each) => each.checkVisibility() && !each.matches(".skip-link, .unseen"))
                .map((each) => {
                    const target = each.type === "checkbox" ? each.closest("label") : each;
                    const {width, height} = target.getBoundingClientRect();
                    const label = each.labels?.[0]?.textContent;
                    const name = each.getAttribute("aria-label") || label || each.textContent;
                    return {name: name?.trim(), width, height, markup: each.outerHTML.slice(0, 90)};
                })
                .filter(({name, width, height}) => !name || height < 43.5 || width < 43.5)"""
        )
        assert faults == [], panel
        assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]


@pytest.mark.slow
def test_rooms_are_reached_by_keys_and_by_address(visit: Visit) -> None:
    page = visit()
    page.locator("#tab-draw").focus()
    page.keyboard.press("ArrowRight")
    assert page.url.endswith("#over")
    assert page.evaluate("document.activeElement.id") == "tab-over"
    page.keyboard.press("End")
    assert page.url.endswith("#settings")
    page.go_back()
    page.locator("#panel-over").wait_for()


@pytest.mark.slow
def test_words_are_weighed_by_keys(visit: Visit) -> None:
    page = visit()
    prompt = page.locator(".prompt-block .field-prompt textarea")
    prompt.fill("a red fox, 3d style")
    prompt.evaluate("area => area.setSelectionRange(3, 3)")
    seen = []
    for key in ("ArrowUp", "ArrowUp", "ArrowDown", "ArrowDown", "ArrowDown"):
        prompt.press(f"Control+{key}")
        seen.append(prompt.input_value())
    assert seen == [
        "a (red:1.1) fox, 3d style",
        "a (red:1.2) fox, 3d style",
        "a (red:1.1) fox, 3d style",
        "a red fox, 3d style",
        "a (red:0.9) fox, 3d style",
    ]


def test_the_page_is_in_the_package() -> None:
    import tomllib

    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "server/static/**" in told["tool"]["setuptools"]["package-data"]["pochade"]
    assert Path(STATIC / "js" / "main.js").is_file()


REFUSALS = [
    ({"steps": 151}, "Étapes vaut 151 ; il faut une valeur entre 1 et 150."),
    ({"cfg_scale": 101}, "Échelle CFG vaut 101 ; il faut une valeur entre 0 et 100."),
    ({"prompt": "x" * 30_000}, "30 000 caractères ; 20 000 au plus"),
    ({"width": 8000, "height": 8000}, "8 000 × 8 000 pixels, c’est trop ; 4 194 304 au plus"),
    ({"width": 66}, "Largeur vaut 66 ; ce modèle dessine des multiples de 8."),
    ({"count": 65}, "65 images, c’est trop"),
    ({"sampler": "nope"}, "« nope » est inconnu ; valeurs possibles : Euler"),
    ({"model": "nope"}, "« nope » est inconnu ; valeurs possibles : starter"),
    ({"prompt": "<lora:nope:1>"}, "« nope » est inconnu"),
    ({"styles": ["nope"]}, "« nope » est inconnu ; valeurs possibles : flat"),
    ({"kind": "img2img", "source": {"image": "aGVsbG8="}}, "Ce n’est pas une image lisible."),
]


@pytest.mark.slow
def test_what_the_server_refuses_is_said_in_the_pages_language(browser: object, server: str) -> None:
    """Its own sentences, as it says them now, and those that it says of failed jobs."""
    from pochade.jobs.errors import reason_of
    from pochade.jobs.store import CRASHED

    with contextlib.redirect_stderr(io.StringIO()):  # what the log gets beside it
        of_failed = [reason_of(error) for error in (MemoryError(), ZeroDivisionError())]
    context = browser.new_context(locale="fr-FR")  # type: ignore[attr-defined]
    try:
        page = context.new_page()
        page.goto(server)
        page.locator("html[data-ready]").wait_for()
        said = "async ([name, value]) => (await import('/static/js/refusals.js'))[name](value)"

        def plain(text: str) -> str:
            return text.replace("\u202f", " ").replace("\u00a0", " ")

        for body, words in REFUSALS:
            reply = context.request.post(f"{server}/api/v1/jobs", data={"prompt": "a fox", **body})
            if reply.status == 202:
                address = f"{server}/api/v1/jobs/{reply.json()['id']}"
                while (job := context.request.get(address).json())["state"] != "failed":
                    page.wait_for_timeout(100)
                assert words in plain(page.evaluate(said, ["sentence", job["error"]]))
                continue
            error = {"status": reply.status, **reply.json()["error"]}
            assert words in plain(page.evaluate(said, ["reason", error])), error
        for text, words in (
            (CRASHED.format(deaths=3), "s’est arrêté ou bloqué 3 fois"),
            (of_failed[0], "Mémoire insuffisante"),
            (of_failed[1], "Erreur interne (ZeroDivisionError)"),
            ("on the server's disk: 'a.png' could not be written", "Le disque du serveur est plein"),
            (
                "your pinned pictures would take 3,000 bytes; at most 2,000 may be pinned: unpin others",
                "prendraient 3 000 octets, et 2 000 au plus",
            ),
            ("it rains", "Le serveur répond : it rains"),
        ):
            assert words in plain(page.evaluate(said, ["sentence", text]))
        gone = context.request.get(f"{server}/api/v1/jobs/nope")
        error = {"status": gone.status, **gone.json()["error"]}
        assert page.evaluate(said, ["reason", error]) == "Cet élément n’existe plus."
        for code in (
            "conflict",
            "too_large",
            "internal",
            "stopping",
            "no_room",
            "busy",
            "forbidden",
            "timeout",
        ):
            words = page.evaluate(said, ["reason", {"status": 500, "code": code, "message": "english"}])
            assert words and "english" not in words and "Le serveur répond" not in words
    finally:
        context.close()


@pytest.mark.slow
def test_eta_is_offered_where_the_sampler_takes_one(visit: Visit) -> None:
    from playwright.sync_api import expect

    page = visit(quiet=False)
    page.locator(".settings details summary").last.click()
    eta = page.locator(".field-eta")
    expect(eta).to_be_hidden()
    page.get_by_label("Sampler", exact=True).select_option("DDIM")
    expect(eta).to_be_visible()
    eta.locator("input").fill("0.5")
    eta.locator("input").press("Tab")
    page.route("**/api/v1/jobs", lambda route: route.abort())
    with page.expect_request(lambda each: each.url.endswith("/jobs") and each.method == "POST") as asked:
        page.keyboard.press("Control+Enter")
    assert asked.value.post_data_json["eta"] == 0.5


def test_the_work_that_the_speeds_leave_is_what_was_measured() -> None:
    """On the page, in the README and in the guide, as in docs/performance.md."""
    fractions = {
        1 / 3: ("a third", "un tiers", "two thirds"),
        2 / 5: ("two fifths", "deux cinquièmes", "three fifths"),
        1 / 2: ("half", "la moitié", "half"),
        3 / 5: ("three fifths", "trois cinquièmes", "two fifths"),
    }
    measured = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "guide" / "speed.md").read_text(encoding="utf-8")
    left = {}
    for name in ("balanced", "fast"):
        found = re.search(rf"^\| {name} \| [\d, ]+ \| ([\d.]+) \|", measured, re.MULTILINE)
        assert found is not None
        left[name] = min(fractions, key=lambda fraction: abs(fraction - float(found[1])))
        assert re.search(rf"^\| `{name}` \|.*\| {re.escape(found[1])} \|$", guide, re.MULTILINE)
        english, french, _ = fractions[left[name]]
        assert english in table("en")[f"speed_{name}"]
        assert french in table("fr")[f"speed_{name}"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"`--speed fast` leaves out {fractions[left['fast']][2]} of the work" in readme
