"""The XMP mark of generated pictures."""

import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image

from pochade.errors import InvalidRequest
from pochade.images.embedded_text import mark_of, text_of
from pochade.images.files import encoded, save_picture
from pochade.images.marks import EDITED, ENHANCED, GENERATED, MARKS, read_mark, xmp_packet

KINDS = pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
TEXT = "a fox\nSteps: 20, Sampler: Euler, Seed: 1, Size: 8x8"
PICTURE = Image.new("RGB", (8, 8), "orange")
TERM = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def packet_in(content: bytes, kind: str) -> bytes:
    """The XMP of a file, cut out of its bytes by the three standards, without any library."""
    if kind == "PNG":  # PNG 1.2, iTXt: keyword, 0, two flags, language, 0, translated keyword, 0, text
        start = content.index(b"iTXtXML:com.adobe.xmp\0\0\0\0\0")
        size = int.from_bytes(content[start - 4 : start], "big")
        return content[start + 4 : start + 4 + size].removeprefix(b"XML:com.adobe.xmp\0\0\0\0\0")
    if kind == "JPEG":  # XMP part 3: an APP1 segment with its own name in front
        name = b"http://ns.adobe.com/xap/1.0/\0"
        start = content.index(name)
        size = int.from_bytes(content[start - 2 : start], "big")
        assert content[start - 4 : start - 2] == b"\xff\xe1"
        return content[start + len(name) : start - 2 + size]
    start = content.index(b"XMP ")  # RIFF: name, size, content
    return content[start + 8 : start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")]


@KINDS
def test_a_picture_says_that_a_model_made_it(kind: str) -> None:
    content = encoded(PICTURE, kind, TEXT)
    root = ElementTree.fromstring(packet_in(content, kind).decode().partition("?>")[2].rpartition("<?")[0])
    (said,) = root.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert said.text == TERM
    assert mark_of(content) == GENERATED
    assert text_of(content) == TEXT


@KINDS
@pytest.mark.parametrize("mark", MARKS)
def test_every_mark_comes_back(kind: str, mark: str) -> None:
    assert mark_of(encoded(PICTURE, kind, TEXT, mark=mark)) == mark


@KINDS
def test_the_mark_can_be_left_out(kind: str) -> None:
    marked = Image.open(io.BytesIO(encoded(PICTURE, kind, TEXT)))
    marked.load()
    content = encoded(marked, kind, TEXT, mark=None)  # a picture that had one does not pass it on
    assert b"DigitalSourceType" not in content
    assert mark_of(content) is None
    assert text_of(content) == TEXT


@KINDS
def test_a_mark_without_a_text(kind: str, tmp_path: Path) -> None:
    path = tmp_path / {"PNG": "a.png", "JPEG": "a.jpg", "WEBP": "a.webp"}[kind]
    save_picture(PICTURE, path, mark=EDITED)
    assert mark_of(path.read_bytes()) == EDITED
    assert text_of(path.read_bytes()) == ""


def test_an_unknown_mark_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="mark is 'painted'; one of: trainedAlgorithmicMedia"):
        encoded(PICTURE, "PNG", mark="painted")


def test_other_ways_of_writing_it_are_read() -> None:
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    iptc = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    attribute = (
        f'<r:RDF xmlns:r="{rdf}"><r:Description xmlns:i="{iptc}" i:DigitalSourceType="{TERM}"/></r:RDF>'
    )
    resource = (
        f'<r:RDF xmlns:r="{rdf}"><r:Description xmlns:i="{iptc}">'
        f'<i:DigitalSourceType r:resource="{TERM}"/></r:Description></r:RDF>'
    )
    assert read_mark(attribute) == GENERATED
    assert read_mark(resource.encode()) == GENERATED
    assert read_mark(xmp_packet(ENHANCED)) == ENHANCED


@pytest.mark.parametrize(
    "packet",
    [
        "",
        "no xml",
        "<x>",
        b"\xff\xfe\x00",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        xmp_packet(GENERATED).replace("trained", "un"),
        " " * 2_000_000 + xmp_packet(GENERATED),
    ],
)
def test_what_is_no_mark_is_none(packet: str | bytes) -> None:
    assert read_mark(packet) is None
