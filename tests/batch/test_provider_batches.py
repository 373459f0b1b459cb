"""Batches by way of a provider's batch API, against a server that has both APIs."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from runmgr import Agent
from runmgr.batch import run_batch
from runmgr.batch.provider_batches import cancel_batches, look_at_batches, open_batches
from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.journal import open_journal

_spec = importlib.util.spec_from_file_location(
    "runmgr_tests_provider", Path(__file__).with_name("provider_server.py")
)
provider_server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(provider_server)

APIS = ("openai", "anthropic")
NAMES = {"openai": "openai:gpt-4o-mini", "anthropic": "anthropic:claude-3-5-haiku-latest"}


@pytest.fixture
def provider():
    with provider_server.serving() as found:
        yield found


def url(provider, api):
    return provider.url if api == "openai" else provider.root


def rows(n):
    return [{"prompt": f"p{i}", "target": f"p{i}"} for i in range(n)]


def results(out):
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    return sorted(lines, key=lambda line: (line["index"], line["epoch"]))


async def run(provider, api, tmp_path, n=5, **options):
    return await run_batch(
        **{
            "input": rows(n),
            "model": NAMES[api],
            "base_url": url(provider, api),
            "settings": {"max_tokens": 50},
            "target_field": "target",
            "scorers": ["includes"],
            "via_batch_api": True,
            "poll": 0.05,
            "out": tmp_path / "out",
            "report": False,
            **options,
        }
    )


def records(out):
    with open_journal(out / "journal.sqlite") as reader:
        return {key: value for key, value in reader.all_meta().items() if key.startswith("provider_batch/")}


@pytest.mark.parametrize("api", APIS)
async def test_all_runs_go_by_one_batch_at_half_the_price(provider, api, tmp_path):
    result = await run(provider, api, tmp_path)
    assert result.exit_code == 0
    assert result.summary.succeeded == 5
    assert result.summary.scores["includes"].mean == 1
    assert [line["output"] for line in results(tmp_path / "out")] == [f"I say p{i}" for i in range(5)]
    assert len(provider.batches) == 1
    assert provider.asked_directly == 0
    assert result.summary.usage["requests"] == 5
    assert result.summary.usage["input_tokens"] == 50

    from runmgr.supervisor.pricing import Prices
    from runmgr.usage import RequestUsage

    whole = Prices().price(*NAMES[api].split(":"), RequestUsage(input_tokens=50, output_tokens=25))
    assert result.summary.cost == whole / 2


@pytest.mark.parametrize("api", APIS)
async def test_the_journal_says_which_request_is_whose(provider, api, tmp_path):
    await run(provider, api, tmp_path, n=3)
    found = records(tmp_path / "out")
    record = found["provider_batch/1"]
    assert (record["id"], record["state"]) == (next(iter(provider.batches)), "ended")
    entries = found["provider_batch/1/entries"]
    assert {name for name, _ in entries} == {name for name, _ in provider.sent}
    assert {run_id for _, run_id in entries} == {line["run_id"] for line in results(tmp_path / "out")}


async def test_the_responses_api_has_batches_too(provider, tmp_path):
    result = await run(provider, "openai", tmp_path, model="openai-responses:gpt-4o-mini", n=3)
    assert [line["output"] for line in results(tmp_path / "out")] == [f"I say p{i}" for i in range(3)]
    assert result.summary.usage["output_tokens"] == 15
    (batch,) = provider.batches.values()
    assert batch["endpoint"] == "/v1/responses"
    assert records(tmp_path / "out")["provider_batch/1"]["model"] == "openai-responses:gpt-4o-mini"


async def test_large_batches_are_sent_in_parts(provider, tmp_path, monkeypatch):
    from runmgr.batch.provider_batches.api import Limits
    from runmgr.batch.provider_batches.openai import OpenAIBatches

    monkeypatch.setattr(OpenAIBatches, "limits", Limits(4, 200_000_000))
    result = await run(provider, "openai", tmp_path, n=10)
    assert result.summary.succeeded == 10
    assert sorted(len(batch["requests"]) for batch in provider.batches.values()) == [2, 4, 4]


async def test_so_are_those_with_many_bytes(provider, tmp_path, monkeypatch):
    from runmgr.batch.provider_batches.anthropic import AnthropicBatches
    from runmgr.batch.provider_batches.api import Limits

    monkeypatch.setattr(AnthropicBatches, "limits", Limits(100_000, 1_000))
    cases = [{"prompt": f"{i} " + "x" * 100} for i in range(8)] + [{"prompt": "y" * 2_000}]
    result = await run(provider, "anthropic", tmp_path, input=cases, target_field=None, scorers=[])
    assert (result.summary.succeeded, result.summary.failed) == (8, 1)
    assert all(len(json.dumps(batch["requests"])) < 1_100 for batch in provider.batches.values())
    assert "more than a batch may have" in result.first_failure


@pytest.mark.parametrize("api", APIS)
async def test_what_expired_or_failed_in_passing_is_sent_again(provider, api, tmp_path):
    provider.fate = {"p0": ["expired"], "p1": [500], "p2": [400]}
    result = await run(provider, api, tmp_path, n=4)
    assert [line["status"] for line in results(tmp_path / "out")] == ["succeeded"] * 2 + [
        "failed",
        "succeeded",
    ]
    assert "no: p2" in results(tmp_path / "out")[2]["error"]["message"]
    assert len(provider.batches) == 2
    assert sorted(prompt for _, prompt in provider.sent) == ["p0", "p0", "p1", "p1", "p2", "p3"]
    assert result.summary.usage["requests"] == 3  # an error is not charged for


@pytest.mark.parametrize("api", APIS)
async def test_but_not_for_ever(provider, api, tmp_path):
    provider.fate = {"p0": ["expired"] * 9}
    result = await run(provider, api, tmp_path, n=1, retries=2)
    assert result.summary.failed == 1
    assert len(provider.sent) == 3
    assert "after 3 tries" in result.first_failure


async def test_epochs_and_a_matrix_are_requests_of_their_own(provider, tmp_path):
    result = await run(provider, "openai", tmp_path, n=2, epochs=2, settings={"temperature": "0,0.7"})
    assert result.summary.succeeded == 8
    assert len(provider.batches) == 1
    assert len({name for name, _ in provider.sent}) == 8
    assert {label: part.succeeded for label, part in result.summary.by_variant.items()} == {
        "temperature=0.0": 4,
        "temperature=0.7": 4,
    }


async def test_each_turn_of_all_agents_is_a_batch(provider, tmp_path):
    agent = Agent(instructions="Use the tool.")

    @agent.tool_plain
    def double(x: int) -> int:
        return 2 * x

    def answer(prompt, body):
        last = body["messages"][-1]
        if last["role"] == "tool":
            return f"it is {last['content']}"
        function = {"name": "double", "arguments": json.dumps({"x": int(prompt[1:])})}
        return {
            "role": "assistant", "content": None,
            "tool_calls": [{"id": f"call_{prompt}", "type": "function", "function": function}],
        }  # fmt: skip

    provider.answer = answer
    result = await run(provider, "openai", tmp_path, agent=agent, scorers=[])
    assert [line["output"] for line in results(tmp_path / "out")] == [f"it is {2 * i}" for i in range(5)]
    assert len(provider.batches) == 2
    assert result.summary.usage["tool_calls"] == 5


async def test_structured_output_in_one_request(provider, tmp_path):
    from pydantic import BaseModel

    class Answer(BaseModel):
        text: str

    provider.answer = lambda prompt, body: {
        "role": "assistant", "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {
            "name": "final_result", "arguments": json.dumps({"text": prompt})}}],
    }  # fmt: skip
    result = await run(
        provider, "openai", tmp_path, n=2, agent=Agent(output_type=Answer), scorers=["includes"]
    )
    assert [line["output"] for line in results(tmp_path / "out")] == [{"text": "p0"}, {"text": "p1"}]
    assert len(provider.batches) == 1
    assert result.summary.scores["includes"].mean == 1


async def test_openais_queue_is_full_so_smaller_batches_go_one_after_another(provider, tmp_path):
    provider.refusals = [[{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]]
    result = await run(provider, "openai", tmp_path, n=4)
    assert result.summary.succeeded == 4
    assert [len(batch["requests"]) for batch in provider.batches.values()] == [4, 2, 2]


async def test_a_batch_that_is_refused_fails_its_runs_with_the_reason(provider, tmp_path):
    provider.refusals = [[{"code": "invalid_json_line", "message": "line 3 is odd", "line": 3}]]
    result = await run(provider, "openai", tmp_path, n=2)
    assert result.summary.failed == 2
    assert "line 3 is odd (line 3)" in result.first_failure
    result = await run(provider, "openai", tmp_path, n=2, resume=True, retry_failed=True)
    assert result.summary.succeeded == 2


@pytest.mark.parametrize("api", APIS)
async def test_a_submission_whose_answer_is_lost_is_found_and_not_sent_twice(provider, api, tmp_path):
    provider.broken = ["lost"]
    result = await run(provider, api, tmp_path, n=3)
    assert result.summary.succeeded == 3
    assert len(provider.batches) == 1


@pytest.mark.parametrize("api", APIS)
async def test_a_submission_that_is_turned_away_is_sent_again(provider, api, tmp_path):
    provider.broken = [503, 429]
    result = await run(provider, api, tmp_path, n=3)
    assert result.summary.succeeded == 3
    assert len(provider.batches) == 1


async def test_a_submission_that_is_forbidden_fails_the_runs(provider, tmp_path):
    provider.broken = [401]
    result = await run(provider, "anthropic", tmp_path, n=3)
    assert result.summary.failed == 3
    assert "401" in result.first_failure
    assert not provider.batches


async def test_results_that_break_off_are_read_again(provider, tmp_path):
    provider.cut = 2
    result = await run(provider, "anthropic", tmp_path, n=4)
    assert result.summary.succeeded == 4


# -------------------------------------------------------------------- stopping and going on


async def stopped(provider, api, tmp_path, **options):
    """A batch that is interrupted while the provider works on it."""
    provider.hold = True

    async def interrupt(state):
        while not provider.batches or not state.provider_batches or state.provider_batches()[0][0] == "-":
            await trio.sleep(0.02)
        state.stop()

    result = await run(provider, api, tmp_path, watch=[interrupt], **options)
    assert result.exit_code == 130
    provider.hold = False
    return result


@pytest.mark.parametrize("api", APIS)
async def test_after_ctrl_c_the_batch_goes_on_and_resume_collects_it(provider, api, tmp_path):
    result = await stopped(provider, api, tmp_path)
    (batch_id,) = provider.batches
    assert result.summary.remaining == 5
    (note,) = [note for note in result.notes if "go on at the provider" in note]
    assert batch_id in note
    assert "provider-batches" in note
    result = await run(provider, api, tmp_path, resume=True)
    assert result.summary.succeeded == 5
    assert len(provider.batches) == 1
    assert result.summary.usage["requests"] == 5


async def test_resume_without_the_option_would_pay_twice_and_is_refused(provider, tmp_path):
    await stopped(provider, "openai", tmp_path)
    with pytest.raises(UserError, match="1 of its batches may still be at the provider; add --via-batch-api"):
        await run(provider, "openai", tmp_path, resume=True, via_batch_api=False, poll=None)
    assert provider.asked_directly == 0


@pytest.mark.parametrize("api", APIS)
async def test_a_budget_counts_a_batch_once_over_a_resume(provider, api, tmp_path):
    # an answer is bounded by 50 tokens, a prompt by its bytes; room for five requests, not for ten
    await stopped(provider, api, tmp_path, budget_tokens=1_000)
    result = await run(provider, api, tmp_path, budget_tokens=1_000, resume=True)
    assert result.summary.succeeded == 5
    assert result.exit_code == 0


async def test_a_budget_in_dollars_reserves_half(provider, tmp_path):
    # at 0.15 and 0.6 dollars a million tokens the bound of the request is more than 0.00005, and less than twice that
    result = await run(provider, "openai", tmp_path, n=1, budget_usd="0.00005")
    assert result.summary.succeeded == 1
    result = await run(
        provider,
        "openai",
        tmp_path,
        n=1,
        budget_usd="0.00005",
        out=tmp_path / "b",
        via_batch_api=False,
        poll=None,
    )
    assert result.exit_code == 3


@pytest.mark.parametrize("api", APIS)
async def test_batches_are_seen_and_cancelled_from_outside(provider, api, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    await stopped(provider, api, tmp_path)
    journal = tmp_path / "out" / "journal.sqlite"
    provider.hold = True
    (seen,) = await look_at_batches(journal)
    assert (seen.seen.status, seen.seen.counts.total) == ("in_progress", 5)
    (seen,) = await cancel_batches(journal)
    assert seen.seen.status in {"cancelling", "canceling"}
    result = await run(provider, api, tmp_path, resume=True)
    assert result.summary.failed == 5
    assert (
        "was cancelled before it was answered; --resume --retry-failed sends it again" in result.first_failure
    )
    assert not open_batches(journal)
    provider.hold = False
    result = await run(provider, api, tmp_path, resume=True, retry_failed=True)
    assert result.summary.succeeded == 5


async def test_the_command_lists_and_cancels_them(provider, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    await stopped(provider, "openai", tmp_path)
    provider.hold = True
    for words, status in (([], "in_progress"), (["--cancel"], "cancelling"), ([], "cancelled")):
        code = await trio.to_thread.run_sync(main, ["provider-batches", str(tmp_path / "out"), *words])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        assert out.split("  ")[:4] == ["1", "batch_1", "openai:gpt-4o-mini", "5 requests"]
        assert status in out
    await run(provider, "openai", tmp_path, resume=True)
    await trio.to_thread.run_sync(main, ["provider-batches", str(tmp_path / "out")])
    assert capsys.readouterr().out.split("  ")[4:] == ["ended\n"]


def command(provider, api, tmp_path, *more):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(6)))
    return [
        sys.executable, "-m", "runmgr", "batch", "in.jsonl", "--model", NAMES[api], "--base-url", url(provider, api),
        "--set", "max_tokens=50", "--target-field", "target", "--scorer", "includes", "--via-batch-api", "--poll", "0.1", "--out", "out",
        *more,
    ]  # fmt: skip


def until(holds):
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("api", "moment"), [("openai", "submitted"), ("openai", "orphaned"), ("anthropic", "orphaned")]
)
def test_kill_9_submits_nothing_twice(provider, api, moment, tmp_path):
    """Once when the batch's id is in the journal, once when the provider has the batch and the journal only the intent."""
    provider.hold = True
    if moment == "orphaned":
        slow_answer(provider)
    env = {**os.environ, "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}
    process = subprocess.Popen(
        command(provider, api, tmp_path), cwd=tmp_path, env=env, stderr=subprocess.DEVNULL
    )
    until(lambda: provider.batches and (moment == "orphaned" or submitted(tmp_path / "out")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = records(tmp_path / "out")["provider_batch/1"]
    assert (before["state"], before["id"] is None) == (
        ("intended", True) if moment == "orphaned" else ("submitted", False)
    )
    provider.hold = False
    done = subprocess.run(
        command(provider, api, tmp_path, "--resume"),
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(provider.batches) == 1
    assert [line["output"] for line in results(tmp_path / "out")] == [f"I say p{i}" for i in range(6)]


def submitted(out):
    try:
        return records(out).get("provider_batch/1", {}).get("state") == "submitted"
    except Exception:  # the journal is only being made
        return False


def slow_answer(provider):
    """The provider takes batches and does not come to say so."""
    take = provider.take

    def taking(*args, **fields):
        batch = take(*args, **fields)
        provider.take = take
        provider.broken = []
        time.sleep(5)
        return batch

    provider.take = taking


# -------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "sim:", "base_url": None, "settings": {}}, "sim:sim has no batch API; models of openai:, openai-responses: and anthropic:"),
        ({"timeout": 5}, "--timeout does not go with --via-batch-api"),
        ({"rpm": 5}, "--rpm does not go with --via-batch-api"),
        ({"via_batch_api": False}, "--poll goes with --via-batch-api"),
    ],
)  # fmt: skip
async def test_what_does_not_go_by_batches_is_said_before_anything_is_sent(provider, tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        await run(provider, "openai", tmp_path, **options)
    assert not provider.log
