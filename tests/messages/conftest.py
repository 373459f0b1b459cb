"""What the comparisons with Pydantic AI's messages share."""

import re

import pytest


def _seen(*values):
    """What can be compared of either library's values: their repr, with made-up ids numbered as they appear."""
    known: dict[str, str] = {}
    return re.sub(
        r"pyd_ai_[0-9a-f]+", lambda found: known.setdefault(found[0], f"id{len(known)}"), repr(values)
    )


@pytest.fixture(scope="session")
def seen():
    return _seen
