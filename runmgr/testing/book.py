"""The provider's own book: what it answered, what it charged, and what the client must therefore know.

Everything that a simulation holds against the supervisor is worked out here, from what happened outside of it. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import attrs

from runmgr.messages import ModelRequest, ModelResponse, RetryPromptPart, ToolCallPart, ToolReturnPart
from runmgr.records.outcomes import RunOutcome
from runmgr.usage import RequestUsage, RunUsage

__all__ = ("Book", "Charge", "Violation", "check_history")


class Violation(AssertionError):
    """An invariant did not hold. The message says which, for which run, and what was seen."""


@attrs.define
class Charge:
    """A request that the client was told the usage of."""

    turn: int
    """How many responses the conversation held before: with the run's id, which response this is."""
    input_tokens: int
    output_tokens: int
    whole: bool
    """False for a stream that was cut: it is paid for, but there is nothing to act on."""
    acted_on: bool = False
    """A tool of this response has begun."""


@attrs.define
class Sums:
    """Requests and tokens."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add(self, input_tokens: int, output_tokens: int) -> None:
        """One request more."""
        self.requests += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens

    @classmethod
    def of_usage(cls, usage: RunUsage) -> Sums:
        """What a run or the supervisor says that it used."""
        return cls(usage.requests, usage.input_tokens, usage.output_tokens)

    @classmethod
    def of_charges(cls, charges: Iterable[Charge]) -> Sums:
        """What a run was charged."""
        sums = cls()
        for charge in charges:
            sums.add(charge.input_tokens, charge.output_tokens)
        return sums

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


@attrs.define
class Book:
    """What happened, seen from outside."""

    kept: dict[str, list[Charge]] = attrs.field(factory=dict[str, list[Charge]])
    """By run, the charges that the client must know of: those since lost in a crash are taken out."""
    charged: Sums = attrs.field(factory=Sums)
    """Everything that was paid for, in all processes: also answers that never reached the client."""
    told_now: Sums = attrs.field(factory=Sums)
    """What this process was told the usage of."""
    outcomes: dict[str, RunOutcome] = attrs.field(factory=dict[str, RunOutcome])
    """What was told of each run that has ended, first."""
    paid_twice: int = 0
    """Responses that were lost in a crash and asked for again."""
    most_lost: int = 0
    """The most that one crash lost."""
    first: Exception | None = None
    """What was found where raising it would only have failed a run."""

    # ---------------------------------------------------------------- as it happens

    def answered(self, run_id: str, turn: int, usage: RequestUsage, *, whole: bool) -> None:
        """The client was told of an answer."""
        charges = self.kept.setdefault(run_id, [])
        if whole and any(charge.whole and charge.turn == turn for charge in charges):
            self.first = self.first or Violation(
                f"run {run_id}: response {turn} was already paid for and is asked for again"
            )
        charges.append(Charge(turn, usage.input_tokens, usage.output_tokens, whole))
        self.charged.add(usage.input_tokens, usage.output_tokens)
        self.told_now.add(usage.input_tokens, usage.output_tokens)

    def lost(self, usage: RequestUsage) -> None:
        """An answer was made and charged for, but the client never saw it, or saw it in pieces."""
        self.charged.add(usage.input_tokens, usage.output_tokens)

    def acted(self, run_id: str) -> None:
        """A tool of the run's last response has begun."""
        charges = self.kept.get(run_id)
        if charges:
            charges[-1].acted_on = True

    def ended(self, outcome: RunOutcome) -> None:
        """A run's outcome was told."""
        run_id = outcome.run_id
        before = self.outcomes.get(run_id)
        if before is not None:
            if not outcome.replayed:
                raise Violation(
                    f"run {run_id}: has ended as {before.status} and now again as {outcome.status}"
                )
            same = (before.status, before.output, before.usage, before.error)
            if same != (outcome.status, outcome.output, outcome.usage, outcome.error):
                raise Violation(f"run {run_id}: was told as {before} and is replayed as {outcome}")
            return
        self.outcomes[run_id] = outcome
        self.check_usage(outcome)
        check_history(outcome)

    def check_usage(self, outcome: RunOutcome) -> None:
        """Raise where an outcome's usage is not what its requests were charged."""
        expected = Sums.of_charges(self.kept.get(outcome.run_id, ()))
        said = Sums.of_usage(outcome.usage)
        if expected != said:
            raise Violation(f"run {outcome.run_id}: its outcome says {said}, its provider {expected}")

    # ---------------------------------------------------------------- after a crash

    def crashed(
        self,
        finished: Callable[[str], RunOutcome | None],
        paid: Callable[[str], RunUsage | None],
        *,
        at_once: int,
    ) -> None:
        """The process is dead: compare with what its journal holds, and take out what is lost.

        Args:
            finished: the journal's outcome of a run.
            paid: what the journal says that an unfinished run was charged; None where it does not know the run.
            at_once: how many runs held a place at most: no more answers may be lost than that.
        """
        self.told_now = Sums()
        for run_id in self.outcomes:
            if finished(run_id) is None:
                raise Violation(f"run {run_id}: its outcome was told, and the journal does not have it")
        lost = 0
        for run_id, charges in self.kept.items():
            if run_id in self.outcomes:
                continue
            outcome = finished(run_id)
            if outcome is not None:
                self.check_usage(outcome)
                continue
            count = self._known(run_id, charges, paid(run_id))
            if self._lose(run_id, charges[count:]):
                lost += 1
            del charges[count:]
        self.paid_twice += lost
        self.most_lost = max(self.most_lost, lost)
        if lost > at_once:
            raise Violation(f"a crash lost {lost} answers, though only {at_once} runs had a place")

    def damaged(
        self, finished: Callable[[str], RunOutcome | None], paid: Callable[[str], RunUsage | None]
    ) -> list[str]:
        """The journal was damaged and saved as far as it could be: take out what is not in it any more.

        Args:
            finished: the journal's outcome of a run.
            paid: what the journal says that an unfinished run was charged; None where it does not know the run.

        Returns:
            The runs whose outcome was told and is lost.
        """
        self.told_now = Sums()
        lost: list[str] = []
        for run_id in {*self.kept, *self.outcomes}:
            outcome = finished(run_id)
            if outcome is not None:
                self.check_usage(outcome)
                continue
            if self.outcomes.pop(run_id, None) is not None:
                lost.append(run_id)
            charges = self.kept.get(run_id, [])
            del charges[self._known(run_id, charges, paid(run_id)) :]
        return sorted(lost)

    @staticmethod
    def _known(run_id: str, charges: list[Charge], paid: RunUsage | None) -> int:
        """How many of the charges the journal has."""
        said = Sums() if paid is None else Sums.of_usage(paid)
        sums = Sums()
        for count, charge in enumerate(charges):
            if sums == said:
                return count
            sums.add(charge.input_tokens, charge.output_tokens)
        if sums == said:
            return len(charges)
        raise Violation(
            f"run {run_id}: the journal says that it was charged {said}; no part of {charges} is that"
        )

    @staticmethod
    def _lose(run_id: str, charges: list[Charge]) -> bool:
        whole = [charge for charge in charges if charge.whole]
        if len(whole) > 1:
            raise Violation(f"run {run_id}: a crash lost {len(whole)} of its answers")
        if any(charge.acted_on for charge in whole):
            raise Violation(
                f"run {run_id}: a tool began before the response that asked for it was in the journal"
            )
        return bool(whole)


def check_history(outcome: RunOutcome) -> None:
    """Raise where a history is none that a provider would take: requests and responses in turn, every call answered."""
    messages: list[Any] = outcome.messages
    calls: set[str] = set()
    previous: Any = None
    for position, message in enumerate(messages):
        kind: Any = cast("Any", type(message))
        if kind is previous:
            raise Violation(
                f"run {outcome.run_id}: messages {position - 1} and {position} are both {kind.__name__}"
            )
        previous = kind
        if isinstance(message, ModelResponse):
            calls = {part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)}
        elif isinstance(message, ModelRequest):
            answers = {
                part.tool_call_id
                for part in message.parts
                if isinstance(part, ToolReturnPart) or (isinstance(part, RetryPromptPart) and part.tool_name)
            }
            if answers != calls:
                raise Violation(
                    f"run {outcome.run_id}: message {position} answers the calls {sorted(answers)}, asked were {sorted(calls)}"
                )
            calls = set()
    if outcome.succeeded and not messages:
        raise Violation(f"run {outcome.run_id}: succeeded without a history")
