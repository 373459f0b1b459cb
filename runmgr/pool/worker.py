"""A stage of a pipeline, for programs that run trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import trio

    from runmgr.records.outcomes import RunOutcome
    from runmgr.supervisor import Supervisor

__all__ = ("as_worker",)


async def as_worker(
    supervisor: Supervisor,
    agent: Any,
    receive_channel: trio.MemoryReceiveChannel[Any],
    send_channel: trio.MemorySendChannel[RunOutcome],
    *,
    ordered: bool = False,
    window: int | None = None,
    **options: Any,
) -> None:
    """Take prompts or `RunSpec` values from one channel, run them, and put their outcomes into another.

    It owns its ends of both channels and closes them when it ends: that is when the jobs' channel is closed and every
    outcome was sent. Where nobody takes outcomes, no more jobs are taken: at most ``window`` are under way or wait to be
    sent. Start several, each with clones of the channels, for several agents.

    Cancelling it cancels its runs, and waits for them.

    Args:
        supervisor: where they run.
        agent: what to run; a `RunSpec` may name another.
        receive_channel: the jobs.
        send_channel: the outcomes, as they come.
        ordered: send outcomes in the order of the jobs.
        window: as in `Supervisor.map`; twice the supervisor's places when left out.
        options: for every run, as in `Supervisor.map`.

    Raises:
        trio.BrokenResourceError: nobody is left to receive outcomes. Runs under way are cancelled.
        SupervisorClosed: the supervisor stopped admitting.
    """
    if window is None:
        window = 2 * supervisor.snapshot().max_running
    async with (
        receive_channel,
        send_channel,
        supervisor.map(agent, receive_channel, ordered=ordered, window=window, **options) as outcomes,
    ):
        async for outcome in outcomes:
            await send_channel.send(outcome)
