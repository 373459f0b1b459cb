"""Which run is which in a journal, where nobody says so: by content.

A run's id is a digest of what it is asked (prompt, history, input) and of how many equal ones came before, and one of who is asked
(the agent's fingerprint, and what was given on top of it). So a program that is started again and submits the same runs, in
whatever order and among whatever others, meets what it has journaled; equal prompts are as many runs as there are of
them. The digest of the content comes first, so that the same question to a changed agent is found, and said.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple, cast

from runmgr.journal.codec import encode_any
from runmgr.journal.tables import HashTable
from runmgr.models import Model

__all__ = ("ASKED", "BY_AGENT", "Identities", "Who", "asked")

BY_AGENT = "agent:"
"""What fingerprints begin with that we worked out."""

ASKED = ("message_history", "deferred_tool_results")
"""What of a run's options belongs to what is asked."""
_ON_TOP = ("model", "model_settings", "instructions", "output_type", "toolsets")
_AGENTS = 1_000
_number = Struct("<Q").unpack


class Who(NamedTuple):
    """Who is asked, as far as it is the same for all runs."""

    fingerprint: str
    """As the journal keeps it."""
    salt: int
    """What tells its contents from others' in the table."""
    suffix: str
    """Of its runs' ids."""

    @classmethod
    def of(cls, name: str) -> Who:
        """By a name or digest."""
        return cls(BY_AGENT + name, int(_digest(name), 16), f"-{name[:8]}")


class Identities:
    """Gives ids to runs in the order in which they are submitted; 17 bytes of memory a run.

    Args:
        expected: how many runs to make room for.
    """

    __slots__ = ("_agents", "_others", "_seen")

    def __init__(self, expected: int = 1_000) -> None:
        self._seen = HashTable(expected)
        self._agents: dict[int, tuple[Any, str, Who]] = {}
        self._others: dict[str, Who] = {}

    def who(self, agent: Any, options: dict[str, Any]) -> Who:
        """Who is asked: the agent, and what this run is given on top of it."""
        known = self._agents.get(id(agent))
        if known is None:
            if len(self._agents) >= _AGENTS:
                self._agents.clear()
            text = _agent(agent)
            # Holding the agent keeps its identity from coming again for another one.
            known = self._agents[id(agent)] = (agent, text, Who.of(_digest(text)))
        if not options or options.keys().isdisjoint(_ON_TOP):
            return known[2]
        text = known[1]
        for name in _ON_TOP:
            value = options.get(name)
            if value is not None:
                text += f" {name}={_shown(value)}"
        return self.named(_digest(text))

    def named(self, name: str) -> Who:
        """Who is asked, by a name or digest."""
        known = self._others.get(name)
        if known is None:
            if len(self._others) >= _AGENTS:
                self._others.clear()
            known = self._others[name] = Who.of(name)
        return known

    def next_run(self, content: bytes, who: Who) -> tuple[str, tuple[int, int]]:
        """The id of the next run of this content: ``CONTENT-FINGERPRINT``; and what `give_back` takes.

        Args:
            content: what is asked, as bytes.
            who: of `who` or `named`.
        """
        digest = blake2b(content, digest_size=8).digest()
        key = _number(digest)[0] ^ who.salt
        before = self._seen.count(key)
        if before:
            digest = blake2b(digest + before.to_bytes(4, "little"), digest_size=8).digest()
        return digest.hex() + who.suffix, (key, before)

    def give_back(self, given: tuple[int, int]) -> None:
        """A run that was given an id is not to be: the next of its content gets it, unless others came since."""
        key, before = given
        if self._seen.get(key) == before + 1:
            self._seen.set(key, before)

    def close(self) -> None:
        """Give the memory back."""
        self._seen.close()


def asked(prompt: Any, input: Any, options: dict[str, Any]) -> bytes:
    """What a run of an agent is asked, as bytes.

    Raises:
        ValueError, TypeError: it has no JSON form.
    """
    text = encode_any(prompt)
    if input is not None:
        text += b" input=" + encode_any(input)
    for name in ASKED:
        value = options.get(name)
        if value:
            text += f" {name}=".encode() + encode_any(value if name != "message_history" else list(value))
    return text


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _agent(agent: Any) -> str:
    try:
        return cast("str", agent.fingerprint())
    except Exception:  # noqa: BLE001  an agent of somebody's own: known by its name, as nothing else of it is
        return f"{type(agent).__module__}.{type(agent).__qualname__} {getattr(agent, 'name', None)}"


def _shown(value: Any) -> str:
    if isinstance(value, Model):
        return f"{value.system}:{value.model_name}"
    try:
        return encode_any(value).decode()
    except (ValueError, TypeError):
        if isinstance(value, list | tuple):
            return ",".join(map(_shown, cast("list[Any]", value)))
        return (
            f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        )
