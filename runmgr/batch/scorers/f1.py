"""``f1``: how many words output and target share.

Source: P. Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016, section 6.1: bags of words, without punctuation
and articles, in lower case.
"""

from __future__ import annotations

import re
import string
from collections import Counter

__all__ = ("f1",)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.casefold().translate(_PUNCTUATION)).split()


def f1(output: str, target: str) -> float:
    """Harmonic mean of precision and recall of the target's words in the output, 0 to 1; 1 if neither has any."""
    ours, theirs = _words(output), _words(target)
    if not ours or not theirs:
        return float(ours == theirs)
    same = (Counter(ours) & Counter(theirs)).total()
    return 2 * same / (len(ours) + len(theirs))
