"""Whole batches in process, by the door that Python programs use."""

import json
import sys
from decimal import Decimal

import pytest
import trio

from runmgr import Agent
from runmgr.agent.host import current_host
from runmgr.batch import BatchConfig, run_batch
from runmgr.batch.results import ResultsFile
from runmgr.exceptions import InputError, JournalError, MalformedResponseError, ModelHTTPError, UserError
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.usage import RequestUsage


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def results(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def asked(messages):
    return messages[-1].parts[-1].content


class Parrot:
    """A model that repeats the question, and knows what it was asked; fails and waits where it is told to."""

    def __init__(self):
        self.prompts = []
        self.fails = {}
        self.waits = {}

    @property
    def model(self):
        return FunctionModel(self.answer, model_name="parrot")

    async def answer(self, messages, info):
        prompt = asked(messages)
        self.prompts.append(prompt)
        await trio.sleep(self.waits.get(prompt, 0.01))
        if prompt in self.fails:
            raise self.fails[prompt]
        return ModelResponse(
            parts=[TextPart(f"I say {prompt}")],
            usage=RequestUsage(input_tokens=3, output_tokens=2),
            model_name="parrot",
        )


@pytest.fixture
def parrot():
    return Parrot()


@pytest.fixture
def batch(tmp_path, parrot):
    """Runs a batch of rows that each have a prompt and the target that the parrot meets."""

    async def run(rows, *, resume=False, **options):
        if rows is not None:
            write(
                tmp_path / "in.jsonl",
                [row if isinstance(row, dict) else {"prompt": row, "target": row} for row in rows],
            )
        options = {
            "input": tmp_path / "in.jsonl",
            "model": parrot.model,
            "out": tmp_path / "out",
            "resume": resume,
            **options,
        }
        return await run_batch(BatchConfig(**options))

    return run


async def test_results_are_there_while_other_runs_still_wait(batch, parrot, tmp_path):
    answer = parrot.answer

    async def last(messages, info):
        if asked(messages) == "last":
            with trio.fail_after(20):
                while len(results(tmp_path / "out")) < 3:
                    await trio.sleep(0.02)
        return await answer(messages, info)

    result = await batch(["a", "b", "c", "last"], model=FunctionModel(last))
    assert result.summary.succeeded == 4


async def test_every_case_has_its_line_and_the_summary_is_their_sum(batch, tmp_path):
    result = await batch(["a", "b", "c"], target_field="target", scorers=["exact", "includes"], epochs=2)
    rows = results(tmp_path / "out")
    assert sorted((row["index"], row["epoch"]) for row in rows) == [(i, e) for i in range(3) for e in (1, 2)]
    assert len({row["run_id"] for row in rows}) == 6
    for row in rows:
        assert row["status"] == "succeeded"
        assert row["input"] == "abc"[row["index"]]
        assert row["output"] == f"I say {row['input']}"
        assert row["scores"] == {"exact": 0.0, "includes": 1.0}
        assert row["error"] is None
        assert row["model"] == "parrot"
        assert row["attempts"] == 1
        assert row["cost"] is None
        assert row["queued_at"] <= row["started_at"] < row["finished_at"]
        assert row["usage"]["requests"] == 1
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "complete"
    assert (summary["runs"], summary["succeeded"], summary["remaining"]) == (6, 6, 0)
    assert (
        summary["usage"]["requests"],
        summary["usage"]["input_tokens"],
        summary["usage"]["output_tokens"],
    ) == (6, 18, 12)
    assert summary["cost"] is None
    assert summary["scores"]["includes"] == {"mean": 1.0, "stderr": 0.0, "n": 6}
    assert summary["by_model"]["parrot"]["runs"] == 6
    assert result.exit_code == 0
    assert (tmp_path / "out" / "report.html").exists()
    assert not list((tmp_path / "out").glob(".*"))


async def test_how_many_runs_there_are_to_be_is_told_before_the_first_is_sent(batch, parrot, tmp_path):
    told = []

    async def tell(messages, info):
        told.append(json.loads((tmp_path / "out" / "batch.json").read_text())["runs"])
        return await parrot.answer(messages, info)

    await batch(["a", "b", "c"], model=FunctionModel(tell), epochs=2)
    await batch(["a", "b", "c", "d"], model=FunctionModel(tell), epochs=2, resume=True)
    assert told == [6] * 6 + [8] * 2


async def test_templates_instructions_settings_and_limit(batch, tmp_path):
    seen = []

    def answer(messages, info):
        seen.append((messages[-1].instructions, info.model_settings, asked(messages)))
        return ModelResponse(parts=[TextPart("yes")])

    await batch(
        [{"q": "one"}, {"q": "two"}, {"broken": 1}],
        model=FunctionModel(answer),
        prompt="Q: {{ q }}",
        instructions="Be brief.",
        settings={"temperature": "0", "max_tokens": 7},
        limit=2,
    )
    assert sorted(seen, key=str) == sorted(
        [
            ("Be brief.", {"temperature": 0.0, "max_tokens": 7}, "Q: one"),
            ("Be brief.", {"temperature": 0.0, "max_tokens": 7}, "Q: two"),
        ],
        key=str,
    )


async def test_an_agent_with_structured_output_and_a_scorer_of_ones_own(batch, tmp_path, monkeypatch):
    (tmp_path / "mine_batch.py").write_text(
        "from pydantic import BaseModel\n"
        "from runmgr import Agent\n"
        "class City(BaseModel):\n    name: str\n    size: int = 3\n"
        "agent = Agent('test', output_type=City)\n"
        "async def long(output, outcome): return len(output.name)\n"
        "def seen(input, target): return input == target\n"
        "def broken(output, target): raise ValueError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_batch", raising=False)
    result = await batch(
        ["a", "b"],
        model=None,
        agent="mine_batch:agent",
        target_field="target",
        scorers=["mine_batch:long", "mine_batch:seen", "mine_batch:broken", "exact"],
    )
    for row in results(tmp_path / "out"):
        assert row["output"] == {"name": "a", "size": 3} or set(row["output"]) == {"name", "size"}
        assert list(row["scores"]) == ["long", "seen", "broken", "exact"]
        assert row["scores"] == {
            "long": len(row["output"]["name"]),
            "seen": 1.0,
            "broken": None,
            "exact": 0.0,
        }
    assert result.summary.scores["seen"].mean == 1.0
    assert (result.summary.scores["broken"].mean, result.summary.scores["broken"].n) == (None, 0)
    assert any("2 times a scorer failed" in note and "ValueError: no" in note for note in result.notes)


async def test_runs_with_tools_have_their_transcript_in_the_report(batch, tmp_path):
    agent = Agent("test", name="tooled")

    @agent.tool_plain
    def look_up(word: str) -> str:
        return f"found {word}"

    await batch(["a"], agent=agent, model=None)
    (row,) = results(tmp_path / "out")
    assert row["usage"]["tool_calls"] == 1
    page = (tmp_path / "out" / "report.html").read_text()
    block = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [(entry["kind"], entry["name"]) for entry in block["cases"][0]["transcript"]] == [
        *[("user", ""), ("call", "look_up"), ("return", "look_up"), ("text", "")]
    ]


async def test_costs_are_known_where_prices_are(batch, tmp_path):
    def answer(messages, info):
        return ModelResponse(
            parts=[TextPart("x")],
            usage=RequestUsage(input_tokens=1_000_000, output_tokens=0),
            model_name="gpt-4o-mini",
            provider_name="openai",
        )

    result = await batch(["a", "b"], model=FunctionModel(answer, model_name="gpt-4o-mini"))
    assert result.summary.cost == Decimal("0.30")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["cost"] == 0.3


# ------------------------------------------------------------------ failures


async def test_failed_runs_are_told_and_give_exit_code_1(batch, parrot, tmp_path):
    parrot.fails["b"] = ModelHTTPError(400, "parrot", {"error": "no"})
    result = await batch(["a", "b", "c"], target_field="target", scorers=["includes"])
    failed = next(row for row in results(tmp_path / "out") if row["status"] == "failed")
    assert failed["error"]["type"] == "ModelHTTPError"
    assert "status_code: 400" in failed["error"]["message"]
    assert failed["scores"] == {}
    assert failed["output"] is None
    assert result.exit_code == 1
    assert result.summary.status == "complete"
    assert result.summary.scores["includes"].n == 2
    assert result.first_failure.startswith("ModelHTTPError: status_code: 400")


async def test_staying_under_max_failures_is_success(batch, parrot):
    parrot.fails["b"] = ValueError("no")
    result = await batch(["a", "b", "c"], max_failures=1)
    assert (result.exit_code, result.summary.status, result.summary.failed) == (0, "complete", 1)


@pytest.mark.parametrize("limit", ["1", "10%"])
async def test_passing_max_failures_stops_the_batch(batch, parrot, limit):
    prompts = [f"p{i}" for i in range(20)]
    for prompt in prompts:
        parrot.fails[prompt] = ValueError("no")
    result = await batch(prompts, max_failures=limit, max_running=1)
    assert (result.exit_code, result.summary.status) == (1, "failed")
    assert result.summary.failed in (2, 3)
    assert result.summary.remaining == 20 - result.summary.failed
    assert len(parrot.prompts) < 6


async def test_a_run_that_takes_too_long_fails(batch, parrot, tmp_path, autojump_clock):
    parrot.waits["b"] = 100
    result = await batch(["a", "b"], timeout=5)
    assert result.summary.failed == 1
    assert results(tmp_path / "out")[-1]["error"]["type"] == "TimeoutError"


async def test_what_can_be_sent_again_is(batch, parrot, autojump_clock):
    tries = []

    def answer(messages, info):
        tries.append(1)
        if len(tries) < 3:
            raise ModelHTTPError(503, "m", None)
        return ModelResponse(parts=[TextPart("x")])

    result = await batch(["a"], model=FunctionModel(answer), retries=2)
    assert (result.exit_code, len(tries)) == (0, 3)
    tries.clear()
    result = await batch(
        ["b"], model=FunctionModel(answer), retries=1, out=result.directory.path.with_name("out2")
    )
    assert (result.exit_code, len(tries)) == (1, 2)


@pytest.mark.parametrize("bounded", [True, False])
async def test_a_spent_budget_stops_the_batch_and_a_larger_one_goes_on(batch, parrot, bounded):
    prompts = [f"p{i}" for i in range(100)]
    options = {"settings": {"max_tokens": 2}, "max_running": 4} if bounded else {"max_running": 4}
    limit = 600 if bounded else 6000
    result = await batch(prompts, budget_tokens=limit, **options)
    spent = result.summary.usage["input_tokens"] + result.summary.usage["output_tokens"]
    if not bounded:
        assert any("the budget is not hard" in note and "max_tokens" in note for note in result.notes)
        return
    assert (result.exit_code, result.summary.status, result.summary.failed) == (3, "budget_exhausted", 0)
    assert 0 < spent <= limit
    assert result.summary.remaining == 100 - result.summary.succeeded > 0
    result = await batch(prompts, budget_tokens=5 * limit, resume=True, **options)
    assert (result.exit_code, result.summary.succeeded, len(parrot.prompts)) == (0, 100, 100)
    assert result.summary.usage["input_tokens"] == 300


async def test_what_was_cut_off_is_said_where_it_has_used_up_the_budget(batch, parrot):
    parrot.fails = {"p0": MalformedResponseError("parrot", "cut short")}
    options = {"settings": {"max_tokens": 500}, "max_running": 1, "retries": 0}
    result = await batch([f"p{i}" for i in range(5)], budget_tokens=1_100, **options)
    assert result.summary.status == "budget_exhausted"
    assert [note for note in result.notes if "tokens are counted for requests that were cut off" in note]


async def test_a_budget_that_stops_a_resumed_batch_is_not_said_to_leave_runs_out(
    tmp_path, parrot, autojump_clock
):
    write(tmp_path / "in.jsonl", [{"prompt": f"p{i}"} for i in range(20)])
    parrot.waits = {f"p{i}": 10 for i in range(20)}
    options = {"input": tmp_path / "in.jsonl", "model": parrot.model, "out": tmp_path / "out"}

    async def stop(state):
        await trio.sleep(1)
        state.stop()

    result = await run_batch(**options, max_running=20, watch=[stop])
    assert result.summary.remaining == len(parrot.prompts) == 20
    result = await run_batch(**options, max_running=1, resume=True, budget_tokens=1)  # a warning is an error
    assert (result.summary.status, result.summary.remaining) == ("budget_exhausted", 20)


# ------------------------------------------------------------------ nothing is sent


@pytest.mark.parametrize(
    ("rows", "options", "part"),
    [
        (["a"], {"model": "nonesuch:x"}, "nonesuch"),
        (["a"], {"extract": "("}, "--extract"),
        (["a"], {"scorers": ["exact"]}, "--scorer exact needs --target-field"),
        (["a"], {"scorers": ["nope"]}, "unknown scorer"),
        (["a"], {"agent": "no_such_module_q:agent", "model": None}, "no module named"),
        (["a"], {"agent": "string:digits", "model": None}, "an Agent is needed"),
        (["a"], {"settings": {"temprature": 0}}, "did you mean 'temperature'"),
        (["a"], {"model": "test", "base_url": "http://x"}, "--base-url has no use"),
        (["a"], {"model": "openai:x", "base_url": "localhost"}, "a URL is needed"),
        (["a"], {"budget_usd": "2"}, "--budget-usd: what 'parrot' costs is unknown"),
        (["a", {"nope": 1}], {}, "in.jsonl:2: no field 'prompt'"),
        (["a", {"prompt": "x"}], {"target_field": "target"}, "in.jsonl:2: no field 'target'"),
        ([], {}, "there are no cases"),
        (None, {"input": "/nowhere/x.jsonl"}, "no such file"),
    ],
)
async def test_mistakes_are_found_before_anything_is_sent_or_written(
    batch, parrot, tmp_path, rows, options, part
):
    with pytest.raises(UserError) as caught:
        await batch(rows, **options)
    assert part in str(caught.value)
    assert parrot.prompts == []
    assert not (tmp_path / "out").exists()


async def test_without_a_key_the_variable_is_named(batch, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        await batch(["a"], model="openai:gpt-4o")


async def test_the_last_line_is_checked_before_the_first_is_sent(batch, parrot, tmp_path):
    write(tmp_path / "in.jsonl", [{"prompt": "a"}] * 3000)
    with (tmp_path / "in.jsonl").open("a") as file:
        file.write('{"prompt": "b"')
    with pytest.raises(InputError, match=r"in\.jsonl:3001: not JSON"):
        await batch(None)
    assert parrot.prompts == []
    result = await batch(None, limit=5)
    assert result.summary.succeeded == 5


async def test_a_directory_that_cannot_be_made(batch, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out .*file: is a file"):
        await batch(["a"], out=tmp_path / "file")
    with pytest.raises(UserError, match="cannot write there"):
        await batch(["a"], out=tmp_path / "file" / "x")


# ------------------------------------------------------------------ resuming


async def test_results_are_not_overwritten(batch, parrot):
    await batch(["a", "b"])
    with pytest.raises(UserError, match=r"holds results of this batch already; add --resume"):
        await batch(["a", "b"])
    assert len(parrot.prompts) == 2


async def test_resume_with_nothing_there_starts_and_with_everything_there_is_done(batch, parrot, tmp_path):
    first = await batch(["a", "b"], resume=True)
    again = await batch(["a", "b"], resume=True)
    assert sorted(parrot.prompts) == ["a", "b"]
    assert (first.resumed, again.resumed, again.exit_code) == (0, 2, 0)
    assert len(results(tmp_path / "out")) == 2
    assert again.summary.usage == first.summary.usage


async def test_lines_added_removed_moved_and_repeated_resume_right(batch, parrot, tmp_path):
    await batch(["a", "b", "c", "a"])
    parrot.prompts.clear()
    result = await batch(["new", "c", "a", "a", "a"], resume=True)
    assert sorted(parrot.prompts) == ["a", "new"]
    rows = sorted(results(tmp_path / "out"), key=lambda row: row["index"])
    assert [(row["index"], row["input"]) for row in rows] == list(enumerate(["new", "c", "a", "a", "a"]))
    assert (result.summary.runs, result.summary.succeeded, result.summary.remaining) == (5, 5, 0)
    assert any(
        "1 results are of cases that are no longer in the input, or beyond" in note for note in result.notes
    )


async def test_more_epochs_and_a_larger_limit_go_on(batch, parrot, tmp_path):
    await batch(["a", "b", "c"], limit=1)
    await batch(["a", "b", "c"], limit=2, epochs=2, resume=True)
    assert sorted(parrot.prompts) == ["a", "a", "b", "b"]
    assert sorted((row["index"], row["epoch"]) for row in results(tmp_path / "out")) == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"model": "test"}, "model was 'function:parrot', now is 'test'"),
        ({"instructions": "other"}, "instructions was not given, now is 'other'"),
        ({"settings": {"temperature": 1}}, "settings was not given"),
        ({"prompt": "{{ prompt }}!"}, "prompt was not given, now is '{{ prompt }}!'"),
        ({"target_field": "target"}, "target field was not given"),
    ],
)
async def test_a_directory_of_another_batch_says_what_differs(batch, change, part):
    await batch(["a", "b"])
    for resume in (False, True):
        with pytest.raises(UserError, match="holds the results of another batch") as caught:
            await batch(["a", "b"], resume=resume, **change)
        assert part in str(caught.value)


