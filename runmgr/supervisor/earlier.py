"""What earlier processes have left in the journal: which of their runs a new one is, and what is said where it is none of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from runmgr.exceptions import UserError
from runmgr.journal.codec import encode_any
from runmgr.messages import UserPromptPart

from .identity import BY_AGENT

if TYPE_CHECKING:
    from runmgr.journal import JournalReader, Restored
    from runmgr.records.outcomes import RunOutcome

    from .actor import Actor

__all__ = ("Earlier",)


class Earlier:
    """Their runs.

    Args:
        path: the journal.
        reader: it, as it was opened; None where it held nothing.
        left: how many of their runs have not ended; 0 where that is not known.
    """

    __slots__ = ("_left", "_path", "_reader", "_said_changed", "empty")

    def __init__(self, path: Path, reader: JournalReader | None, left: int) -> None:
        self._path = path
        self._reader = reader
        self.empty = reader is None
        """Whether nothing need be looked up."""
        self._left = left
        self._said_changed = False

    def look_up(self, run_id: str) -> tuple[int, RunOutcome | Restored] | None:
        """What there is of this run, and under which number."""
        return None if self._reader is None else self._reader.look_up(run_id)

    def check_finished(self, actor: Actor, run: int, outcome: RunOutcome) -> None:
        """Hold a run that is to be replayed against what is submitted under its id.

        Raises:
            UserError: it was asked something else, or with another fingerprint of its user's.
        """
        assert self._reader is not None
        before, now = self._reader.fingerprint(run), actor._fingerprint
        if _differ(before, now):
            if not str(now).startswith(BY_AGENT):
                raise UserError(
                    f"run {actor.run_id}: the journal has a finished run of this id whose fingerprint is {before!r}, not {now!r}: "
                    "its agent, model or settings have changed. Put them back, give another run_id, or begin another journal"
                )
            self._say_changed(f"run {actor.run_id} has ended in it, and is told as it ended then")
        if actor._input is None or _as_kept(actor._input) == outcome.input:
            return
        prompts = [
            part.content
            for message in outcome.messages[outcome.new_message_index :][:1]
            for part in message.parts
            if isinstance(part, UserPromptPart)
        ]
        prompt: Any = actor._job.prompt
        if (actor._input is prompt and prompt in prompts) or (prompt is None and not actor._job.is_agent):
            return
        raise UserError(
            f"run {actor.run_id}: the journal has a finished run of this id that was begun with another prompt: "
            f"{str(outcome.input)[:80]!r}, not {str(actor._input)[:80]!r}. Put it back, or give another run_id"
        )

    def check_unfinished(self, actor: Actor, found: Restored) -> None:
        """The same for a run that is to go on.

        Raises:
            UserError: it was begun with another agent or prompt.
        """
        if _differ(found.fingerprint, actor._fingerprint):
            raise UserError(
                f"run {actor.run_id}: the journal has an unfinished run of this id whose fingerprint is "
                f"{found.fingerprint!r}, not {actor._fingerprint!r}: its agent, model or settings have changed. "
                "Put them back, give another run_id, or begin another journal"
            )
        if actor._input is not None and _as_kept(actor._input) != found.input:
            raise UserError(
                f"run {actor.run_id}: the journal has an unfinished run of this id that was begun with another prompt: "
                f"{str(found.input)[:80]!r}, not {str(actor._input)[:80]!r}. Put it back, or give another run_id"
            )

    def check_new(self, actor: Actor) -> None:
        """A run that is not there: say so where there is the same question to another agent."""
        if self._reader is None or self._said_changed:
            return
        content, separator, _ = actor.run_id.partition("-")
        if separator and len(content) == 16 and self._reader.knows_prefix(content + "-"):
            self._say_changed("what it holds of those is not used, and they begin anew")

    def _say_changed(self, consequence: str) -> None:
        if not self._said_changed:
            self._said_changed = True
            warnings.warn(
                f"{self._path}: runs in this journal were asked of another agent than now: model, instructions, tools, output or "
                f"settings have changed: {consequence}",
                stacklevel=2,
            )

    def goes_on(self) -> None:
        """An unfinished run was submitted again."""
        self._left -= 1

    def leave_the_rest(self) -> None:
        """Whoever submits has stopped before the end of what there is: nothing is said of what was not submitted."""
        self._left = 0

    def say_what_is_left(self) -> None:
        """At the end of a block that ended well: say how many unfinished runs nobody submitted again."""
        if self._left > 0:
            warnings.warn(
                f"{self._path}: {self._left:,} unfinished runs of this journal were not submitted again: their prompts, ids or "
                "agents have changed, or nobody asked for them. They are still in it, unfinished",
                stacklevel=2,
            )


def _as_kept(value: Any) -> Any:
    """A value as it comes back from the journal."""
    return msgspec.json.decode(encode_any(value))


def _differ(one: str | None, other: str | None) -> bool:
    """Whether two fingerprints say different things. One that the user gave and one that we worked out cannot be compared."""
    if one is None or other is None or one.startswith(BY_AGENT) != other.startswith(BY_AGENT):
        return False
    return one != other
