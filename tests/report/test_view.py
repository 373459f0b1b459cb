"""The live report: what it finds, who may look, and what a hostile model can do in it: nothing."""

import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from runmgr.cli import main
from runmgr.exceptions import UserError
from runmgr.report import ResultLine
from runmgr.report.lines import encode_line
from runmgr.report.live import LiveResults

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script> \u2028 \ud800 ' \" & {{x}}"


def line(index, **more):
    given = {
        "run_id": f"{index:016x}",
        "status": "succeeded",
        "input": f"question {index}",
        "output": HOSTILE if index == 3 else f"answer {index}",
        "scores": {"exact": float(index % 2)},
        "usage": {"requests": 1, "input_tokens": index, "output_tokens": 2},
        "model": "m",
        "started_at": 10.0,
        "finished_at": 11.0 + index,
    }
    return ResultLine(index=index, **{**given, **more})


def write(directory, lines, mode="wb"):
    directory.mkdir(exist_ok=True)
    with (directory / "results.jsonl").open(mode) as file:
        for each in lines:
            file.write(encode_line(each).replace(b"\xed\xa0\x80", b"?"))
    return directory


def safe(index, **more):
    return (
        line(index, **{"output": HOSTILE.replace("\ud800", ""), **more})
        if index == 3
        else line(index, **more)
    )


@pytest.fixture
def directory(tmp_path):
    failed = line(7, status="failed", output=None, scores={}, error={"type": "Boom", "message": "no luck"})
    return write(tmp_path / "out", [*(safe(i) for i in range(7)), failed])


def read(live):
    while live.update():
        pass


def rows(live, **query):
    return [row["index"] for row in live.cases(**query)["cases"]]


def test_what_the_batch_was_and_figures_with_names_that_are_hostile(tmp_path):
    hostile = HOSTILE.replace("\ud800", "")
    failed = {"output": None, "error": {"type": hostile, "message": "m"}, "scores": {}}
    lines = [
        line(0, model=hostile, cost=0.5),
        line(1, scores={hostile: 1.0}),
        line(2, status="failed", **failed),
        safe(3, variant=hostile),
        line(4, variant="b"),
    ]
    out = write(tmp_path / "out", lines)
    (out / "batch.json").write_text(json.dumps({"identity": {"model": hostile}, "labels": ["b", hostile]}))
    with LiveResults(out) as live:
        live.update()
        summary = live.summary()
    assert summary["facts"] == (("model", hostile),)
    figures = summary["figures"]
    for words in (
        "Mean scores",
        "Seconds a run, from start to end",
        "Dollars a run",
        "Combinations",
        "Failures",
    ):
        assert words in figures
    table = figures.partition("Combinations")[2]
    assert 0 < table.index(">b</td>") < table.index("&lt;img")
    tags = set(re.findall(r"<[/!]?([a-z0-9]*)", figures))
    assert tags <= set(
        [
            "div",
            "figure",
            "figcaption",
            "svg",
            "rect",
            "title",
            "line",
            "text",
            "circle",
            "h2",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        ]
    )
    assert "onerror" not in re.sub(r">[^<]*<|\"[^\"]*\"", "", figures)


def test_filter_sort_and_pages(directory):
    with LiveResults(directory) as live:
        live.update()
        assert rows(live) == list(range(8))
        assert rows(live, sort="seconds", down=True, limit=3) == [7, 6, 5]
        assert rows(live, sort="score exact", down=True, limit=3) == [1, 3, 5]
        assert rows(live, offset=6) == [6, 7]
        assert rows(live, status="failed") == [7]
        assert rows(live, scorer="exact", right=True) == [1, 3, 5]
        assert rows(live, scorer="exact", right=False, sort="tokens_in", down=True) == [6, 4, 2, 0]
        assert rows(live, find="ANSWER 4") == [4]
        assert rows(live, find="no luck") == [7]
        assert rows(live, sort="nonsense; DROP TABLE lines") == list(range(8))
        assert live.cases(status="failed")["count"] == 1
        assert live.cases(scorer="exact", right=True, limit=1)["count"] == 3
        assert live.cases(scorer="exact", right=False, limit=1)["count"] == 4
        assert live.cases(scorer="exact", right=False, status="failed")["count"] == 0
        assert live.cases(scorer="other", right=False)["count"] == 0
        summary = live.summary()
        assert (summary["runs"], summary["failed"], summary["scores"]["exact"]["n"]) == (8, 1, 7)
        assert live.run(f"{3:016x}")["transcript"][1]["text"].startswith("<img")
        assert live.run("nope") is None


