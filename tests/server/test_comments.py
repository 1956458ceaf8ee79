"""Comments in prompts: A1111's dialect leaves them out, as the original does since its version 1.8."""

from pochade.jobs.catalogue import Folders, look
from pochade.server.dialects.a1111_bodies import TextBody, asked
from pochade.server.sent import Inputs


def test_comments_of_a_request() -> None:
    body = TextBody(prompt="a fox, # grey\nin snow", negative_prompt="# all of it\nblurry")
    inputs = Inputs(own=lambda name: b"", check=lambda content: None)
    request = asked(body, {}, look(Folders()), inputs).order.request
    assert request["prompt"] == "a fox, \nin snow"
    assert request["negative_prompt"].strip() == "blurry"
