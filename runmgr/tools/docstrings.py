"""Descriptions of a function and its parameters, from its docstring.

griffe parses the docstring; it is imported only when a docstring can have sections at all.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from griffe import DocstringSection

    from runmgr.tools.types import DocstringFormat

__all__ = ("describe",)

_SPHINX_FIELD = re.compile(r"^[ \t]*:(param|parameter|arg|argument|key|keyword)[ \t][^:\n]+:", re.MULTILINE)


def describe(
    function: Callable[..., Any], signature: inspect.Signature, docstring_format: DocstringFormat
) -> tuple[str | None, dict[str, str]]:
    """What a function's docstring says: its description, and its parameters' descriptions by name.

    Where the docstring says what is returned, the description becomes
    ``<summary>...</summary><returns><type>...</type><description>...</description></returns>``.

    Args:
        function: a function, method or class.
        signature: its signature; names the parameters that a section may describe.
        docstring_format: ``auto`` finds out which it is.
    """
    text = function.__doc__
    if text is None:
        return None, {}
    if ":" not in text and "---" not in text:
        return inspect.cleandoc(text), {}  # no section in any format does without these
    summary = ""
    parameters: dict[str, str] = {}
    returns = ""
    for section in _sections(text, signature, docstring_format):
        match section.kind.value:
            case "text" if not summary:
                summary = section.value
            case "parameters":
                parameters.update({p.name: p.description for p in section.value})
            case "returns" if not returns and section.value:
                returns = _returns(section.value[0])
            case _:
                pass
    if returns:
        summary = f"<summary>{summary}</summary>\n{returns}" if summary else returns
    return summary, parameters


def _returns(found: Any) -> str:
    lines = ["<returns>"]
    if found.annotation:
        lines.append(f"<type>{found.annotation}</type>")
    lines.extend((f"<description>{found.description}</description>", "</returns>"))
    return "\n".join(lines)


def _style(text: str) -> DocstringFormat:
    """The style that a docstring is written in; google where nothing tells."""
    import griffe

    if _SPHINX_FIELD.search(text):  # griffe asks for more signs than a function of one parameter has
        return "sphinx"
    inferred, _ = griffe.infer_docstring_style(griffe.Docstring(text, lineno=1), default=griffe.Parser.google)
    return inferred.value if inferred else "google"


def _sections(
    text: str, signature: inspect.Signature, docstring_format: DocstringFormat
) -> list[DocstringSection]:
    import griffe

    style = docstring_format
    if style == "auto":
        style = _style(text)
    # griffe looks the parameters' annotations up on the function that it thinks it documents
    owner = griffe.Function(
        "function",
        parameters=griffe.Parameters(*(griffe.Parameter(name) for name in signature.parameters)),
    )
    docstring = griffe.Docstring(text, lineno=1, parser=style, parent=owner)
    options: dict[str, Any] = (
        {"returns_named_value": False, "returns_multiple_items": False} if style == "google" else {}
    )
    # griffe would warn of every parameter without an annotation: not the model's business
    return docstring.parse(style, warnings=False, **options)