async def test_a_directory_of_another_input_is_noticed(batch, parrot, tmp_path):
    await batch(["a", "b", "c"])
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    for rows in (["x", "y"], ["a", "x"]):
        other = write(tmp_path / "other.jsonl", [{"prompt": row} for row in rows])
        with pytest.raises(UserError, match="holds the results of another batch"):
            await batch(None, input=other, resume=True)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    assert len(parrot.prompts) == 3
    moved = write(tmp_path / "moved.jsonl", [{"prompt": row} for row in "abc"])
    assert (await batch(None, input=moved, resume=True)).resumed == 3


async def test_a_changed_agent_is_noticed(batch, tmp_path):
    await batch(["a"], agent=Agent("test", name="it", instructions="one"), model=None)
    with pytest.raises(
        UserError, match="the agent's own instructions, tools, output or settings have changed"
    ):
        await batch(["a"], agent=Agent("test", name="it", instructions="two"), model=None, resume=True)


async def test_a_directory_without_its_manifest(batch, tmp_path):
    await batch(["a"])
    (tmp_path / "out" / "batch.json").unlink()
    with pytest.raises(UserError, match=r"no batch\.json says which"):
        await batch(["a"], resume=True)


@pytest.mark.parametrize("damage", ["torn", "lost", "doubled", "gone"])
async def test_results_are_mended_from_the_journal(batch, parrot, tmp_path, damage):
    await batch(["a", "b", "c"], target_field="target", scorers=["includes"])
    path = tmp_path / "out" / "results.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(
        {
            "torn": whole[:-30],
            "lost": b"".join(lines[:1]),
            "doubled": b"".join([lines[0], *lines]),
            "gone": b"",
        }[damage]
    )
    if damage == "gone":
        path.unlink()
    result = await batch(["a", "b", "c"], target_field="target", scorers=["includes"], resume=True)
    assert len(parrot.prompts) == 3
    assert sorted(path.read_bytes().splitlines()) == sorted(line.rstrip(b"\n") for line in lines)
    assert result.resumed == 3
    assert result.summary.usage["requests"] == 3


