"""``NAME,key=value,...``: a scorer with options, from one word of a command line."""

from __future__ import annotations

import re
from difflib import get_close_matches

from runmgr.exceptions import UserError

__all__ = ("Options", "split_spec")

_NEXT = re.compile(r",(?=[A-Za-z][\w-]*=)")


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """A scorer's name and its options; a comma within a value is part of it unless ``key=`` follows.

    Raises:
        UserError: an option is no ``key=value``.
    """
    name, *pairs = _NEXT.split(spec)
    if "," in name:
        raise UserError(f"--scorer {spec}: options are written as key=value, e.g. numeric,rel=1%")
    return name.strip(), {
        key.strip().replace("-", "_"): value for key, _, value in (pair.partition("=") for pair in pairs)
    }


class Options:
    """Options as a scorer takes them out, one by one; what is left over is unknown.

    Args:
        scorer: whose they are, for messages.
        values: as they were written.
    """

    def __init__(self, scorer: str, values: dict[str, str]) -> None:
        self.scorer = scorer
        self._values = dict(values)
        self._known: list[str] = []

    def text(self, key: str, otherwise: str | None = None) -> str | None:
        """The option's text."""
        self._known.append(key)
        return self._values.pop(key, otherwise)

    def number(self, key: str, otherwise: float) -> float:
        """The option as a number from 0 on; ``1%`` is 0.01.

        Raises:
            UserError: it is another text.
        """
        word = self.text(key)
        if word is None:
            return otherwise
        try:
            value = float(word.strip().removesuffix("%")) / (100 if word.strip().endswith("%") else 1)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise UserError(
                f"--scorer {self.scorer}: {_written(key)}={word}: a number from 0 on is needed, e.g. 0.01 or 1%"
            )
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of these; the first where nothing is said.

        Raises:
            UserError: it is none of them.
        """
        word = self.text(key, choices[0])
        if word not in choices:
            raise UserError(
                f"--scorer {self.scorer}: {_written(key)}={word}: one of {', '.join(choices)} is needed"
            )
        return word

    def end(self) -> None:
        """All that are known were taken.

        Raises:
            UserError: there are others.
        """
        for key in self._values:
            close = get_close_matches(key, self._known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ";"
            known = f"it takes {_written(', '.join(self._known))}" if self._known else "it takes none"
            raise UserError(f"--scorer {self.scorer}: no option {_written(key)!r}{_written(hint)} {known}")


def _written(key: str) -> str:
    return key.replace("_", "-")
