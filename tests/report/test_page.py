import json
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from runmgr.exceptions import UserError
from runmgr.report import ResultLine, tally_of, write_report
from runmgr.report.lines import encode_line
from runmgr.report.page import MOST_BYTES
from runmgr.report.sample import sample
from runmgr.report.transcript import as_text, entries

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(3)>",
    "\u2028]]>' \" & \\u003c {{ x }} \x1b[31m \x00 \ud800",
    '"}]};alert(4)//',
]


def line(index=0, **more):
    given = {
        "run_id": f"{index:016x}",
        "status": "succeeded",
        "input": "in",
        "output": "out",
        "scores": {"exact": 1.0},
        "usage": {"requests": 1, "input_tokens": 3, "output_tokens": 2},
        "cost": Decimal("0.01"),
        "model": "m",
        "started_at": 1.0,
        "finished_at": 2.0 + index % 7,
    }
    return ResultLine(index=index, **{**given, **more})


class Page(HTMLParser):
    """The page as a browser would take it apart."""

    def __init__(self, text):
        super().__init__()
        self.source = text
        self.tags = []
        self.blocks = {}
        self.policy = None
        self._open = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag in ("script", "style"):
            self._open = attrs.get("id") or tag
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data


def page_of(tmp_path, lines, **batch):
    with (tmp_path / "results.jsonl").open("wb") as file:
        for each in lines:
            file.write(encode_line(each))
    if batch:
        (tmp_path / "batch.json").write_text(json.dumps(batch))
    path = write_report(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < 2_000_000
    return Page(text)


@pytest.fixture
def hostile(tmp_path):
    lines = [
        line(
            i,
            input=bad,
            output={"x": bad},
            model=bad,
            scores={bad: 0.5},
            status="failed",
            error={"type": bad, "message": bad},
        )
        for i, bad in enumerate(text.encode(errors="replace").decode() for text in HOSTILE)
    ]
    facts = {
        "identity": {"model": HOSTILE[0], "settings": {HOSTILE[1]: HOSTILE[2]}},
        "input": HOSTILE[3],
        "scoring": {"extract": HOSTILE[5]},
    }
    return page_of(tmp_path, lines, **facts)


def test_hostile_text_stays_text(hostile):
    scripts = [attrs for tag, attrs in hostile.tags if tag == "script"]
    assert [attrs.get("type") for attrs in scripts] == ["application/json", None]
    assert not [
        tag for tag, _ in hostile.tags if tag in ("img", "iframe", "link", "object", "a", "form", "base")
    ]
    for _, attrs in hostile.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("style", "src", "href")]
    data = json.loads(hostile.blocks["data"])
    assert data["cases"][0]["input"] == HOSTILE[0]
    assert data["cases"][1]["error"]["message"] == HOSTILE[1]
    assert "<" not in hostile.blocks["data"]


def test_the_policy_allows_the_pages_own_code_by_hash_and_nothing_else(hostile):
    import base64
    import hashlib

    def digest(code):
        return "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"

    assert hostile.policy == (
        f"default-src 'none'; script-src {digest(hostile.blocks['script'])}; style-src {digest(hostile.blocks['style'])}; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "innerHTML" not in hostile.blocks["script"]
    assert not re.search(r"https?://|url\(|@import", hostile.blocks["script"] + hostile.blocks["style"])


def test_what_the_page_shows(tmp_path):
    lines = [
        line(0),
        line(1, output="x" * 50_000),
        line(2, cost=None, model="n"),
        line(3, status="failed", scores={}, error={"type": "E", "message": "m"}),
        line(4, status="cancelled", scores={}),
    ]
    page = page_of(tmp_path, lines, epochs=1)
    shown = (tmp_path / "report.html").read_text()
    for number, name in ((5, "runs"), (3, "succeeded"), (1, "failed"), (1, "cancelled")):
        assert re.search(rf">{number}</[^>]+>\s*<[^>]+>{name}<", shown), name
    data = json.loads(page.blocks["data"])
    assert [case["index"] for case in data["cases"]] == [0, 1, 2, 3, 4]
    assert data["cases"][1]["cut"] is True
    assert len(data["cases"][1]["output"]) < 21_000
    assert data["cases"][2]["cost"] is None
    assert data["scorers"] == ["exact"]
    assert data["show"] == f"runmgr show {tmp_path}"
    figures = [attrs["aria-label"] for tag, attrs in page.tags if tag == "svg"]
    assert figures == [
        "Mean scores",
        "Seconds a run, from start to end",
        "Seconds a run, by when it began",
        "Dollars a run",
    ]


def test_many_long_cases_are_sampled_and_cut_until_they_fit(tmp_path):
    failed = {"status": "failed", "scores": {}, "error": {"type": "E", "message": "m"}}
    lines = [
        line(i, input="i" * 3000, output="o" * 3000, **(failed if i == 4321 else {})) for i in range(5000)
    ]
    page = page_of(tmp_path, lines)
    data = json.loads(page.blocks["data"])
    assert 1500 < len(data["cases"]) <= 2000
    assert "E" in [case["error"]["type"] for case in data["cases"] if case["error"]]
    text = (tmp_path / "report.html").read_text()
    assert f"A sample of {len(data['cases']):,} of 5,000 results" in text
    assert len(text) < MOST_BYTES + 100_000


def test_a_sample_of_a_large_file_is_spread_over_it(tmp_path, monkeypatch):
    monkeypatch.setattr("runmgr.report.sample._SMALL_FILE", 1000)
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(encode_line(line(i)) for i in range(3000)))
    found, whole = sample(path, most=100)
    assert not whole
    assert 90 < len(found) <= 100
    gaps = [b.index - a.index for a, b in zip(found, found[1:], strict=False)]
    assert max(gaps) < 70
    assert found[0].index == 0


