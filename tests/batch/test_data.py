"""Which rows are cases, and what is made of them."""

import base64
import json
from pathlib import Path

import pytest

from runmgr.batch import BatchConfig, run_batch
from runmgr.batch.preview import preview
from runmgr.exceptions import InputError, UserError
from runmgr.messages import BinaryContent, ImageUrl, ModelResponse, TextPart
from runmgr.models.function import FunctionModel

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Listener:
    def __init__(self):
        self.heard = []

    @property
    def model(self):
        def answer(messages, info):
            self.heard.append(messages)
            return ModelResponse(parts=[TextPart("yes")])

        return FunctionModel(answer, model_name="listener")


@pytest.fixture
def listener():
    return Listener()


@pytest.fixture
def batch(listener, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    async def call(*rows, **options):
        if rows:
            (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = await run_batch(**{"input": "in.jsonl", "model": listener.model, "out": "out", **options})
        lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
        return result, sorted(map(json.loads, lines), key=lambda row: row["index"])

    return call


def numbered(n):
    return [{"prompt": f"q{i}", "level": i} for i in range(n)]


async def test_several_files_and_patterns(batch, tmp_path):
    (tmp_path / "b.csv").write_text("prompt\nb0\n")
    (tmp_path / "a1.jsonl").write_text('{"prompt": "a1"}\n')
    (tmp_path / "a2.jsonl").write_text('{"prompt": "a2"}\n')
    _, rows = await batch(input=["b.csv", "a?.jsonl"])
    assert [(row["index"], row["input"]) for row in rows] == [(0, "b0"), (1, "a1"), (2, "a2")]
    (tmp_path / "a2.jsonl").write_text('{"prompt": "a2"}\n{"prompt"')
    with pytest.raises(InputError, match=r"^a2\.jsonl:2: not JSON"):
        await batch(input="a*.jsonl", out="x")
    with pytest.raises(InputError, match="no file matches this pattern"):
        await batch(input="c*.jsonl", out="x")
    with pytest.raises(InputError, match="goes alone"):
        await batch(input=["b.csv", "-"], out="x")


async def test_rows_in_memory(batch):
    _, rows = await batch(input=numbered(3))
    assert [row["input"] for row in rows] == ["q0", "q1", "q2"]
    with pytest.raises(InputError, match="row 2: no field 'prompt'"):
        await batch(input=[{"prompt": "a"}, {}], out="x")
    with pytest.raises(InputError, match="more than once"):
        await batch(input=iter(numbered(3)), out="x")
    with pytest.raises(InputError, match="row 1: is int, a mapping"):
        await batch(input=[1], out="x")


async def test_where_offset_limit_and_sample(batch):
    _, rows = await batch(*numbered(20), where="level % 2 == 0 and prompt != 'q4'", offset=1, limit=4)
    assert [row["index"] for row in rows] == [2, 6, 8, 10]
    drawn = []
    for seed in (1, 1, 2):
        _, rows = await batch(sample=5, seed=seed, out=f"out{len(drawn)}", limit=15)
        drawn.append(
            {
                json.loads(line)["index"]
                for line in Path(f"out{len(drawn)}/results.jsonl").read_text().splitlines()
            }
        )
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(each) == 5 and max(each) < 15 for each in drawn)
    result, _ = await batch(sample=500, out="all")
    assert result.summary.runs == 20


async def test_a_sample_resumes_as_it_was(batch, listener):
    await batch(*numbered(30), sample=6, seed=3)
    result, rows = await batch(sample=12, seed=3, resume=True)
    assert result.summary.runs == len(rows) == 12
    assert len(listener.heard) <= 12 + 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"where": "level >"}, "is no expression"),
        ({"where": "lvl > 1"}, "in.jsonl:1: --where needs what the row lacks: 'lvl' is undefined"),
        ({"where": "level > 'x'"}, "in.jsonl:1: --where fails on this row: TypeError"),
        ({"where": "level > 99"}, "--where, --offset leave out every row"),
        ({"where": "''.__class__.__mro__[1].__subclasses__()"}, "--where"),
        ({"input": "-", "sample": 3}, "--sample needs a file"),
        ({"prompt": "x", "chat": []}, "--prompt and --chat are two ways to say the same"),
        ({"few_shot": "in.jsonl"}, "--few-shot needs --target-field"),
        ({"shots": 3}, "--shots goes with --few-shot"),
        ({"chat": [{"role": "bot", "content": "x"}]}, "role 'bot': one of system, user, assistant"),
        ({"chat": [{"role": "assistant", "content": "x"}]}, "the last message must be the user's"),
        ({"chat": "nowhere.json"}, "--chat nowhere.json: cannot be read"),
        (
            {"chat": [{"role": "user", "content": "{{ nope }}"}]},
            "in.jsonl:1: the template needs what the row lacks",
        ),
        ({"image_field": "prompt"}, "in.jsonl:1: 'prompt': no such image: q0"),
        ({"offset": -1}, "--offset -1: must be at least 0"),
        ({"reducers": ["best"]}, "--reducer best"),
    ],
)
async def test_mistakes(batch, tmp_path, options, says):
    with pytest.raises(UserError) as caught:
        await batch(*numbered(3), **options)
    assert says in str(caught.value)
    assert not (tmp_path / "out").exists()


