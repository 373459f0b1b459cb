"""Accounting: who used how much, consistent at every instant, O(1) a request.

Every settled request is added at once to three tallies: its run's, its account's (one for each group and agent) and the
one of the model that answered. Everything else is a sum of these, made when it is asked for, so the sums over runs, groups,
agents, models and providers each equal the total, always. Requests that were paid and whose run failed, was cancelled or
began again stay counted, and `by_status` says how much that is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Literal, TypeAlias

from .tally import RunTally, Tally, summed

__all__ = ("BY", "DROPPED", "OLDER", "By", "Ledger", "RunTally", "Tally")

DROPPED = "(dropped)"
"""The group under which groups are summed that were dropped."""

OLDER = "(older)"
"""The name under which `Ledger.by_run` sums the runs that it no longer remembers one by one."""
LIVE = "live"
RESTARTED = "restarted"

By: TypeAlias = Literal["run", "attempt", "group", "agent", "model", "provider", "status"]
BY: tuple[By, ...] = ("run", "attempt", "group", "agent", "model", "provider", "status")


class Ledger:
    """All tallies of one supervisor but those of live runs, which the runs hold. Called synchronously, by one owner."""

    __slots__ = (
        "_accounts",
        "_by_status",
        "_finished",
        "_keep",
        "_older",
        "_served",
        "prior",
        "prior_groups",
    )

    def __init__(self, keep: int) -> None:
        self.prior = Tally()
        """What earlier processes spent on the same journal: budgets count it, `usage` does not."""
        self._accounts: dict[tuple[str, str], Tally] = {}
        self._served: dict[tuple[str, str], Tally] = {}
        self._by_status: dict[str, Tally] = {}
        self._finished: OrderedDict[str, Tally] = OrderedDict()
        self._older = Tally()
        self._keep = keep

    # ---------------------------------------------------------------- writing

    def account(self, group: str, agent: str) -> Tally:
        """The tally of a group's runs of an agent, made where missing."""
        key = (group, agent)
        tally = self._accounts.get(key)
        if tally is None:
            tally = self._accounts[key] = Tally()
        return tally

    def served(self, provider: str, model: str) -> Tally:
        """The tally of a provider's model, made where missing."""
        key = (provider, model)
        tally = self._served.get(key)
        if tally is None:
            tally = self._served[key] = Tally()
        return tally

    def count_tool_calls(self, tally: Tally, account: Tally, served: Tally, count: int) -> None:
        """A run's tools were called."""
        for each in (tally, account, served):
            each.tool_calls += count

    def restarted(self, tally: Tally) -> None:
        """A run begins again: what its last attempt used was of no avail, unless it goes on from its last node."""
        self._status(RESTARTED).merge(tally.begin_attempt())

    def close_run(self, run_id: str, tally: Tally, status: str) -> None:
        """The run has ended: remember its tally for a while, then only its share of the sum."""
        if tally.is_empty:
            return
        (self._by_status.get(status) or self._status(status)).merge(tally.last_attempt())
        finished = self._finished
        earlier = finished.pop(run_id, None)
        if earlier is not None:  # the same id, run again
            self._older.merge(earlier)
        finished[run_id] = tally
        if len(finished) > self._keep:
            self._older.merge(finished.popitem(last=False)[1])

    def drop_group(self, name: str) -> None:
        """A group without live runs is forgotten: its share of the sums goes over to `DROPPED`. O(groups times agents)."""
        for key in [key for key in self._accounts if key[0] == name]:
            self.account(DROPPED, key[1]).merge(self._accounts.pop(key))

    def _status(self, status: str) -> Tally:
        tally = self._by_status.get(status)
        if tally is None:
            tally = self._by_status[status] = Tally()
        return tally

    # ---------------------------------------------------------------- reading

    @property
    def total(self) -> Tally:
        """The sum of everything, a new tally. O(models)."""
        return summed(self._served.values())

    def group(self, name: str) -> Tally:
        """The sum of a group, a new tally. O(groups times agents)."""
        return summed(tally for (group, _), tally in self._accounts.items() if group == name)

    def by(self, what: By, live: Callable[[], Iterable[tuple[str, Tally]]]) -> dict[str, Tally]:
        """Sums by what is asked for; see `Supervisor.usage`.

        Args:
            what: by what.
            live: the runs that have not ended, with their tallies.
        """
        match what:
            case "group":
                return _by(((group, tally) for (group, _), tally in self._accounts.items()))
            case "agent":
                return _by(((agent, tally) for (_, agent), tally in self._accounts.items()))
            case "model":
                return _by(((model, tally) for (_, model), tally in self._served.items()))
            case "provider":
                return _by(((provider, tally) for (provider, _), tally in self._served.items()))
            case "status":
                return self.by_status()
            case "run":
                return self.by_run(live())
            case "attempt":
                return _attempts(self.by_run(live()))

    def by_status(self) -> dict[str, Tally]:
        """By how the run ended; ``'live'`` is of runs that have not, ``'restarted'`` of attempts that others followed."""
        sums = {status: tally for status, tally in self._by_status.items() if not tally.is_empty}
        rest = self.total.without(sums.values())
        return sums if rest.is_empty else {**sums, LIVE: rest}

    def by_run(self, live: Iterable[tuple[str, Tally]]) -> dict[str, Tally]:
        """By run: live ones and the last ended ones one by one, all earlier ones in one sum. O(runs kept)."""
        sums = dict(self._finished)
        for run_id, tally in live:
            earlier = sums.get(run_id)
            sums[run_id] = tally if earlier is None else summed((earlier, tally))
        if not self._older.is_empty:
            sums[OLDER] = self._older
        return sums


def _by(tallies: Iterable[tuple[str, Tally]]) -> dict[str, Tally]:
    sums: dict[str, Tally] = {}
    for name, tally in tallies:
        if not tally.is_empty:
            sums.setdefault(name, Tally()).merge(tally)
    return sums


def _attempts(runs: dict[str, Tally]) -> dict[str, Tally]:
    parts: dict[str, Tally] = {}
    for run_id, tally in runs.items():
        earlier = tally.earlier or []
        for number, part in enumerate(earlier, 1):
            parts[f"{run_id}#{number}"] = part
        name = run_id if run_id == OLDER else f"{run_id}#{len(earlier) + 1}"
        parts[name] = tally.last_attempt()
    return parts
