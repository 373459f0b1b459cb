"""What is asked: conversations with pauses, mixtures by weight, a tokenizer where the provider counts nothing; over real sockets."""

import json
from collections import Counter

import pytest
import trio

from runmgr import Agent
from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.load.config import Weighted, parse_weighted
from runmgr.load.prompts import SyntheticPrompts, read_prompts
from runmgr.load.talk import Turns
from runmgr.load.tokenizer import load_tokenizer
from runmgr.models.sim import SimModel
from runmgr.models.sim_config import Distribution, parse_distribution, parse_sim
from runmgr.sim import QueueConfig, open_sim_server


def lines(out):
    return [json.loads(line) for line in (out / "requests.jsonl").read_text().splitlines()]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def spying(server):
    """The bodies that a server gets."""
    bodies, answer = [], server.answer

    async def seen(exchange):
        if exchange.body:
            bodies.append(json.loads(exchange.body))
        await answer(exchange)

    server.answer = seen
    return bodies


def config(server, **more):
    return LoadConfig(base_url=server.url, model="openai:any", **more)


async def test_a_conversation_goes_on_with_the_real_answers_after_a_pause(tmp_path):
    prompts = write(tmp_path / "p.jsonl", {"turns": ["one two", "three", "four"]}, {"prompt": "alone"})
    async with open_sim_server(parse_sim("ttft=5ms,tokens=3"), cache_tokens=1000, block_tokens=2) as server:
        bodies = spying(server)
        result = await run_load(
            config(
                server,
                prompts=prompts,
                rates=parse_rates("20"),
                requests=4,
                think=Distribution(a=0.1),
                out=tmp_path / "out",
            )
        )
    rows = lines(tmp_path / "out")
    assert Counter((row["index"], row.get("turn")) for row in rows) == Counter(
        {(index, turn): 1 for index in (0, 2) for turn in (1, 2, 3)} | {(1, None): 1, (3, None): 1}
    )
    of_first = sorted((row for row in rows if row["index"] == 0), key=lambda row: row["turn"])
    for before, after in zip(of_first, of_first[1:], strict=False):
        # due when a person has thought, not when the schedule's next arrival is
        assert after["scheduled_at"] == pytest.approx(before["finished_at"] + 0.1, abs=1e-5)
        assert after["sent_at"] >= after["scheduled_at"]
    answer = "the run keeps"
    longest = max(bodies, key=lambda body: len(body["messages"]))
    assert [(m["role"], m["content"]) for m in longest["messages"]] == [
        ("user", "one two"),
        ("assistant", answer),
        ("user", "three"),
        ("assistant", answer),
        ("user", "four"),
    ]
    assert [row["cached_tokens"] for row in of_first[1:]] == [4, 8]  # whole blocks of what was said before
    summary = result.summary
    assert summary["conversations"] == {"begun": 2, "turns": 4.0}  # 8 requests, two of them single
    assert summary["succeeded"] == 8
    assert 0 < summary["prefix_cache_share"] < 1


async def test_users_in_a_closed_loop_and_turns_of_random_words(tmp_path):
    async with open_sim_server(parse_sim("ttft=20ms,tokens=2")) as server:
        result = await run_load(
            config(
                server,
                concurrency=3,
                requests=6,
                turns=parse_distribution("uniform(2,4)", "x"),
                think=Distribution(a=0.05),
                input_tokens=Distribution(a=7.0),
                out=tmp_path / "out",
            )
        )
        assert server.stats()["max_in_flight"] <= 3
    rows = lines(tmp_path / "out")
    turns = Counter(row["index"] for row in rows)
    assert set(turns) == set(range(6))
    assert set(turns.values()) <= {2, 3, 4}
    assert len(set(turns.values())) > 1
    for row in rows:
        assert row["input_tokens"] == 7 * row["turn"] + 2 * (row["turn"] - 1)
    assert result.summary["concurrency"]["max"] == 3
    assert result.summary["concurrency"]["mean"] < 2  # who thinks is not in flight