async def test_chat_templates_and_rows_that_hold_messages(batch, listener):
    chat = [
        {"role": "system", "content": "Be {{ mood }}."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "{{ prompt }}?"},
    ]
    _, rows = await batch({"prompt": "why", "mood": "kind"}, chat=chat)
    first, said, last = listener.heard[0]
    assert [(p.part_kind, p.content) for p in first.parts] == [
        ("system-prompt", "Be kind."),
        ("user-prompt", "Hi"),
    ]
    assert said.parts[0].content == "Hello"
    assert last.parts[-1].content == "why?"
    assert rows[0]["input"][3] == {"role": "user", "content": "why?"}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    await batch({"m": messages}, prompt_field="m", out="rows")
    assert listener.heard[-1][-1].parts[-1].content == "c"
    assert len(listener.heard[-1]) == 3


async def test_images_by_path_and_url(batch, listener, tmp_path):
    (tmp_path / "dot.png").write_bytes(PIXEL)
    _, rows = await batch(
        {"prompt": "what?", "image": "dot.png"},
        {"prompt": "and?", "image": ["https://example.org/a.png", "dot.png"]},
        {"prompt": "none", "image": None},
        image_field="image",
    )
    by_prompt = {}
    for messages in listener.heard:
        content = messages[-1].parts[-1].content
        by_prompt[content if isinstance(content, str) else content[0]] = content
    assert isinstance(by_prompt["what?"][1], BinaryContent)
    assert (by_prompt["what?"][1].data, by_prompt["what?"][1].media_type) == (PIXEL, "image/png")
    assert by_prompt["and?"][1] == ImageUrl(url="https://example.org/a.png")
    assert by_prompt["none"] == "none"
    assert rows[0]["input"][0]["content"][1] == {"type": "image", "image": "dot.png"}
    result, _ = await batch(image_field="image", resume=True)
    assert (result.resumed, len(listener.heard)) == (3, 3)


async def test_a_tables_cell_names_no_image_or_several_as_json(batch, listener, tmp_path):
    (tmp_path / "dot.png").write_bytes(PIXEL)
    table = tmp_path / "in.csv"
    table.write_text('q,image\none,dot.png\nnone,\ntwo,"[""dot.png"", ""https://example.org/a.png""]"\n')
    await batch(input="in.csv", prompt_field="q", image_field="image")
    contents = [messages[-1].parts[-1].content for messages in listener.heard]
    asked = {content if isinstance(content, str) else content[0]: content for content in contents}
    assert asked["none"] == "none"
    assert len(asked["one"]) == 2
    assert asked["two"][2] == ImageUrl(url="https://example.org/a.png")
    table.write_text('q,image\none,"dot.png, dot.png"\n')
    with pytest.raises(UserError) as caught:
        await batch(input="in.csv", prompt_field="q", image_field="image", out="again")
    assert (
        """in.csv:2: 'image': no such image: dot.png, dot.png; several are a list, in a table's cell as JSON"""
        in str(caught.value)
    )


async def test_few_shot_examples_come_first(batch, listener, tmp_path):
    (tmp_path / "shots.jsonl").write_text(
        "".join(json.dumps({"prompt": f"s{i}", "target": i}) + "\n" for i in range(3))
    )
    await batch({"prompt": "q", "target": "t"}, few_shot="shots.jsonl", shots=2, target_field="target")
    said = [part.content for message in listener.heard[0] for part in message.parts]
    assert said == ["s0", "0", "s1", "1", "q"]
    with pytest.raises(UserError, match="another batch"):
        await batch(few_shot="shots.jsonl", shots=3, target_field="target", resume=True)


async def test_a_preview_sends_nothing(batch, listener, tmp_path):
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbered(9)))
    config = BatchConfig(
        input="in.jsonl", model=listener.model, prompt="Say {{ prompt }}", epochs=2, where="level > 2",
        settings={"temperature": "0,1"}, instructions="Be brief.",
    )  # fmt: skip
    found = await preview(config, most=2)
    assert (found.cases, found.runs, found.variants) == (6, 24, ["temperature=0.0", "temperature=1.0"])
    assert [case.messages for case in found.first] == [
        [{"role": "user", "content": "Say q3"}],
        [{"role": "user", "content": "Say q4"}],
    ]
    assert listener.heard == []
    assert not (tmp_path / "runs").exists()
