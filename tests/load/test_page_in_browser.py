"""The pages in a real browser: they load, the console stays silent, and they can be looked at. ``make test-load-page``."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trio

from runmgr.cli import main
from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.load.slo import parse_slo
from runmgr.load.sweep import parse_sweep
from runmgr.models.sim_config import Distribution, parse_sim
from runmgr.sim import QueueConfig, open_sim_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or not os.environ.get("RUNMGR_BROWSER"),
    reason="make test-load-page runs it: it needs Chromium (apt-get install chromium)",
)

WORDS = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]


def opened(page, profile):
    """The page's DOM; what the console said must be nothing. A picture too, where one is wanted."""
    words = [CHROMIUM, *WORDS, f"--user-data-dir={profile}"]
    done = subprocess.run(
        [*words, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "CONSOLE" not in done.stderr
    shots = os.environ.get("RUNMGR_SCREENSHOTS")
    if shots:
        Path(shots).mkdir(parents=True, exist_ok=True)
        shot = Path(shots).resolve() / f"load-{page.parent.name}.png"
        size = ["--window-size=1100,1500", "--hide-scrollbars", f"--screenshot={shot}"]
        subprocess.run([*words, *size, page.as_uri()], capture_output=True, timeout=60, check=True)
        assert shot.exists()
    return done.stdout


def test_a_browser_does_speak_of_errors(tmp_path):
    """Otherwise the silence of the others would say nothing."""
    page = tmp_path / "page" / "bad.html"
    page.parent.mkdir()
    page.write_text("<script>throw new Error('oh')</script>")
    with pytest.raises(AssertionError, match="CONSOLE"):
        opened(page, tmp_path / "profile")


async def test_the_report_of_a_load(tmp_path):
    queue = QueueConfig(max_batch=8, prefill_rate=20_000, step=0.008, step_each=0.0005)
    async with open_sim_server(parse_sim("tokens=uniform(10,30),fail=1%,faults=503"), queue=queue) as server:
        await run_load(
            LoadConfig(
                base_url=server.url,
                model="openai:m",
                rates=parse_rates("10..40"),
                duration=15.0,
                warmup=2.0,
                arrival="poisson",
                objectives=parse_slo("ttft=300ms,itl=50ms,errors=2%"),
                out=tmp_path / "report",
            )
        )
    dom = await trio.to_thread.run_sync(opened, tmp_path / "report" / "report.html", tmp_path / "profile")
    assert dom.count("<figure>") >= 6
    assert "Time to first token" in dom


async def test_the_report_of_a_sweep(tmp_path):
    queue = QueueConfig(max_batch=4, prefill_rate=10_000, step=0.005)
    async with open_sim_server(parse_sim("tokens=10"), queue=queue) as server:
        await run_load(
            LoadConfig(
                base_url=server.url,
                model="openai:m",
                sweep=parse_sweep("10..200"),
                duration=2.0,
                objectives=parse_slo("ttft.p90=100ms"),
                out=tmp_path / "sweep",
            )
        )
    dom = await trio.to_thread.run_sync(opened, tmp_path / "sweep" / "report.html", tmp_path / "profile")
    assert "highest rate that met" in dom


async def test_the_page_of_several(tmp_path):
    for name, rate in (("one", 20_000.0), ("two", 3_000.0)):
        async with open_sim_server(
            parse_sim("tokens=uniform(5,15)"), queue=QueueConfig(prefill_rate=rate, step=0.004)
        ) as server:
            config = LoadConfig(
                base_url=server.url,
                model="openai:m",
                rates=parse_rates("60"),
                duration=5.0,
                input_tokens=Distribution("uniform", 20, 80),
                out=tmp_path / name,
            )
            await run_load(config)
    page = tmp_path / "compare" / "both.html"
    page.parent.mkdir()
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--report", str(page)]) == 0
    dom = await trio.to_thread.run_sync(opened, page, tmp_path / "profile")
    assert "two against one" in dom
