"""Templates: possible results, their frequencies, and errors."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pochade.errors import InvalidRequest
from pochade.prompts.dynamic import expand
from tests.growth import grows_linearly

LISTS = {
    "animal": ["fox", "owl"],
    "dir/colour": ["red"],
    "nested": ["big __animal__", "{tiny|small} __animal__"],
    "weighed": ["3::often", "seldom"],
    "none": ["0::a", "0.0::b"],
    "self": ["a __self__"],
    "here": ["__there__"],
    "there": ["{__here__}"],
    "twice": ["__twice2__ __twice2__"],
    **{f"twice{i}": [f"__twice{i + 1}__ __twice{i + 1}__"] for i in range(2, 40)},
    "twice40": ["{|}"],
    "a_b": ["c"],
}


def read(name: str) -> Sequence[str]:
    return LISTS[name]


def outcomes(template: str, seeds: int = 300) -> Counter[str]:
    return Counter(expand(template, seed, read) for seed in range(seeds))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{a|b|c}", {"a", "b", "c"}),
        ("x {a|b} y", {"x a y", "x b y"}),
        ("{a}", {"a"}),
        ("{a|}", {"a", ""}),
        ("{{a|b}|c}", {"a", "b", "c"}),
        ("{a|b}{c|d}", {"ac", "ad", "bc", "bd"}),
        ("{0::a|b}", {"b"}),
        ("{2$$a|b|c}", {f"{x}, {y}" for x, y in permutations("abc", 2)}),
        ("{2$$ and $$a|b}", {"a and b", "b and a"}),
        ("{2$$$$a|b}", {"ab", "ba"}),
        ("{1-2$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-1$$a|b}", {"a", "b", "a, b", "b, a"}),
        ("{2-$$a|b}", {"a, b", "b, a"}),
        ("{-1$$a|b}", {"a", "b"}),
        ("{0$$a|b}", {""}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{2$$ a | b }", {"a, b", "b, a"}),
        ("{2$$0::a|b|c}", {"b, c", "c, b"}),
        ("__animal__", {"fox", "owl"}),
        ("__dir/colour__ __a_b__", {"red c"}),
        ("{2$$__animal__|x}", {"fox, x", "x, fox", "owl, x", "x, owl"}),
        ("__nested__", {f"{size} {name}" for size in ("big", "tiny", "small") for name in ("fox", "owl")}),
    ],
)
def test_what_can_come_of_it(template: str, expected: set[str]) -> None:
    assert set(outcomes(template)) == expected


@pytest.mark.parametrize(
    ("template", "shares"),
    [
        ("{a|b|c|d}", {"a": 1 / 4, "b": 1 / 4, "c": 1 / 4, "d": 1 / 4}),
        ("{3::a|b}", {"a": 3 / 4, "b": 1 / 4}),
        ("{0.5::a|1.5::b}", {"a": 1 / 4, "b": 3 / 4}),
        ("__weighed__", {"often": 3 / 4, "seldom": 1 / 4}),
        # drawn one after another: a first with 2/4, then b before c with 1/2
        ("{2$$2::a|b|c}", {"a, b": 1 / 4, "a, c": 1 / 4, "b, a": 1 / 6, "c, a": 1 / 6, "b, c": 1 / 12}),
        ("{1-2$$a}", {"a": 1}),
    ],
)
def test_how_often(template: str, shares: dict[str, float]) -> None:
    """Within five deviations of what is expected of so many seeds."""
    count = 3000
    found = outcomes(template, count)
    for text, share in shares.items():
        assert abs(found[text] - count * share) <= 5 * (count * share * (1 - share)) ** 0.5


def test_the_same_seed_gives_the_same_prompt_and_these_ones() -> None:
    """Fixed numbers: a seed in a picture must mean the same in later versions."""
    template = "{a|b|c} __animal__ {1-3$$ $$x|y|z}"
    for _ in range(2):
        assert [expand(template, seed, read) for seed in range(3)] == ["c fox x", "b owl z", "b fox z x"]


def test_the_negative_prompt_chooses_by_itself() -> None:
    pairs = {
        (expand("{a|b}", seed, read), expand("{a|b}", seed, read, purpose="negative prompt"))
        for seed in range(100)
    }
    assert len(pairs) == 4


@pytest.mark.parametrize(
    "text",
    [
        "a red fox, (masterpiece:1.2) [a|b] [x:y:3] <lora:a:1>",
        "a}|b{",
        "{a|{b",
        "} {",
        "a_b __ _c_ ___ __ d__",
        r"\{a|b\} \__animal__ \\ \|",
        "",
    ],
)
def test_what_is_text(text: str) -> None:
    assert outcomes(text, 20) == {text: 20}


def test_braces_without_a_counterpart_are_text_around_those_that_have_one() -> None:
    assert set(outcomes("{x|{a|b}")) == {"{x|a", "{x|b"}
    assert set(outcomes("{2$$x|{0.5::a|b}")) == {"{2$$x|a", "{2$$x|b"}
    assert set(outcomes("{a|b}}")) == {"a}", "b}"}


def test_a_wildcard_is_no_separator() -> None:
    lines = {"animal": ["fox"]}
    for template, expected in (
        ("{2$$__animal__1-2$$ $$", "{2$$fox1-2$$ $$"),
        ("{1$$__animal__$$|a::b}", None),
        ("{2$$ _ $$x|x}", "x _ x"),
    ):
        found = expand(template, 1, lines.__getitem__)
        assert "animal" not in found and (expected is None or found == expected)


@given(st.text(st.characters(exclude_characters="{_")), st.integers(0, 2**64))
def test_a_prompt_without_grammar_is_left_as_it_is(text: str, seed: int) -> None:
    assert expand(text, seed) == text


@given(
    st.lists(st.sampled_from([*"{}|$_\\a1-", "2$$", "::", "__animal__", "1-2$$ $$"]), max_size=60).map(
        "".join
    )
)
def test_any_template_expands_or_is_refused(template: str) -> None:
    def known(name: str) -> Sequence[str]:
        return ["x", "{y|z}"]

    try:
        first = expand(template, 1, known)
    except InvalidRequest:
        return
    assert expand(template, 1, known) == first
    if not {"\\", "_"} & set(template.replace("__animal__", "")):
        assert "animal" not in first


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("__self__", "'__self__' refers to itself: __self__ > __self__"),
        ("a __here__", "__here__ > __there__ > __here__"),
        ("{0::a|0::b}", "weights are all 0"),
        ("__none__", "weights are all 0"),
        ("{" * 60 + "}" * 60, "more than 50 deep"),
        ("__twice__", "simplify its wildcards"),
        ("{11$$" + "|".join(["x" * 20_000] * 11) + "}", "has more than 200,000 characters"),
    ],
)
def test_what_is_refused(template: str, message: str) -> None:
    begin = time.thread_time()
    with pytest.raises(InvalidRequest, match=message):
        expand(template, 0, read)
    assert (
        time.thread_time() - begin < 60
    )  # of the processor: two seconds are usual, and without a limit hours


def test_a_wildcard_without_a_folder_is_refused_with_the_ways_out() -> None:
    with pytest.raises(InvalidRequest, match=r"'__init__'.*--wildcards.*\\__init__"):
        expand("def __init__", 0)


LONG: Mapping[str, Callable[[int], str]] = {
    "open": lambda n: "{" * n,
    "closed": lambda n: "}" * n,
    "options": lambda n: "{" + "|" * n + "}",
    "underscores": lambda n: "_" * n,
    "half wildcards": lambda n: "__a " * (n // 4),
    "open options": lambda n: "{a|" * (n // 3),
    "tags": lambda n: "<lora:a__b__c>" * (n // 14),
    "open tags": lambda n: "<lora:" * (n // 6),
}


@pytest.mark.parametrize("template", LONG.values(), ids=LONG)
def test_a_long_template_takes_no_more_than_its_length(template: Callable[[int], str]) -> None:
    grows_linearly(lambda size: expand(template(size), 0, read), 99_000)


FLAVOURS = {"flavour": ["lemon", "2::mint", "rose {red|white}", "{salt}"], "styles": ["ink", "oil"]}


def flavours(name):
    return FLAVOURS[name]


@pytest.mark.parametrize(
    ("template", "least", "most"),
    [
        ("{2$$__flavour__}", 2, 2),
        ("{ 2$$ __flavour__ }", 2, 2),
        ("{1-3$$__flavour__}", 1, 3),
        ("{-2$$__flavour__}", 1, 2),
        ("{3-$$__flavour__}", 3, 4),
        ("{9$$__flavour__}", 4, 4),
        ("{0-1$$__flavour__}", 0, 1),
    ],
)
def test_several_lines_of_one_wildcard(template, least, most):
    """As Dynamic Prompts reads it: {2$$a|b|c} with the lines as options, different ones."""
    plain = {"lemon": "lemon", "mint": "mint", "rose red": "rose", "rose white": "rose", "salt": "salt"}
    counts = set()
    for seed in range(200):
        text = expand(template, seed, flavours)
        values = [plain[value] for value in text.split(", ")] if text else []
        assert len(set(values)) == len(values)
        counts.add(len(values))
    assert counts == set(range(least, most + 1))


def test_several_lines_with_a_separator_and_weights():
    text = expand("{2$$ and $$__flavour__}", 3, flavours)
    assert text.count(" and ") == 1
    first = [expand("{1-2$$__flavour__}", seed, flavours).split(", ")[0] for seed in range(2000)]
    assert 0.35 < first.count("mint") / 2000 < 0.45  # 2 of 5


def test_one_option_of_several_stays_one():
    for seed in range(20):
        parts = expand("{2$$__styles__|plain}", seed, flavours).split(", ")
        assert sorted(parts) in (["ink", "plain"], ["oil", "plain"])


def test_a_wildcard_of_several_lines_that_leads_back_to_itself():
    with pytest.raises(InvalidRequest, match=r"'__a__' refers to itself: __a__ > __a__"):
        expand("{2$$__a__}", 1, lambda name: ["x {2$$__a__}", "y __a__"])


@pytest.mark.parametrize(
    "tag",
    [
        "<lora:Gothic__XL__v2:0.8>",
        "<lyco:a__b__c>",
        "<hypernet:__a__b:1>",
        "<lora:a__b__:1>",
        "<lora:x:te=a__b__c>",
    ],
)
def test_underscores_in_a_tag_belong_to_its_name(tag):
    assert expand(f"a fox {tag}, snow", 1) == f"a fox {tag}, snow"
    assert expand(f"{{{tag}}}", 1) == tag


def test_a_wildcard_that_is_a_whole_part_of_a_tag():
    found = {expand("<lora:__styles__:0.8> <x:__styles__>", seed, flavours) for seed in range(40)}
    assert found == {f"<lora:{a}:0.8> <x:{b}>" for a in ("ink", "oil") for b in ("ink", "oil")}
    assert expand("<lora:a__b__c:1> __styles__", 1, lambda name: ["ink"]) == "<lora:a__b__c:1> ink"
    assert expand("__styles__", 1, lambda name: ["<lora:a__b__c:1>"]) == "<lora:a__b__c:1>"
