"""Model names for people."""

from __future__ import annotations

import re

__all__ = ("label",)

_NUMBER = re.compile(r"\d[\d.]*")


def label(model_name: str) -> str:
    """A name for people.

    ``gpt-5`` is ``GPT 5``, ``claude-sonnet-4-5`` is ``Claude Sonnet 4.5``, ``meta-llama/llama-3-70b`` is
    ``Llama 3 70b``.
    """
    words: list[str] = []
    for word in model_name.rsplit("/", 1)[-1].split("-"):
        if words and _NUMBER.fullmatch(word) and _NUMBER.fullmatch(words[-1]):
            words[-1] += "." + word
        else:
            words.append("GPT" if word.lower() == "gpt" else word.capitalize())
    return " ".join(words)
