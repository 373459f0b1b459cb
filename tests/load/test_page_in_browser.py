"""The page in a real browser: it loads, and the console stays silent. Skipped where there is no Chromium."""

import shutil
import subprocess

import pytest

from runmgr.load import LoadConfig, run_load
from runmgr.load.arrivals import parse_rates
from runmgr.models.sim_config import parse_sim
from runmgr.sim import open_sim_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
async def test_report_opens_without_a_word_on_the_console(tmp_path):
    async with open_sim_server(parse_sim("ttft=5ms,itl=1ms,tokens=5")) as server:
        await run_load(
            LoadConfig(
                base_url=server.url,
                model="openai:m",
                rates=parse_rates("50"),
                requests=30,
                out=tmp_path / "out",
            )
        )
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*words, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "out" / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<figure>") >= 6
    assert "Time to first token" in done.stdout
