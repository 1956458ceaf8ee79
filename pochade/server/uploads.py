"""Pictures as clients send them: base64, data URLs, or the id of one of their own."""

import base64
import binascii
import re
from collections.abc import Callable

from pochade.errors import InvalidRequest

DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.-]+)*,", re.ASCII)
OWN = "picture:"


def content_of(text: str, what: str = "the picture") -> bytes:
    """The content of a picture file. Raises InvalidRequest; a URL is one reason."""
    found = DATA_URL.match(text[:200])
    if found is not None:
        if ";base64" not in found[0]:
            raise InvalidRequest(f"{what} is a data URL without base64; send it in base64")
        text = text[found.end() :]
    elif re.match(r"[a-zA-Z]{2,10}://", text):
        raise InvalidRequest(f"{what} is a URL, and URLs are not fetched: send the file itself, in base64")
    text = "".join(text.split())
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{what} is not valid base64: {error}") from error
    if not content:
        raise InvalidRequest(f"{what} is empty")
    return content


class Inputs:
    """Gathers the files that come with a job; each gets a number.

    own: the content of one of the user's own pictures; raises InvalidRequest if there is none.
    check: raises InvalidRequest for what is no picture, or too large.
    """

    def __init__(self, own: Callable[[str], bytes], check: Callable[[bytes], None]) -> None:
        self.contents: list[bytes] = []
        self.check = check
        self._own = own

    def add(self, text: str, what: str) -> int:
        """The number of a picture. Raises InvalidRequest for what is none."""
        given = text.strip() if len(text) < 200 else text
        own = given.startswith(OWN)
        return self.put(self._own(given.removeprefix(OWN)) if own else content_of(given, what))

    def put(self, content: bytes) -> int:
        self.check(content)
        self.contents.append(content)
        return len(self.contents) - 1
