import dataclasses
import datetime as dt
import json
from decimal import Decimal
from enum import Enum

import attrs
import msgspec
import pytest
import trio
from pydantic import BaseModel

from runmgr.batch.results import ResultsFile, plain, rebuild
from runmgr.report import ResultLine, read_lines


def line(index, **more):
    return ResultLine(index=index, run_id=f"{index:016x}", status="succeeded", **more)


async def test_lines_are_written_in_batches_and_none_is_lost(tmp_path, mock_clock):
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    results.write(line(0))
    assert path.read_bytes() == b""
    mock_clock.jump(0.3)
    results.write(line(1))
    assert [each.index for each in read_lines(path)] == [0, 1]
    results.write(line(2, output="x" * 100_000))
    assert [each.index for each in read_lines(path)] == [0, 1, 2]
    results.write(line(3))
    results.close()
    ResultsFile(path).close()
    assert [each.index for each in read_lines(path)] == [0, 1, 2, 3]


async def test_the_last_lines_of_a_burst_wait_for_no_other(tmp_path, autojump_clock):
    path = tmp_path / "results.jsonl"
    results = ResultsFile(path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(results.flush_in_time)
        for burst in range(3):
            results.write(line(3 * burst))
            results.write(line(3 * burst + 1))
            results.write(line(3 * burst + 2))
            await trio.sleep(0.3)
            assert [each.index for each in read_lines(path)] == list(range(3 * burst + 3))
            await trio.sleep(60)
        nursery.cancel_scope.cancel()
    results.close()


async def test_a_full_disk_is_met_again_by_who_writes(tmp_path, autojump_clock):
    results = ResultsFile(tmp_path / "results.jsonl")
    file, full = results._file, True

    class Disk:
        close = file.close

        def write(self, data):
            if full:
                raise OSError(28, "No space left on device")
            return file.write(data[:7])

    results._file = Disk()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(results.flush_in_time)
        results.write(line(0))
        await trio.sleep(1)
        with pytest.raises(OSError, match="No space left"):
            results.write(line(1))
        full = False
        results.write(line(2))
        nursery.cancel_scope.cancel()
    results.close()
    assert [each.index for each in read_lines(results.path)] == [0, 1, 2]


async def test_rebuilding_keeps_changes_and_leaves_out(tmp_path):
    path = tmp_path / "results.jsonl"
    await rebuild(path, lambda each: each)
    assert not path.exists()
    results = ResultsFile(path)
    for index in range(1200):
        results.write(line(index))
    results.close()
    path.write_bytes(path.read_bytes() + b'{"index": 5000, "run_id')

    def keep(each):
        if each.index % 2:
            return None
        return msgspec.structs.replace(each, index=each.index + 1) if each.index == 4 else each

    await rebuild(path, keep)
    assert [each.index for each in read_lines(path)] == [5 if n == 4 else n for n in range(0, 1200, 2)]
    before = path.read_bytes()

    def refuse():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await rebuild(path, lambda _: None, refuse)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["results.jsonl"]


class Model(BaseModel):
    a: int


@dataclasses.dataclass
class Data:
    a: Model


class Struct(msgspec.Struct):
    a: object


@attrs.define
class Attrs:
    a: object


class Kind(Enum):
    X = "x"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("x", "x"),
        (1.5, 1.5),
        ([1, (2,)], [1, [2]]),
        (Model(a=1), {"a": 1}),
        (Data(Model(a=1)), {"a": {"a": 1}}),
        (Struct(Model(a=1)), {"a": {"a": 1}}),
        ([Attrs(Struct([1]))], [{"a": {"a": [1]}}]),
        (Kind.X, "x"),
        (Decimal("1.5"), "1.5"),
        (dt.date(2025, 1, 2), "2025-01-02"),
        ({1: b"ab"}, {"1": "ab"}),
    ],
)
def test_outputs_of_any_kind_become_json(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value))


def test_what_has_no_json_form_becomes_its_text():
    class Odd:
        def __str__(self):
            return "odd"

    assert plain([Odd()]) == ["odd"]