def test_no_results(tmp_path):
    with pytest.raises(UserError, match="no results.jsonl there"):
        write_report(tmp_path)


def test_of_a_batch_that_runs_or_was_killed_all_runs_are_told_and_an_older_summary_is_not(tmp_path):
    lines = [line(i, started_at=100.0 + i, finished_at=160.0 + i) for i in range(5)]
    page = page_of(tmp_path, lines, runs=70)
    for tile in ("<b>70</b><span>runs", "<b>65</b><span>remaining", "<b>1:04</b><span>wall time"):
        assert tile in page.source
    before = tally_of(tmp_path / "results.jsonl").summary(status="interrupted", runs=70, wall_seconds=3)
    (tmp_path / "summary.json").write_bytes(before.to_json())
    assert "<b>3.0 s</b><span>wall time" in page_of(tmp_path, lines, runs=70).source
    page = page_of(tmp_path, [*lines, line(5, started_at=105.0, finished_at=165.0)], runs=70)
    assert "<b>64</b><span>remaining" in page.source
    assert "<b>1:05</b><span>wall time" in page.source


def test_a_report_of_no_finished_run(tmp_path):
    assert json.loads(page_of(tmp_path, []).blocks["data"])["cases"] == []


def test_transcripts_read_in_order():
    from runmgr.messages import (
        BinaryContent,
        ImageUrl,
        ModelRequest,
        ModelResponse,
        RetryPromptPart,
        SystemPromptPart,
        TextPart,
        ThinkingPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )

    said = entries(
        [
            ModelRequest(
                parts=[
                    SystemPromptPart("s"),
                    UserPromptPart(
                        ["look", BinaryContent(b"abc", media_type="image/png"), ImageUrl("http://x/y.png")]
                    ),
                ],
                instructions="be brief",
            ),
            ModelResponse(
                parts=[ThinkingPart("hm"), ToolCallPart("add", {"a": 1}, tool_call_id="1")], model_name="m"
            ),
            ModelRequest(
                parts=[
                    ToolReturnPart("add", {"sum": 2}, tool_call_id="1"),
                    RetryPromptPart("wrong", tool_name="add", tool_call_id="2"),
                ],
                instructions="be brief",
            ),
            ModelResponse(parts=[TextPart("2")], model_name="m"),
        ]
    )
    assert [(entry.kind, entry.name) for entry in said] == [
        *[("instructions", ""), ("system", ""), ("user", ""), ("thinking", ""), ("call", "add")],
        *[("return", "add"), ("retry", "add"), ("text", "")],
    ]
    assert said[2].text == "look\n[image/png, 3 bytes]\n[http://x/y.png]"
    assert json.loads(said[4].text) == {"a": 1}
    assert json.loads(said[5].text) == {"sum": 2}
    assert said[7].note == "m, 0 tokens in, 0 out"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ("x", "x"),
        (b"ab", "[2 bytes]"),
        ([1, 2], "[\n  1,\n  2\n]"),
        (["a", "b"], "a\nb"),
        ({"ä": 1}, '{\n  "ä": 1\n}'),
        ({1, 2} and {1}, "{1}"),
    ],
)
def test_contents_as_text(content, text):
    assert as_text(content) == text