async def test_a_conversation_ends_with_a_failure_and_with_the_duration(tmp_path):
    prompts = write(tmp_path / "p.jsonl", {"turns": ["a"] * 50})
    async with open_sim_server(parse_sim("fail=1,faults=500")) as server:
        result = await run_load(config(server, prompts=prompts, rates=parse_rates("10"), requests=3))
        assert (result.summary["requests"], result.summary["failed"]) == (3, 3)
    async with open_sim_server(parse_sim("ttft=1ms,tokens=1")) as server:
        result = await run_load(
            config(server, prompts=prompts, rates=parse_rates("10"), duration=0.5, think=Distribution(a=0.1))
        )
    assert (
        5 <= result.summary["succeeded"] <= 20
    )  # five conversations of at most five turns each: none after half a second


def test_a_conversation_is_a_function_of_its_place():
    def made(seed):
        return SyntheticPrompts(
            "m",
            input=parse_distribution("uniform(3,9)", "x"),
            output=parse_distribution("uniform(3,9)", "x"),
            turns=Distribution(a=3.0),
            think=parse_distribution("exp(5s)", "x"),
            fields={},
            seed=seed,
        )

    def play(prompts, index):
        talk = prompts.prepared(index)
        said = [talk.body]
        while (think := talk.answered("so")) is not None:
            said += [think, talk.body]
        return said

    assert play(made(1), 7) == play(made(1), 7)
    assert play(made(1), 7) != play(made(1), 8)
    assert play(made(1), 7) != play(made(2), 7)
    assert len(play(made(1), 7)) == 5


async def test_prompts_are_mixed_by_weight_and_told_apart(tmp_path):
    short = write(tmp_path / "short.jsonl", {"prompt": "a"})
    long = write(tmp_path / "long.jsonl", {"prompt": "b " * 100})
    async with open_sim_server(
        parse_sim("tokens=2"), queue=QueueConfig(max_batch=64, prefill_rate=20_000)
    ) as server:
        result = await run_load(
            config(
                server,
                prompts=[Weighted(str(short), 3), Weighted(str(long), 1)],
                concurrency=4,
                requests=400,
                out=tmp_path / "out",
            )
        )
    rows = lines(tmp_path / "out")
    found = Counter(row["source"] for row in rows)
    assert found[str(long)] == pytest.approx(100, abs=40)
    assert all(row["input_tokens"] == (100 if row["source"] == str(long) else 1) for row in rows)
    sources = result.summary["sources"]
    assert {name: one["requests"] for name, one in sources.items()} == found
    assert sources[str(long)]["ttft_ms"]["p50"] > 4
    assert sources[str(short)]["ttft_ms"]["n"] == found[str(short)]


async def test_agents_are_mixed_each_on_its_prompts(tmp_path, autojump_clock):
    quick = write(tmp_path / "quick.jsonl", {"prompt": "q"})
    slow = write(tmp_path / "slow.jsonl", {"prompt": "s s s"})
    result = await run_load(
        LoadConfig(
            agent=[Weighted("m:quick", 1), Weighted("m:slow", 1)],
            prompts=[Weighted(str(quick)), Weighted(str(slow))],
            rates=parse_rates("10"),
            requests=40,
            out=tmp_path / "out",
        ),
        agent=[Agent(SimModel("ttft=10ms")), Agent(SimModel("ttft=2s"))],
    )
    sources = result.summary["sources"]
    assert set(sources) == {"m:quick", "m:slow"}
    assert sources["m:quick"]["e2e_ms"]["max"] == pytest.approx(10, abs=1)
    assert sources["m:slow"]["e2e_ms"]["min"] == pytest.approx(2000, abs=1)
    assert all(
        row["input_tokens"] == (1 if row["source"] == "m:quick" else 3) for row in lines(tmp_path / "out")
    )
    assert result.summary["load"]["agent"] == "m:quick=1, m:slow=1"


