"""Word files whose text part is written by hand: with what Word writes and python-docx does not."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Final

_SCHEMAS: Final = "http://schemas.openxmlformats.org"
_NAMES: Final = (
    f'xmlns:w="{_SCHEMAS}/wordprocessingml/2006/main" xmlns:m="{_SCHEMAS}/officeDocument/2006/math" '
    f'xmlns:r="{_SCHEMAS}/officeDocument/2006/relationships" xmlns:v="urn:schemas-microsoft-com:vml" '
    f'xmlns:mc="{_SCHEMAS}/markup-compatibility/2006" xmlns:wps="urn:wps"'
)
_STYLES: Final = (
    f'<w:styles {_NAMES}><w:style w:styleId="Title"><w:name w:val="Title"/></w:style>'
    '<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style>'
    '<w:style w:styleId="Own"><w:name w:val="Own"/><w:basedOn w:val="Large"/></w:style>'
    '<w:style w:styleId="Large"><w:name w:val="Large"/><w:rPr><w:sz w:val="40"/></w:rPr></w:style>'
    '<w:style w:styleId="Heading1"><w:name w:val="heading 1"/>'
    '<w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>'
    "</w:styles>"
)


def run(text: str, properties: str = "") -> str:
    """A run; `properties` as in `<w:b/>`."""
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def paragraph(inner: str, style: str = "") -> str:
    """A paragraph of runs, or of a plain text."""
    inner = inner if inner.startswith("<") else run(inner)
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}{inner}</w:p>"


def word(*paragraphs: str, parts: Mapping[str, str] | None = None) -> bytes:
    """A file of these paragraphs, with other parts beside the text."""
    body = f"<w:document {_NAMES}><w:body>{''.join(paragraphs)}</w:body></w:document>"
    return zipped({"word/document.xml": body, "word/styles.xml": _STYLES, **(parts or {})})


def zipped(files: Mapping[str, str | bytes]) -> bytes:
    """A zip file of these."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
