"""Hours at a provider, in virtual time: when it is looked at, what is resubmitted, what a cancelled run leaves."""

import json
from types import SimpleNamespace

import pytest
import trio

from runmgr.batch.provider_batches.api import Counts, Limits, Seen, Verdict
from runmgr.batch.provider_batches.lane import Lane, Patience
from runmgr.batch.provider_batches.records import STATES, custom_id
from runmgr.batch.provider_batches.spool import Results
from runmgr.exceptions import ModelConnectionError, ModelHTTPError


class Writer:
    """A journal that remembers what it was told, and when."""

    def __init__(self):
        self.told = []

    def set_meta(self, key, value):
        self.told.append((trio.current_time(), key, getattr(value, "state", value)))

    async def committed(self):
        await trio.lowlevel.checkpoint()

    @property
    def states(self):
        return [state for _, _, state in self.told if isinstance(state, str)]


class Provider:
    name = "openai"
    limits = Limits(100, 10_000)

    def __init__(self, hours=3.0):
        self.hours = hours
        self.looks = []
        self.batches = {}
        self.fails = []
        self.lost = False

    def line(self, name, endpoint, body):
        return json.dumps([name, body.decode()]).encode() + b"\n"

    async def create(self, record, file):
        await trio.sleep(0.5)
        if self.fails:
            raise self.fails.pop(0)
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        self.batches[f"b{len(self.batches)}"] = (record.key, trio.current_time(), lines)
        if self.lost:
            self.lost = False
            raise ModelConnectionError("m", "the answer was lost")
        return f"b{len(self.batches) - 1}"

    async def find(self, record):
        return next((name for name, (key, _, _) in self.batches.items() if key == record.key), None)

    async def look(self, batch_id):
        self.looks.append(trio.current_time())
        if len(self.looks) in {3, 4}:
            raise ModelHTTPError(503, "m", "busy")
        ended = trio.current_time() - self.batches[batch_id][1] >= 3600 * self.hours
        return Seen("completed" if ended else "in_progress", ended, False, Counts(1, 0), {"id": batch_id})

    async def results(self, seen):
        for name, body in self.batches[seen.raw["id"]][2]:
            yield json.dumps([name, f"to {body}"]).encode()

    def verdict(self, line):
        return Verdict(json.loads(line)[0], "succeeded")

    def answer(self, line):
        return json.loads(line)[1].encode()


@pytest.fixture
def lanes(tmp_path, nursery):
    def make(provider, **patience):
        numbers = iter(range(1, 100))
        return Lane(
            api=provider,
            model=SimpleNamespace(base_url="u", model_name="m"),
            name="openai:m",
            endpoint="/e",
            writer=Writer(),
            results=Results(tmp_path),
            number=lambda: next(numbers),
            patience=Patience(**patience),
            nursery=nursery,
        )

    return make


async def test_it_is_looked_at_less_and_less_often_and_no_failure_ends_it(lanes, autojump_clock):
    provider = Provider()
    lane = lanes(provider)
    assert await lane.ask("r", b"q", {}) == b"to q"
    gaps = [b - a for a, b in zip(provider.looks, provider.looks[1:], strict=False)]
    assert gaps[:4] == pytest.approx([2, 3, 4.5, 6.75])
    assert max(gaps) == pytest.approx(60)
    assert 3600 * 3 <= trio.current_time() < 3600 * 3 + 70
    assert lane._writer.states == ["intended", "submitted", "ended"]


async def test_the_intent_is_committed_before_anything_is_sent(lanes, autojump_clock):
    provider = Provider(hours=0.01)
    lane = lanes(provider)
    await lane.ask("r", b"q", {})
    at = {state: when for when, _, state in lane._writer.told if isinstance(state, str)}
    (_, sent, _) = provider.batches["b0"]
    assert at["intended"] < sent <= at["submitted"]


async def test_what_comes_within_a_second_is_one_batch_and_what_comes_later_another(lanes, autojump_clock):
    provider = Provider(hours=0.1)
    lane = lanes(provider)
    async with trio.open_nursery() as nursery:
        for delay in (0, 0.4, 0.9, 5):

            async def ask(delay=delay):
                await trio.sleep(delay)
                assert await lane.ask(f"r{delay}", b"q", {}) == b"to q"

            nursery.start_soon(ask)
    assert [len(lines) for _, _, lines in provider.batches.values()] == [3, 1]


async def test_a_cancelled_run_finds_its_answer_when_it_asks_again(lanes, autojump_clock):
    provider = Provider(hours=1)
    lane = lanes(provider)
    with trio.move_on_after(600):
        await lane.ask("r", b"q", {})
    assert await lane.ask("r", b"q", {}) == b"to q"
    assert len(provider.batches) == 1
    assert trio.current_time() < 3700
    # and once it has been given, the same question is another request
    assert await lane.ask("r", b"q", {}) == b"to q"
    assert len(provider.batches) == 2


async def test_a_submission_whose_answer_is_lost_is_looked_for(lanes, autojump_clock):
    provider = Provider(hours=0.1)
    provider.lost = True
    lane = lanes(provider)
    assert await lane.ask("r", b"q", {}) == b"to q"
    assert len(provider.batches) == 1


async def test_a_provider_that_is_down_is_tried_as_often_as_it_may_be(lanes, autojump_clock):
    provider = Provider()
    provider.fails = [ModelHTTPError(503, "m", "down") for _ in range(9)]
    lane = lanes(provider, retries=3)
    with pytest.raises(ModelHTTPError, match="503"):
        await lane.ask("r", b"q", {})
    assert len(provider.fails) == 5
    assert lane._writer.states == ["intended", "void"]


async def test_an_intent_that_was_never_sent_is_sent_after_a_while(lanes, autojump_clock):
    import time

    from runmgr.batch.provider_batches.records import BatchRecord

    provider = Provider(hours=0.1)
    lane = lanes(provider)
    name = custom_id("r", b"q", 1)
    record = BatchRecord(
        number=7, api="openai", model="openai:m", base_url="u", endpoint="/e", state="intended", key="k",
        intended_at=time.time(), requests=1,
    )  # fmt: skip
    lane.take_up(record, [(name, "r")], set())
    assert await lane.ask("r", b"q", {}) == b"to q"
    (_, sent, _) = provider.batches["b0"]
    assert sent > 28  # what was taken a moment before may not be listed yet
    assert lane._writer.states == ["void", "intended", "submitted", "ended"]


def test_states_and_names():
    assert {after for several in STATES.values() for after in several} < set(STATES)
    names = {custom_id("r" * 16, b"a", 1), custom_id("r" * 16, b"a", 2), custom_id("r" * 16, b"b", 1)}
    names |= {custom_id("r" * 100, b"a", 1), custom_id("ä ö", b"a", 1), custom_id("", b"a", 1)}
    assert len(names) == 6
    assert all(len(name) <= 64 and name.replace("-", "").isalnum() and name.isascii() for name in names)