def test_results_arrive_and_torn_lines_wait(directory):
    with LiveResults(directory) as live:
        read(live)
        version = live.version
        assert live.update() is False
        assert live.version == version
        data = encode_line(line(8))
        with (directory / "results.jsonl").open("ab") as file:
            file.write(data[:20])
        live.update()
        assert live.cases()["count"] == 8
        with (directory / "results.jsonl").open("ab") as file:
            file.write(data[20:])
        live.update()
        assert live.cases()["count"] == 9
        assert live.version > version


def test_a_running_batch_says_how_many_runs_there_are_to_be(directory):
    batch = {"identity": {"model": "m"}, "runs": 1000}
    (directory / "batch.json").write_text(json.dumps(batch))
    with LiveResults(directory) as live:
        read(live)
        summary = live.summary()
        assert (summary["status"], summary["runs"], summary["remaining"]) == ("running", 1000, 992)
        assert summary["total"] == 1000
        assert summary["wall_seconds"] == 8
        # who resumes it with more cases says so
        (directory / "batch.json").write_text(json.dumps({**batch, "runs": 2000}))
        assert live.summary()["remaining"] == 1992
        (directory / "batch.json").write_text(json.dumps({**batch, "runs": None}))
        summary = live.summary()
        assert (summary["total"], summary["runs"], summary["remaining"]) == (None, 8, 0)


def test_a_file_written_anew_is_read_anew(directory):
    with LiveResults(directory) as live:
        live.update()
        write(directory.parent / "other", [line(1)])
        (directory.parent / "other" / "results.jsonl").replace(directory / "results.jsonl")
        live.update()
        assert rows(live) == [1]
        assert live.summary()["succeeded"] == 1


def test_no_batch(tmp_path):
    with pytest.raises(UserError, match="no batch there"):
        LiveResults(tmp_path)


# ------------------------------------------------------------------ over HTTP


@contextmanager
def view(directory, *words):
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "runmgr", "view", str(directory), "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = process.stdout.readline()
        assert said.startswith("listening on http://"), process.stderr.read()
        yield said.split()[-1]
    finally:
        process.terminate()
        process.communicate()


def get(url, path="", **headers):
    with urllib.request.urlopen(urllib.request.Request(url + path, headers=headers), timeout=10) as answer:
        return answer.read().decode(), answer.headers


def status_of(url, **headers):
    try:
        return get(url, **headers)[1] and 200
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_on_loopback_with_a_strict_policy(directory):
    with view(directory) as url:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        page, headers = get(url)
        assert "<script src=" in page
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        body, headers = get(url, "api/cases?find=onerror")
        assert headers["content-type"] == "application/json"
        assert json.loads(body)["cases"][0]["output"].startswith("<img")
        assert json.loads(get(url, "api/summary")[0])["runs"] == 8
        assert status_of(url + "api/run/nope") == 404
        assert status_of(url + "api/cases?offset=x") == 400
        assert status_of(url, Host="evil.example:80") == 421  # a name that was pointed here


def test_elsewhere_a_token_is_asked_for(directory):
    with view(directory, "--host", "0.0.0.0") as url:
        address, token = url.split("/?token=")
        port = address.rpartition(":")[2]
        base = f"http://127.0.0.1:{port}/"
        assert status_of(base) == 401
        assert status_of(base + "api/summary") == 401
        assert status_of(base + "?token=wrong") == 401
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", f"/?token={token}")
        answer = connection.getresponse()
        cookie = answer.headers["set-cookie"]
        answer.read()
        connection.close()
        assert (answer.status, "HttpOnly" in cookie, "SameSite=strict" in cookie) == (303, True, True)
        assert status_of(base + "api/summary", Cookie=cookie.split(";")[0]) == 200


