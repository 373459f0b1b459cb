"""Several models, several settings, functions, graphs; epochs as one score."""

import json
import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from runmgr.batch import run_batch
from runmgr.exceptions import UserError
from runmgr.graph import BaseNode, End, Graph, GraphRunContext
from runmgr.messages import ModelResponse, TextPart
from runmgr.models.function import FunctionModel
from runmgr.report.live import LiveResults
from runmgr.report.reducers import parse_reducer, pass_at_k, reduce_scores


def results(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"q{i}", "target": "warm"}) + "\n" for i in range(5)))
    return path


class Models:
    def __init__(self):
        self.order = []

    def make(self, name):
        def answer(messages, info):
            settings = info.model_settings or {}
            self.order.append((messages[-1].parts[-1].content, name, settings.get("temperature")))
            return ModelResponse(
                parts=[TextPart("warm" if settings.get("temperature") else "cold")], model_name=name
            )

        return FunctionModel(answer, model_name=name)


async def test_every_combination_in_turn(rows, tmp_path):
    models = Models()
    result = await run_batch(
        input=rows,
        model=[models.make("a"), models.make("b")],
        settings={"temperature": "0,0.7"},
        target_field="target",
        scorers=["exact"],
        max_running=1,
        out=tmp_path / "out",
    )
    assert (result.exit_code, result.summary.runs, result.summary.succeeded) == (0, 20, 20)
    labels = ["function:a temperature=0.0", "function:a temperature=0.7"]
    labels += [label.replace(":a", ":b") for label in labels]
    assert list(result.summary.by_variant) == labels
    assert [v.scores["exact"].mean for v in result.summary.by_variant.values()] == [0, 1, 0, 1]
    assert {name: m.runs for name, m in result.summary.by_model.items()} == {"a": 10, "b": 10}
    assert sorted({row["variant"] for row in results(tmp_path / "out")}) == sorted(labels)
    for number in range(5):  # none is ahead of the others by more than a case
        assert {asked for asked, _, _ in models.order[4 * number : 4 * number + 4]} == {f"q{number}"}


async def test_combinations_are_shown_in_the_order_in_which_they_were_asked_for(rows, tmp_path):
    async def answer(messages, info):
        await trio.sleep(0.02 if info.model_settings["temperature"] == 0.5 else 0)
        return ModelResponse(parts=[TextPart("x")])

    result = await run_batch(
        input=rows, model=FunctionModel(answer), settings={"temperature": "0.5,0"}, out=tmp_path / "out"
    )
    assert results(tmp_path / "out")[0]["variant"] == "temperature=0.0"  # the other takes longer
    labels = ["temperature=0.5", "temperature=0.0"]
    assert list(result.summary.by_variant) == labels
    with LiveResults(tmp_path / "out") as live:
        live.update()
        assert list(live.summary()["by_variant"]) == labels


async def test_a_combination_is_the_same_runs_as_a_batch_of_it_alone(rows, tmp_path):
    for out, temperature in (("both", "0,1"), ("one", "1")):
        await run_batch(
            input=rows, model=Models().make("a"), settings={"temperature": temperature}, out=tmp_path / out
        )
    one = {row["run_id"] for row in results(tmp_path / "one")}
    assert one == {row["run_id"] for row in results(tmp_path / "both") if row["variant"] == "temperature=1.0"}
    assert all("variant" not in row for row in results(tmp_path / "one"))


async def test_a_matrix_resumes(rows, tmp_path):
    models = Models()
    options = {"input": rows, "model": [models.make("a"), models.make("b")], "out": tmp_path / "out"}
    await run_batch(**options, limit=2)
    result = await run_batch(**options, resume=True)
    assert (result.summary.succeeded, result.resumed, len(models.order)) == (10, 4, 10)
    with pytest.raises(UserError, match="another batch"):
        await run_batch(**{**options, "model": models.make("a")}, resume=True)


async def test_what_is_no_matrix(rows, tmp_path):
    models = Models()
    with pytest.raises(UserError, match="the same model is given twice"):
        await run_batch(input=rows, model=["sim:", "sim:"], out=tmp_path / "out")
    with pytest.raises(UserError, match="--set temperature=hot"):
        await run_batch(
            input=rows, model=models.make("a"), settings={"temperature": "0,hot"}, out=tmp_path / "out"
        )


# ------------------------------------------------------------------ functions and graphs


