"""What the environment has configured: which providers could be asked, and what the others lack. Never a key."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from runmgr.models.http.origin import shown_url
from runmgr.providers.infer import infer_provider_class

__all__ = ("Configured", "configured")


@attrs.frozen
class Configured:
    """What is known of one provider.

    Args:
        prefix: how its model strings start.
        title: its name for people.
        key: the variable that holds the key, or None.
        url: where it would be asked, without what may be secret; None where nothing says so.
        url_from: the variable that says so; None where the URL is the provider's own.
        missing: the variables that have to be set, as a person reads them; None where nothing is missing.
    """

    prefix: str
    title: str
    key: str | None
    url: str | None
    url_from: str | None
    missing: str | None

    @property
    def chosen(self) -> bool:
        """Whether somebody set it up: a variable is set, and nothing is missing."""
        return self.missing is None and (self.key is not None or self.url_from is not None)


def configured(prefix: str, environment: Mapping[str, str] | None = None) -> Configured:
    """What the environment says of the provider of a prefix. Sends nothing.

    Raises:
        UserError: no such provider.
    """
    known = os.environ if environment is None else environment
    cls = infer_provider_class(prefix)
    key = next((name for name in cls.key_variables if known.get(name)), None)
    url_from = cls.url_variable if cls.url_variable and known.get(cls.url_variable) else None
    url = known[url_from] if url_from else cls.url
    missing: list[str] = []
    if key is None and cls.needs_key:
        missing.append(" or ".join(cls.key_variables))
    if url is None and cls.url_variable:
        missing.append(cls.url_variable)
    shown = None if url is None else shown_url(url).rstrip("/")
    return Configured(prefix, cls.title, key, shown, url_from, " and ".join(missing) or None)