async def test_other_scorers_score_again_and_ask_nothing_again(batch, parrot, tmp_path):
    await batch(["a", "b"], target_field="target", scorers=["exact"])
    result = await batch(
        ["a", "b"], target_field="target", scorers=["includes"], extract="say (.*)", resume=True
    )
    assert len(parrot.prompts) == 2
    assert [row["scores"] for row in results(tmp_path / "out")] == [{"includes": 1.0}] * 2
    assert result.summary.scores["includes"].n == 2
    assert any("scored again" in note for note in result.notes)


async def test_failed_runs_stay_finished_unless_they_are_to_be_retried(batch, parrot, tmp_path):
    parrot.fails["b"] = ValueError("no")
    await batch(["a", "b"])
    parrot.prompts.clear()
    parrot.fails.clear()
    again = await batch(["a", "b"], resume=True)
    assert (parrot.prompts, again.exit_code, again.summary.failed) == ([], 1, 1)
    mended = await batch(["a", "b"], resume=True, retry_failed=True)
    assert (parrot.prompts, mended.exit_code, mended.summary.succeeded) == (["b"], 0, 2)
    assert sorted(row["input"] for row in results(tmp_path / "out")) == ["a", "b"]


# ------------------------------------------------------------------ stopping


async def test_a_stopped_batch_keeps_what_ended_and_goes_on(tmp_path, parrot, autojump_clock):
    write(tmp_path / "in.jsonl", [{"prompt": f"p{i}"} for i in range(10)])
    parrot.waits = {f"p{i}": 1 + i for i in range(10)}
    options = {
        "input": tmp_path / "in.jsonl",
        "model": parrot.model,
        "out": tmp_path / "out",
        "max_running": 10,
    }

    async def stop(state):
        await trio.sleep(4.5)
        state.stop()

    began = trio.current_time()
    result = await run_batch(**options, watch=[stop])
    assert trio.current_time() - began < 5
    assert (result.exit_code, result.summary.status) == (130, "interrupted")
    assert (result.summary.succeeded, result.summary.remaining, result.summary.cancelled) == (4, 6, 0)
    assert sorted(row["input"] for row in results(tmp_path / "out")) == ["p0", "p1", "p2", "p3"]
    parrot.prompts.clear()
    result = await run_batch(**options, resume=True)
    assert sorted(parrot.prompts) == [f"p{i}" for i in range(4, 10)]
    assert (result.exit_code, result.summary.status, result.summary.succeeded) == (0, "complete", 10)
    assert result.resumed == 4
    assert len(results(tmp_path / "out")) == 10