def test_a_port_that_is_taken(directory):
    with view(directory) as url:
        port = url.rstrip("/").rpartition(":")[2]
        words = [sys.executable, "-W", "ignore", "-m", "runmgr", "view", str(directory), "--port", port]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_without_the_extra(directory, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypercorn.trio", None)
    assert main(["view", str(directory), "--port", "0"]) == 2
    assert "view needs hypercorn: pip install 'runmgr[view]'" in capsys.readouterr().err


# ------------------------------------------------------------------ in a browser

_spec = importlib.util.spec_from_file_location(
    "runmgr_tests_chromium", Path(__file__).with_name("chromium.py")
)
browser = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(browser)
needs_chromium = pytest.mark.skipif(
    browser.PROGRAM is None or not os.environ.get("RUNMGR_BROWSER"),
    reason="in a browser: make test-browser"
    if browser.PROGRAM
    else "no Chromium here (apt-get install chromium)",
)

CELLS = "[...document.querySelectorAll('#cases tbody tr.case')].map(r => r.cells[0].textContent).join()"


@needs_chromium
def test_the_view_in_chromium(directory):
    shots = os.environ.get("RUNMGR_SCREENSHOTS")
    with view(directory) as url, browser.Chromium() as page:
        page.open(url)
        page.wait(f"{CELLS} === '0,1,2,3,4,5,6,7'")
        assert page.js("document.getElementById('tiles').innerText").startswith("8\nruns")
        assert page.js("document.querySelectorAll('#figures svg').length") == 2
        assert "Boom" in page.js("document.getElementById('figures').innerText")
        page.js(
            "[...document.querySelectorAll('#cases th button')].find(b => b.textContent.startsWith('seconds')).click()"
        )
        page.js(
            "[...document.querySelectorAll('#cases th button')].find(b => b.textContent.startsWith('seconds')).click()"
        )
        page.wait(f"{CELLS} === '7,6,5,4,3,2,1,0'")
        page.js(
            "const s = document.getElementById('status'); s.value = 'failed'; s.dispatchEvent(new Event('change'))"
        )
        page.wait(f"{CELLS} === '7'")
        page.js("s.value = ''; s.dispatchEvent(new Event('change'))")
        page.js(
            "const f = document.getElementById('find'); f.value = 'ONERROR'; f.dispatchEvent(new Event('input'))"
        )
        page.wait(f"{CELLS} === '3'")
        page.js("document.querySelector('#cases tr.case').click()")
        page.wait("document.querySelectorAll('.entry').length === 2")
        assert "<img src=x onerror=alert(1)>" in page.js(
            "document.querySelector('.entry.text pre').textContent"
        )
        assert page.js("document.querySelectorAll('img').length") == 0
        page.js("getSelection().selectAllChildren(document.querySelector('.entry.text pre'))")
        page.js("window.seen = []; window.kept = document.querySelector('.entry.text')")
        page.js("setInterval(() => seen.push(document.querySelectorAll('.entry').length), 1)")
        write(directory, [line(8, output="another")], "ab")
        page.wait("document.title.endsWith('9 of 9')")  # not among what is shown: who reads is left alone
        assert "onerror" in page.js("getSelection().toString()")
        write(directory, [line(9, output="onerror again")], "ab")
        page.wait(f"{CELLS} === '9,3'")
        assert page.js("document.querySelector('.entry.text') === kept")  # what was open stays open ...
        assert page.js("seen.every((n) => n === 2)")  # ... and was never empty in between
        assert page.js("document.getElementById('tiles').innerText").startswith("10\nruns")
        if shots:
            Path(shots).mkdir(parents=True, exist_ok=True)
            page.screenshot(Path(shots) / "view.png")
        assert page.console == []


@needs_chromium
def test_the_report_in_chromium(directory):
    assert main(["report", str(directory)]) == 0
    with browser.Chromium() as page:
        page.open((directory / "report.html").as_uri())
        page.wait(f"{CELLS} === '0,1,2,3,4,5,6,7'")
        page.js(
            "const s = document.getElementById('score'); s.value = s.options[1].value; s.dispatchEvent(new Event('change'))"
        )
        page.wait(f"{CELLS} === '1,3,5'")
        page.js("document.querySelectorAll('#cases tr.case')[1].click()")
        assert "onerror" in page.js("document.querySelector('.entry.text pre').textContent")
        assert page.js("document.querySelectorAll('img').length") == 0
        assert page.console == []
