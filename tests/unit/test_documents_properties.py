"""For records of any text: what a program writes is what is read; and no bytes are left without an answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from unicodedata import normalize
from xml.sax.saxutils import escape

import openpyxl  # pyright: ignore[reportMissingModuleSource]  # its stubs are not installed
import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs]  # it has none
import pyarrow.parquet as pq  # pyright: ignore[reportMissingTypeStubs]
import pytest
import rispy  # pyright: ignore[reportMissingTypeStubs]
from bibtexparser import entrypoint
from bibtexparser.library import Library
from bibtexparser.model import Block, Entry, Field
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from xuankan.documents import Document, File, Problem, read
from xuankan.documents.kinds import KINDS, SUFFIXES, kind_of
from xuankan.errors import Unreadable

Record = dict[str, Any]
# Explaining a failure would trace every line from the first example on, which takes minutes.
_PHASES = [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]

# Letters of many scripts, digits and what stands between words; no markup, which readers resolve.
_WORD = st.text(
    st.characters(categories=("Ll", "Lu", "Lo", "Nd"), exclude_characters="ﬀﬁﬂﬃﬄﬅﬆ"), min_size=1, max_size=9
).map(partial(normalize, "NFC"))  # as LaTeX's accents come out
_MARK = st.sampled_from([" ", " ", " ", ", ", ". ", ": ", " (", ") ", " – ", " “", "” ", "'s ", "? "])


@st.composite
def _texts(draw: st.DrawFn) -> str:
    parts = draw(st.lists(st.tuples(_WORD, _MARK), min_size=1, max_size=12))
    text = "".join(word + mark for word, mark in parts)
    return " ".join(f"The {text} end".split())


_RECORDS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}", fullmatch=True),
            "title": _texts(),
            "abstract": _texts(),
            "keywords": st.lists(_WORD, max_size=4, unique=True),
        }
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda record: str(record["id"]),
)


def as_bib(records: list[Record]) -> bytes:
    entries: list[Block] = [
        Entry(
            "article",
            one["id"],
            [
                Field("title", f"{{{one['title']}}}"),
                Field("abstract", f"{{{one['abstract']}}}"),
                *([Field("keywords", f"{{{'; '.join(one['keywords'])}}}")] if one["keywords"] else []),
            ],
        )
        for one in records
    ]
    return cast(str, cast(Any, entrypoint).write_string(Library(entries), unparse_stack=[])).encode()


def as_ris(records: list[Record]) -> bytes:
    rows = [{"type_of_reference": "JOUR", **one} for one in records]
    return cast(str, cast(Any, rispy).dumps(rows)).encode()


def as_csv(records: list[Record]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["id", "title", "abstract", "keywords"])
    for one in records:
        table.writerow([one["id"], one["title"], one["abstract"], "; ".join(one["keywords"])])
    return text.getvalue().encode()


def as_tsv16(records: list[Record]) -> bytes:
    return as_csv(records).decode().encode("utf-16")


def as_jsonl(records: list[Record]) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in records).encode()


def as_json(records: list[Record]) -> bytes:
    return json.dumps(records, indent=1).encode()


def as_parquet(records: list[Record]) -> bytes:
    out = io.BytesIO()
    made: Any = pa
    write: Any = pq
    schema = made.schema(
        [(name, made.string()) for name in ("id", "title", "abstract")]
        + [("keywords", made.list_(made.string()))]
    )
    write.write_table(made.Table.from_pylist(records, schema=schema), out)
    return out.getvalue()


def as_xlsx(records: list[Record]) -> bytes:
    book: Any = openpyxl.Workbook()
    book.active.append(["id", "title", "abstract", "keywords"])
    for one in records:
        book.active.append([one["id"], one["title"], one["abstract"], "; ".join(one["keywords"])])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def as_nbib(records: list[Record]) -> bytes:
    return "".join(
        f"PMID- {number + 1}\nOWN - NLM\nTI  - {one['title']}\nAB  - {one['abstract']}\n"
        + "".join(f"OT  - {word}\n" for word in one["keywords"])
        + "\n"
        for number, one in enumerate(records)
    ).encode()


def as_isi(records: list[Record]) -> bytes:
    return (
        "FN Clarivate Analytics Web of Science\nVR 1.0\n"
        + "".join(
            f"PT J\nTI {one['title']}\n"
            + (f"DE {'; '.join(one['keywords'])}\n" if one["keywords"] else "")
            + f"AB {one['abstract']}\nUT {one['id']}\nER\n\n"
            for one in records
        )
        + "EF\n"
    ).encode()


def as_enw(records: list[Record]) -> bytes:
    return "".join(
        f"%0 Journal Article\n%T {one['title']}\n%X {one['abstract']}\n"
        + "".join(f"%K {word}\n" for word in one["keywords"])
        + f"%F {one['id']}\n\n"
        for one in records
    ).encode()


def as_endnote_xml(records: list[Record]) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><xml><records>'
        + "".join(
            f"<record><rec-number>{one['id']}</rec-number>"
            f"<titles><title>{escape(one['title'])}</title></titles>"
            "<keywords>"
            + "".join(f"<keyword>{escape(word)}</keyword>" for word in one["keywords"])
            + "</keywords>"
            f"<abstract>{escape(one['abstract'])}</abstract></record>"
            for one in records
        )
        + "</records></xml>"
    ).encode()


def as_pubmed_xml(records: list[Record]) -> bytes:
    return (
        "<PubmedArticleSet>"
        + "".join(
            f"<PubmedArticle><MedlineCitation><PMID>{escape(one['id'])}</PMID>"
            f"<Article><ArticleTitle>{escape(one['title'])}</ArticleTitle>"
            f"<Abstract><AbstractText>{escape(one['abstract'])}</AbstractText></Abstract></Article><KeywordList>"
            + "".join(f"<Keyword>{escape(word)}</Keyword>" for word in one["keywords"])
            + "</KeywordList></MedlineCitation></PubmedArticle>"
            for one in records
        )
        + "</PubmedArticleSet>"
    ).encode()


WRITERS: dict[str, Callable[[list[Record]], bytes]] = {
    "x.bib": as_bib,
    "x.ris": as_ris,
    "x.csv": as_csv,
    "x.tsv": as_tsv16,
    "x.jsonl": as_jsonl,
    "x.json": as_json,
    "x.parquet": as_parquet,
    "x.xlsx": as_xlsx,
    "x.nbib": as_nbib,
    "x.ciw": as_isi,
    "x.enw": as_enw,
    "x.xml": as_endnote_xml,
    "pubmed/x.xml": as_pubmed_xml,
}


def test_every_kind_of_list_has_a_writer() -> None:
    one: list[Record] = [{"id": "a1", "title": "Tidal pools", "abstract": "Snails.", "keywords": ["a"]}]
    found = {kind_of(File(name, data=write(one))).name for name, write in WRITERS.items()}
    assert found == {kind.name for kind in KINDS.values() if kind.is_list}


@pytest.mark.parametrize("name", WRITERS)
@settings(deadline=None, phases=_PHASES, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(records=_RECORDS)
def test_what_a_program_writes_is_what_is_read(name: str, records: list[Record]) -> None:
    found = list(read(File(name, data=WRITERS[name](records))))
    assert [type(one) for one in found] == [Document] * len(records)
    for one, wanted in zip(cast("list[Document]", found), records, strict=True):
        assert (one.title, one.abstract) == (wanted["title"], wanted["abstract"])
        assert list(one.keywords) == wanted["keywords"]
        assert one.identifier == wanted["id"] or name == "x.nbib"


# Pieces of which broken files are made, so that chance gets behind the first byte.
_PIECES = [
    *(
        "@article{",
        "@misc(",
        "@string{a=",
        "title=",
        "{",
        "}",
        '"',
        "#",
        ",",
        "\\href{",
        "\\",
        "$",
        "%",
        "(",
        ")",
    ),
    *(
        "TY  - JOUR\n",
        "TI  - x\n",
        "AB  - y\n",
        "ER  - \n",
        "TY - X\r",
        "\n\r",
        "PMID- 1\n",
        "PT J\n",
        "%0 X\n",
    ),
    *(
        "title,abstract\n",
        "sep=;\n",
        '"a",',
        '""',
        ";",
        "\t",
        "[",
        "]",
        '{"title":',
        '"a"',
        "null",
        ":",
        "1e999",
    ),
    *(
        "<xml><records><record>",
        "</record>",
        "<PubmedArticleSet><PubmedArticle>",
        "&lt;",
        "&#0;",
        "<![CDATA[",
    ),
    *("\ufeff", "\x00", "é", "\ud7ff", "word ", "\n", "\\begin{document}", "\\title{x}", "---\n", "# x\n"),
]
_ENDINGS = sorted(set(SUFFIXES) - {".pdf"})


def _answers(name: str, data: bytes) -> None:
    """A file has documents, problems with words, or is refused with words; it counts as it reads."""
    from xuankan.documents import open_file

    try:
        opened = open_file(File(name, data=data))
        found = list(opened.records())
    except Unreadable as error:
        refusal = error.reason
    else:
        refusal = ""
        assert opened.count() == len(found)
        for one in found:
            if isinstance(one, Problem):
                assert one.problem
                assert "could not be read (" not in one.problem, one.problem
            else:
                assert one.title or one.abstract
        return
    assert refusal


@settings(deadline=None, phases=_PHASES, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    ending=st.sampled_from(_ENDINGS),
    pieces=st.lists(st.sampled_from(_PIECES) | st.text(max_size=5), max_size=40),
    encoding=st.sampled_from(["utf-8", "utf-16", "cp1252", "utf-8-sig"]),
)
@example(ending=".bib", pieces=["@a{b,", ",a={" * 50], encoding="utf-8")
def test_no_text_is_left_without_an_answer(ending: str, pieces: list[str], encoding: str) -> None:
    _answers(f"x{ending}", "".join(pieces).encode(encoding, "replace"))


_MAGIC = [b"", b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0", b"\xff\xfe", b"%PDF-"]


@settings(deadline=None, phases=_PHASES, max_examples=100)
@given(ending=st.sampled_from(_ENDINGS), data=st.binary(max_size=200), magic=st.sampled_from(_MAGIC))
def test_no_bytes_are_left_without_an_answer(ending: str, data: bytes, magic: bytes) -> None:
    _answers(f"x{ending}", magic + data)


@settings(deadline=None, phases=_PHASES, max_examples=80)
@given(name=st.sampled_from([*WRITERS]), data=st.data())
def test_a_file_that_is_cut_or_changed_somewhere_has_an_answer(name: str, data: st.DataObject) -> None:
    record: Record = {"title": "Tidal pools", "abstract": "Snails.", "keywords": ["a"]}
    whole = bytearray(WRITERS[name]([{"id": one, **record} for one in ("a1", "a2", "a3")]))
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    _answers(name, bytes(whole[: data.draw(st.integers(1, len(whole)))]))


def test_web_of_science_is_known_without_its_first_line() -> None:
    text = "XX Thomson Reuters\nVR 1.0\nPT J\nAU Nobody, A\nTI On snails\nER\n\nPT J\nTI On pools\nER\nEF\n"
    found = list(read(File("savedrecs.txt", data=text.encode())))
    assert [one.title for one in found if isinstance(one, Document)] == ["On snails", "On pools"]
