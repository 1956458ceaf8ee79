"""Pictures in requests: base64, data URLs, or the id of one of the user's pictures."""

import base64
import binascii
import re
from collections.abc import Callable

from pochade.errors import InvalidRequest

DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w=.-]+)*,", re.ASCII)
OWN = "picture:"


def content_of(text: str, what: str = "the picture") -> bytes:
    """Decode a picture file. Raises InvalidRequest, for a URL too."""
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
    """Collects the picture files sent with a job and numbers them.

    own: returns the content of one of the user's pictures; raises InvalidRequest if it does not exist. check:
    raises InvalidRequest if the content is not a picture, or too large.
    """

    def __init__(self, own: Callable[[str], bytes], check: Callable[[bytes], None]) -> None:
        self.contents: list[bytes] = []
        self.check = check
        self._own = own

    def add(self, text: str, what: str) -> int:
        """Add a picture; return its number. Raises InvalidRequest."""
        given = text.strip() if len(text) < 200 else text
        own = given.startswith(OWN)
        return self.put(self._own(given.removeprefix(OWN)) if own else content_of(given, what))

    def put(self, content: bytes) -> int:
        self.check(content)
        self.contents.append(content)
        return len(self.contents) - 1
