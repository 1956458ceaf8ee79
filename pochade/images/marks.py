"""The mark of pictures that a model made: XMP in the IPTC's words, which search engines and editors read.

The vocabulary is IPTC's "Digital Source Type" (https://cv.iptc.org/newscodes/digitalsourcetype/); the packet
is XMP (ISO 16684-1) in its plainest form. A mark is a courtesy to whoever meets the picture later: anyone can
remove it. What can be checked is a signature (`pochade.images.signing`).
"""

import re
from xml.etree import ElementTree

from pochade.errors import InvalidRequest

GENERATED = "trainedAlgorithmicMedia"
EDITED = "compositeWithTrainedAlgorithmicMedia"
ENHANCED = "algorithmicallyEnhanced"
MARKS = (GENERATED, EDITED, ENHANCED)
"""Drawn from a prompt; drawn over or into a picture; a picture made larger or cleaner by a model."""

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TOOL = "Pochade"
MAX_PACKET_BYTES = 1_000_000


def source_type(mark: str) -> str:
    """The full name of a mark, an address that says what it means. Raises InvalidRequest for other words."""
    if mark not in MARKS:
        raise InvalidRequest(f"mark is '{mark}'; one of: {', '.join(MARKS)}")
    return VOCABULARY + mark


def xmp_packet(mark: str) -> str:
    """The XMP packet that says it. Raises InvalidRequest for a mark that is unknown."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        f'<rdf:RDF xmlns:rdf="{RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{EXTENSION}" xmlns:xmp="http://ns.adobe.com/xap/1.0/">'
        f"<Iptc4xmpExt:DigitalSourceType>{source_type(mark)}</Iptc4xmpExt:DigitalSourceType>"
        f"<xmp:CreatorTool>{TOOL}</xmp:CreatorTool>"
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    )


def read_mark(packet: str | bytes) -> str | None:
    """Which of MARKS an XMP packet holds, whoever wrote it; None if none, or if it is no XMP at all.

    A packet with a document type is not read: entities can make a small file swell without end.
    """
    raw = packet.encode("utf-8", "replace") if isinstance(packet, str) else packet
    if len(raw) > MAX_PACKET_BYTES or b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        return None
    inside = re.search(rb"<x:xmpmeta.*?</x:xmpmeta>|<rdf:RDF.*?</rdf:RDF>", raw, re.DOTALL)
    try:
        tree = ElementTree.fromstring(raw if inside is None else inside[0])
    except ElementTree.ParseError:
        return None
    name = f"{{{EXTENSION}}}DigitalSourceType"
    for element in tree.iter():
        # Some write it as an element, some as an attribute, some as a resource that is pointed at.
        said = [element.get(name)]
        if element.tag == name:
            said += [element.text, element.get(f"{{{RDF}}}resource")]
        for value in said:
            word = (value or "").strip().rpartition("/")[2]
            if word in MARKS:
                return word
    return None