async def test_a_tokenizer_counts_where_the_provider_does_not(tmp_path, monkeypatch):
    (tmp_path / "counting_letters.py").write_text(
        "def letters(text):\n    return [c for c in text if c.isalpha()]\n"
    )
    monkeypatch.chdir(tmp_path)
    prompts = write(tmp_path / "p.jsonl", {"prompt": "five letters"})
    async with open_sim_server(parse_sim("tokens=2")) as server:

        async def ended(**more):
            fields = {"stream_options": {"include_usage": False}}
            load = config(server, prompts=prompts, concurrency=1, requests=3, fields=fields, **more)
            return (await run_load(load)).summary

        counted = await ended(tokenizer="counting_letters:letters")
        assert counted["tokens_from"] == {"tokenizer": 3}
        assert (counted["input_tokens"], counted["output_tokens"]) == (3 * 11, 3 * len("therun"))
        pieces = await ended()
        assert pieces["tokens_from"] == {"chunks": 3}
        assert pieces["output_tokens"] == 6
        assert any("gave no usage" in note for note in pieces["notes"])


def test_a_tokenizer_file(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "one": 1}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(str(tmp_path))("one two three") == 3


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nothing.json", "no such file"),
        ("nothing", "no such file"),
        ("no_such_module_here:x", "No module named"),
        ("json:nothing", "has no attribute"),
        ("json:loads", "fails on a text"),
    ],
)
def test_tokenizers_that_are_none(spec, says):
    with pytest.raises(UserError, match=says):
        load_tokenizer(spec)


def test_weights(tmp_path):
    assert parse_weighted("a.jsonl", "x") == Weighted("a.jsonl", 1.0)
    assert parse_weighted("a.jsonl=2.5", "x") == Weighted("a.jsonl", 2.5)
    odd = tmp_path / "a=b"
    odd.write_text("")
    assert parse_weighted(str(odd), "x") == Weighted(str(odd), 1.0)
    for bad in ("a=", "a=x", "a=0", "a=-1", "=2"):
        with pytest.raises(UserError, match="NAME=WEIGHT"):
            parse_weighted(bad, "--prompts")


def test_turns_of_a_file(tmp_path):
    (prompt,) = read_prompts(write(tmp_path / "p.jsonl", {"turns": ["a", "b"]}))
    assert isinstance(prompt, Turns)
    assert list(prompt) == ["a", "b"]
    with pytest.raises(UserError, match="turns are the user's messages"):
        read_prompts(write(tmp_path / "q.jsonl", {"turns": ["a", 2]}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"turns": Distribution(a=2.0), "prompts": "x"}, "--turns makes conversations of random words"),
        ({"think": Distribution(a=2.0)}, "--think is the time between turns"),
        ({"prompts": [Weighted("a"), Weighted("a")]}, "the same name twice"),
        ({"agent": "a:b", "prompts": "x", "tokenizer": "y"}, "--tokenizer counts"),
        ({"agent": "a:b", "prompts": [Weighted("x"), Weighted("y")]}, "one for each"),
    ],
)
def test_work_that_cannot_be(change, says):
    with pytest.raises(UserError, match=says):
        LoadConfig(base_url="http://x/v1", model="openai:m", concurrency=1, **change)


def test_the_command(tmp_path, capsys):
    """Conversations in two processes, mixed, by the command line."""
    prompts = write(tmp_path / "p.jsonl", {"turns": ["one", "two"]})
    other = write(tmp_path / "q.jsonl", {"prompt": "alone"})

    async def go():
        async with open_sim_server(parse_sim("tokens=2")) as server:
            words = ["load", "--base-url", server.url, "--model", "openai:m", "--prompts", f"{prompts}=2"]
            words += ["--prompts", str(other), "--think", "10ms", "--rate", "50", "--requests", "40", "-q"]
            words += ["--processes", "2", "--out", str(tmp_path / "out")]
            return await trio.to_thread.run_sync(main, words)

    assert trio.run(go) == 0, capsys.readouterr().err
    rows = lines(tmp_path / "out")
    assert {row["index"] for row in rows} == set(range(40))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["conversations"]["begun"] == summary["sources"][str(prompts)]["requests"] / 2
