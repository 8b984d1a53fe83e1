"""PDF files of a few lines: for each its place, size and font. PDFium reads them as it reads printed ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

FONTS: Final = ("Helvetica", "Helvetica-Bold", "Helvetica-Oblique", "Times-Roman")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a line; `left` and `bottom` in points from the page's lower left corner."""

    text: str
    bottom: float
    size: float = 10.0
    left: float = 70.0
    font: str = "Helvetica"


def pdf(*pages: Sequence[Text], title: str = "") -> bytes:
    """A file with these pages, in the order in which they are drawn; `title` goes into the properties."""
    objects: list[bytes] = []

    def add(content: bytes) -> int:
        objects.append(content)
        return len(objects)

    fonts = {
        name: add(f"<</Type/Font/Subtype/Type1/BaseFont/{name}/Encoding/WinAnsiEncoding>>".encode())
        for name in FONTS
    }
    resources = " ".join(f"/{name} {number} 0 R" for name, number in fonts.items())
    kids: list[int] = []
    parent = len(objects) + 2 * len(pages) + 1
    for page in pages:
        stream = b"".join(_drawn(text) for text in page)
        content = add(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
        kids.append(
            add(
                f"<</Type/Page/Parent {parent} 0 R/MediaBox[0 0 595 842]/Contents {content} 0 R"
                f"/Resources<</Font<<{resources}>>>>>>".encode()
            )
        )
    add(f"<</Type/Pages/Count {len(kids)}/Kids[{' '.join(f'{kid} 0 R' for kid in kids)}]>>".encode())
    root = add(f"<</Type/Catalog/Pages {parent} 0 R>>".encode())
    info = add(b"<</Title(%s)>>" % _escaped(title))
    return _file(objects, root, info)


def _drawn(text: Text) -> bytes:
    place = f"BT /{text.font} {text.size} Tf 1 0 0 1 {text.left} {text.bottom} Tm (".encode()
    return place + _escaped(text.text) + b") Tj ET\n"


def _escaped(text: str) -> bytes:
    data = text.encode("cp1252")
    return data.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _file(objects: Sequence[bytes], root: int, info: int) -> bytes:
    data = bytearray(b"%PDF-1.4\n")
    places: list[int] = []
    for number, content in enumerate(objects, start=1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer\n<</Size %d/Root %d 0 R/Info %d 0 R>>\n" % (len(objects) + 1, root, info)
    return bytes(data + b"startxref\n%d\n%%%%EOF\n" % table)