async def test_what_a_full_disk_cut_off_is_no_result_and_goes_on(batch, parrot, tmp_path):
    class Full(Parrot):
        async def answer(self, messages, info):
            current_host.get().supervisor.journal.connection.execute("PRAGMA max_page_count = 30")
            return await super().answer(messages, info)

    rows = [f"p{number}" for number in range(300)]
    with pytest.raises(JournalError, match="the disk is full; make room, then resume"):
        await batch(rows, model=Full().model, max_running=20)
    assert {row["status"] for row in results(tmp_path / "out")} == {"succeeded"}
    assert (await batch(rows, resume=True)).exit_code == 0
    assert [row["status"] for row in results(tmp_path / "out")] == ["succeeded"] * 300


async def test_a_full_disk_for_the_results_is_said_and_goes_on(batch, parrot, tmp_path, monkeypatch):
    def full(self, line):
        raise OSError(28, "No space left on device")

    rows = [f"p{number}" for number in range(20)]
    monkeypatch.setattr(ResultsFile, "write", full)
    with pytest.raises(UserError, match=r"out: cannot write the results: No space left .*--resume"):
        await batch(rows)
    monkeypatch.undo()
    asked = len(parrot.prompts)
    assert (await batch(rows, resume=True)).exit_code == 0
    assert [row["status"] for row in results(tmp_path / "out")] == ["succeeded"] * 20
    assert 20 <= len(parrot.prompts) < 20 + asked  # what had ended is not asked again


