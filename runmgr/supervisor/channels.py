"""Channels between the runs of a supervisor, by name: bounded, and they close when their owners end.

Every run that asks for a channel of some name has an end of it, through which it sends and receives; so has the block of the
supervisor. An end closes when its run ends, or by itself (`RunChannel.aclose`).

Who waits for something that cannot come is told: a receiver gets the end of the channel once all other ends are closed or wait
to receive themselves; a sender whose receivers have gone gets ``trio.BrokenResourceError``. While there has been no other end yet,
both wait. A run that waits at a channel gives its place up, so that those at the other ends can run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from runmgr.exceptions import RunEnded, UserError

from .states import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from .actor import Actor
    from .parking import Parking

__all__ = ("Channels", "RunChannel")


class _Channel:
    """What all ends of one name share."""

    __slots__ = ("buffer", "ends", "had_many", "had_receiver", "name", "receive", "send")

    def __init__(self, name: str, buffer: int) -> None:
        self.name = name
        self.buffer = buffer
        self.send, self.receive = trio.open_memory_channel[Any](buffer)
        self.ends: dict[Actor | None, RunChannel] = {}
        self.had_many = False
        """Whether there were ever two ends at once."""
        self.had_receiver = False
        """Whether anybody ever received, or tried to."""

    def check(self) -> None:
        """Close it for those who wait for what cannot come."""
        if not self.had_many:
            return
        ends = self.ends.values()
        if all(end.receiving for end in ends) and not self.receive.statistics().tasks_waiting_send:
            self.send.close()  # receivers get what is buffered, then the end
        elif self.had_receiver and all(end.sending and not end.receiving for end in ends):
            self.receive.close()


class RunChannel:
    """One run's end of a channel. Made by `Supervisor.channel`; iterate it to receive until the end."""

    __slots__ = ("_channel", "_channels", "_owner", "closed", "receiving", "sending")

    def __init__(self, channels: Channels, channel: _Channel, owner: Actor | None) -> None:
        self._channels = channels
        self._channel = channel
        self._owner = owner
        self.closed = False
        self.receiving = 0
        """Parts of the run that wait to receive."""
        self.sending = 0
        """Parts of the run that wait to send."""

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._channel.name

    async def send(self, value: Any) -> None:
        """Send a value; waits while the buffer is full (with a buffer of 0: until somebody receives it).

        Cancelled, it has not sent it.

        Raises:
            trio.BrokenResourceError: nobody is left who could receive it.
            trio.ClosedResourceError: this end is closed.
        """
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        channel = self._channel
        try:
            channel.send.send_nowait(value)
        except trio.WouldBlock:
            pass
        except trio.ClosedResourceError:
            raise trio.BrokenResourceError(f"channel {self.name!r}: nobody is left to receive") from None
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self.sending += 1
        try:
            channel.check()
            await self._wait(lambda: channel.send.send(value))
        finally:
            self.sending -= 1

    async def receive(self) -> Any:
        """Receive a value; waits for one. Cancelled, it has taken none.

        Raises:
            trio.EndOfChannel: nobody is left who could send one.
            trio.ClosedResourceError: this end is closed.
        """
        self._check_open()
        await trio.lowlevel.checkpoint_if_cancelled()
        channel = self._channel
        channel.had_receiver = True
        try:
            value = channel.receive.receive_nowait()
        except trio.WouldBlock:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return value
        self.receiving += 1
        try:
            channel.check()
            return await self._wait(channel.receive.receive)
        finally:
            self.receiving -= 1

    async def _wait(self, wait: Any) -> Any:
        parking = self._channels.parking
        return await parking.wait(
            parking.caller(), wait, f"it waits at channel {self.name!r}", for_runs=False
        )

    def _check_open(self) -> None:
        if self.closed:
            raise trio.ClosedResourceError(f"this end of channel {self.name!r} is closed")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        """Close this end. No effect the second time."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end at once."""
        if not self.closed:
            self.closed = True
            self._channels.forget(self._channel, self._owner)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Channels:
    """All channels of one supervisor."""

    __slots__ = ("_by_name", "_of_owner", "parking")

    def __init__(self, parking: Parking) -> None:
        self.parking = parking
        self._by_name: dict[str, _Channel] = {}
        self._of_owner: dict[Actor | None, list[RunChannel]] = {}

    def open(
        self, name: str, buffer: int | None, owner: Actor | None, others: Iterable[Actor] = ()
    ) -> RunChannel:
        """See `Supervisor.channel`."""
        if owner is not None and owner.state in TERMINAL:
            raise RunEnded(f"run {owner.run_id} cannot open a channel: it has ended ({owner.state.value})")
        channel = self._by_name.get(name)
        if channel is None:
            channel = self._by_name[name] = _Channel(name, buffer or 0)
        elif buffer is not None and buffer != channel.buffer:
            raise UserError(
                f"channel {name!r} is open with a buffer of {channel.buffer}, not {buffer}: leave it out where it is not made"
            )
        end = self._end(channel, owner)
        for other in others:
            if other.state not in TERMINAL:
                self._end(channel, other)
            else:
                channel.had_many = True
        return end

    def _end(self, channel: _Channel, owner: Actor | None) -> RunChannel:
        end = channel.ends.get(owner)
        if end is None:
            end = channel.ends[owner] = RunChannel(self, channel, owner)
            self._of_owner.setdefault(owner, []).append(end)
            channel.had_many = channel.had_many or len(channel.ends) > 1
        return end

    def forget(self, channel: _Channel, owner: Actor | None) -> None:
        """An end was closed."""
        end = channel.ends.pop(owner, None)
        if end is not None:
            owned = self._of_owner[owner]
            owned.remove(end)
            if not owned:
                del self._of_owner[owner]
        channel.check()
        if not channel.ends:
            channel.send.close()
            channel.receive.close()
            if self._by_name.get(channel.name) is channel:
                del self._by_name[channel.name]

    def ended(self, owner: Actor | None) -> None:
        """A run has ended, or the supervisor's block has been left: its ends close."""
        for end in self._of_owner.get(owner, [])[:]:
            end.close()

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._of_owner)