async def test_functions_of_the_prompt(rows, tmp_path):
    async def slow(prompt):
        return {"said": prompt}

    def quick(prompt):
        if prompt == "q3":
            raise ValueError("three")
        return prompt.upper()

    result = await run_batch(input=rows, agent=slow, out=tmp_path / "slow")
    assert (result.exit_code, result.summary.usage.get("requests", 0)) == (0, 0)
    assert {row["output"]["said"] for row in results(tmp_path / "slow")} == {f"q{i}" for i in range(5)}
    result = await run_batch(input=rows, agent=quick, out=tmp_path / "quick")
    assert (result.exit_code, result.summary.failed, result.first_failure) == (1, 1, "ValueError: three")
    result = await run_batch(input=rows, agent=slow, out=tmp_path / "slow", resume=True)
    assert result.resumed == 5
    with pytest.raises(UserError, match="takes no --model"):
        await run_batch(input=rows, agent=slow, model="sim:", out=tmp_path / "x")
    with pytest.raises(UserError, match="is it a function that makes an agent"):
        await run_batch(input=rows, agent=lambda: None, out=tmp_path / "x")


@dataclass
class Count:
    steps: int = 0


@dataclass
class Begin(BaseNode[Count, None, str]):
    prompt: str

    async def run(self, ctx: GraphRunContext[Count]) -> "Shout":
        ctx.state.steps += 1
        return Shout(self.prompt)


@dataclass
class Shout(BaseNode[Count, None, str]):
    text: str

    async def run(self, ctx: GraphRunContext[Count]) -> End[str]:
        ctx.state.steps += 1
        return End(f"{self.text.upper()} after {ctx.state.steps}")


async def test_a_graph_from_its_first_node(rows, tmp_path):
    result = await run_batch(input=rows, agent=Graph(nodes=[Begin, Shout]), out=tmp_path / "out")
    assert result.exit_code == 0
    assert {row["output"] for row in results(tmp_path / "out")} == {f"Q{i} after 2" for i in range(5)}


async def test_a_function_may_submit_to_the_batchs_supervisor(rows, tmp_path):
    from runmgr import Agent

    agent = Agent(Models().make("inner"))

    async def twice(prompt, supervisor):
        handles = [await supervisor.submit(agent, prompt) for _ in range(2)]
        return [(await handle.result()).output for handle in handles]

    result = await run_batch(input=rows, agent=twice, out=tmp_path / "out")
    assert (result.exit_code, result.summary.usage["requests"]) == (0, 10)


# ------------------------------------------------------------------ epochs as one score


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_share_of_draws_with_a_success(n, data):
    correct = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    exact = 1 - Fraction(math.comb(n - correct, k), math.comb(n, k))
    assert pass_at_k(n, correct, k) == pytest.approx(float(exact))
    assert pass_at_k(n, correct, n + 1) is None


def test_reducers():
    scores = [0.0, 1.0, 1.0, 0.0, 0.5]
    assert parse_reducer("mean")(scores) == 0.5
    assert parse_reducer("max")(scores) == 1
    assert parse_reducer("mode")(scores) == 0  # a tie is no success
    assert parse_reducer("mode")([1.0, *scores]) == 1
    assert parse_reducer("pass@1")(scores) == pytest.approx(0.4)
    with pytest.raises(UserError, match="there are mean, mode, max and pass@K"):
        parse_reducer("median")


async def test_epochs_are_reduced_in_the_summary(rows, tmp_path):
    calls = {}

    def every_third(prompt):
        calls[prompt] = calls.get(prompt, 0) + 1
        return "warm" if calls[prompt] == 3 else "cold"

    result = await run_batch(
        input=rows,
        agent=every_third,
        epochs=3,
        target_field="target",
        scorers=["exact"],
        reducers=["max", "mode", "pass@2"],
        out=tmp_path / "out",
    )
    found = result.summary.reduced["exact"]
    assert (found["max"].mean, found["max"].n, found["mode"].mean) == (1, 5, 0)
    assert found["pass@2"].mean == pytest.approx(2 / 3)
    more = reduce_scores(tmp_path / "out" / "results.jsonl", ["pass@4"])["exact"]["pass@4"]
    assert (more.mean, more.n) == (None, 0)  # fewer ended than it takes
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert saved["reduced"]["exact"]["max"] == {"mean": 1.0, "stderr": 0.0, "n": 5}
