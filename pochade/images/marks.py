"""Marks generated pictures with IPTC's digital source type as XMP, which search engines and editors read.

The vocabulary is IPTC's "Digital Source Type" (https://cv.iptc.org/newscodes/digitalsourcetype/); the packet
is XMP (ISO 16684-1) in its simplest form. Anyone can remove a mark. Only a signature can be verified
(`pochade.images.signing`).
"""

import re
from xml.etree import ElementTree

from pochade.errors import InvalidRequest

GENERATED = "trainedAlgorithmicMedia"
EDITED = "compositeWithTrainedAlgorithmicMedia"
ENHANCED = "algorithmicallyEnhanced"
MARKS = (GENERATED, EDITED, ENHANCED)
"""Text-to-image; image-to-image or inpainting; a picture upscaled or enhanced by a model."""

VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TOOL = "Pochade"
MAX_PACKET_BYTES = 1_000_000


def source_type(mark: str) -> str:
    """Return the URL of a mark in IPTC's vocabulary. Raises InvalidRequest for an unknown mark."""
    if mark not in MARKS:
        raise InvalidRequest(f"mark is '{mark}'; one of: {', '.join(MARKS)}")
    return VOCABULARY + mark


def xmp_packet(mark: str) -> str:
    """Return the XMP packet of a mark. Raises InvalidRequest for an unknown mark."""
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
    """Return the mark of MARKS in an XMP packet from any program, or None.

    Packets with a document type are ignored, since entities can expand a small file without limit.
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
        # Programs write it as an element, as an attribute, or as a resource.
        said = [element.get(name)]
        if element.tag == name:
            said += [element.text, element.get(f"{{{RDF}}}resource")]
        for value in said:
            word = (value or "").strip().rpartition("/")[2]
            if word in MARKS:
                return word
    return None
