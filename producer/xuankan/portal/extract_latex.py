"""Title, abstract and keywords of a LaTeX source, by macro or environment, whatever class it uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast

_TITLE: Final = frozenset({"title"})
_ABSTRACT: Final = frozenset({"abstract", "Abstract"})
_KEYWORDS: Final = frozenset({"keywords", "keyword", "IEEEkeywords", "Keywords", "kwd", "keywordname"})
# Notes and labels inside a title are none of it.
_DROPPED: Final = (
    "thanks",
    "thanksref",
    "footnote",
    "tnoteref",
    "label",
    "inst",
    "footnotemark",
    "vspace",
    "corref",
)


def latex_fields(source: str) -> tuple[str, str, str]:
    r"""Title, abstract and keywords as text; empty where there is none.

    Keywords that `\sep` or `\and` separates come with semicolons between them.
    """
    from pylatexenc import (  # pyright: ignore[reportMissingTypeStubs]  # it has none
        latex2text,
        latexwalker,
        macrospec,
    )

    walker, to_text, spec = cast(Any, latexwalker), cast(Any, latex2text), cast(Any, macrospec)
    context = walker.get_default_latex_context_db()
    context.add_context_category(
        "papers",
        prepend=True,
        macros=[
            *(spec.MacroSpec(name, "[{") for name in sorted(_TITLE | _ABSTRACT | _KEYWORDS)),
            *(spec.MacroSpec(name, "[{") for name in _DROPPED),
        ],
        environments=[spec.EnvironmentSpec(name, "[") for name in sorted(_ABSTRACT | _KEYWORDS)],
    )
    texts = to_text.get_default_latex_context_db()
    texts.add_context_category(
        "papers",
        prepend=True,
        macros=[
            *(to_text.MacroTextSpec(name, discard=True) for name in _DROPPED),
            *(to_text.MacroTextSpec(name, "; ") for name in ("sep", "and")),
            to_text.MacroTextSpec("\\", " "),
        ],
    )
    nodes = walker.LatexWalker(source, latex_context=context, tolerant_parsing=True).get_latex_nodes()[0]
    converter = to_text.LatexNodes2Text(latex_context=texts, math_mode="text", strict_latex_spaces=False)
    found: dict[str, str] = {}
    for name, inside in _named(nodes, walker):
        text = " ".join(converter.nodelist_to_text(inside).split())
        for field, names in (("title", _TITLE), ("abstract", _ABSTRACT), ("keywords", _KEYWORDS)):
            if name in names and text:
                found.setdefault(field, text)
    return found.get("title", ""), found.get("abstract", ""), found.get("keywords", "")


def _named(nodes: Any, walker: Any) -> Iterator[tuple[str, list[Any]]]:
    """Every macro of the names above with its argument, and every environment with its content."""
    wanted = _TITLE | _ABSTRACT | _KEYWORDS
    for node in nodes or ():
        if node.isNodeType(walker.LatexMacroNode):
            if node.macroname in wanted and node.nodeargd and node.nodeargd.argnlist:
                argument = node.nodeargd.argnlist[-1]
                if argument is not None:
                    yield node.macroname, [argument]
        elif node.isNodeType(walker.LatexEnvironmentNode):
            if node.environmentname in wanted:
                # Keywords stand inside the abstract in some classes.
                inner = list(_named(node.nodelist, walker))
                yield from inner
                yield node.environmentname, [n for n in node.nodelist if not _holds(n, walker)]
            else:
                yield from _named(node.nodelist, walker)
        elif node.isNodeType(walker.LatexGroupNode):
            yield from _named(node.nodelist, walker)


def _holds(node: Any, walker: Any) -> bool:
    names = _KEYWORDS
    return bool(
        (node.isNodeType(walker.LatexMacroNode) and node.macroname in names)
        or (node.isNodeType(walker.LatexEnvironmentNode) and node.environmentname in names)
    )