async def test_a_batch_stopped_while_it_reads_sends_and_writes_nothing(tmp_path, parrot, autojump_clock):
    write(tmp_path / "in.jsonl", [{"prompt": "x"}] * 5000)

    async def stop(state):
        state.stop()

    with pytest.raises(KeyboardInterrupt):
        await run_batch(input=tmp_path / "in.jsonl", model=parrot.model, out=tmp_path / "out", watch=[stop])
    assert parrot.prompts == []
    assert not (tmp_path / "out").exists()


async def test_a_cancelled_batch_can_be_gone_on_with(tmp_path, parrot, autojump_clock):
    write(tmp_path / "in.jsonl", [{"prompt": f"p{i}"} for i in range(10)])
    parrot.waits = {f"p{i}": 1 + i for i in range(10)}
    options = {"input": tmp_path / "in.jsonl", "model": parrot.model, "out": tmp_path / "out"}
    with trio.move_on_after(4.5) as scope:
        await run_batch(**options)
    assert scope.cancelled_caught
    parrot.prompts.clear()
    assert (await run_batch(**options, resume=True)).summary.succeeded == 10
    assert len(parrot.prompts) == 6


async def test_a_custom_scorer_that_waits_does_not_hold_up_a_stop(tmp_path, parrot, autojump_clock):
    write(tmp_path / "in.jsonl", [{"prompt": f"p{i}"} for i in range(40)])

    async def slow(output, target):
        await trio.sleep(1)
        return 1

    async def stop(state):
        await trio.sleep(1.5)
        state.stop()

    options = {
        "input": tmp_path / "in.jsonl",
        "model": parrot.model,
        "out": tmp_path / "out",
        "scorers": [slow],
    }
    began = trio.current_time()
    result = await run_batch(**options, watch=[stop])
    assert result.exit_code == 130
    assert trio.current_time() - began < 4
    again = await run_batch(**options, resume=True)
    assert again.summary.scores["slow"].n == 40
    assert len(parrot.prompts) == 40
