"""Comments in prompts: removed in A1111's dialect, as in A1111 since version 1.8, and on request in the
native API."""

from dataclasses import replace
from typing import Any

import pytest

from pochade.jobs.catalogue import Folders, scan_folders
from pochade.jobs.limits import Limits
from pochade.prompts.styles import Style
from pochade.server import submission
from pochade.server.dialects.a1111.conversion import TextBody, submitted_order
from pochade.server.dialects.native.schemas import JobBody
from pochade.server.uploads import Inputs


def inputs() -> Inputs:
    return Inputs(own=lambda name: b"", check=lambda content: None)


def test_comments_of_a_request() -> None:
    body = TextBody(prompt="a fox, # grey\nin snow", negative_prompt="# all of it\nblurry")
    request = submitted_order(body, {}, scan_folders(Folders()), inputs()).order.request
    assert request.prompt == "a fox, \nin snow"
    assert request.negative_prompt.strip() == "blurry"


def settled(**fields: Any) -> Any:
    styles = {"ink": Style("ink", "in ink # black\n, {prompt}", "")}
    catalogue = replace(scan_folders(Folders()), styles=styles)
    found = JobBody(**fields).to_order(inputs())
    return submission.settled(found, catalogue, lambda count: "00" * count, Limits()).request


NOTED: dict[str, Any] = {
    "prompt": "a fox # grey\nin snow",
    "negative_prompt": "blurry # bad",
    "hires": {"prompt": "an owl # by day", "negative_prompt": "rain # wet"},
}


@pytest.mark.parametrize("said", [{}, {"comments": False}])
def test_the_native_api_keeps_them(said: dict[str, Any]) -> None:
    request = settled(**NOTED, **said)
    assert (request.prompt, request.negative_prompt) == (NOTED["prompt"], NOTED["negative_prompt"])
    assert request.hires.prompt == "an owl # by day"


def test_the_native_api_leaves_them_out_where_it_is_asked_to() -> None:
    request = settled(**NOTED, comments=True)
    assert (request.prompt, request.negative_prompt.strip()) == ("a fox \nin snow", "blurry")
    hires = request.hires
    assert (hires.prompt.strip(), hires.negative_prompt.strip()) == ("an owl", "rain")
    # Those of styles too, as with `pochade draw --comments`; an own prompt that is absent stays absent.
    styled = settled(prompt="a fox # grey", styles=["ink"], hires={}, comments=True)
    assert styled.prompt.strip() == "in ink \n, a fox"
    assert styled.hires.prompt is None
