"""The demo: the built-in simulated server on loopback, and a batch of example questions through it.

Two commands, as a user would type them; this script only starts them in turn and says what they are.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

QUESTIONS = Path(__file__).parent / "questions.jsonl"
RUNMGR = [sys.executable, "-m", "runmgr"]
SIM = ["--ttft", "lognormal(400ms,0.4)", "--itl", "20ms", "--wrong", "10%", "--fail", "5%"]


def main() -> int:
    """Run both; the exit code is the batch's."""
    questions = os.path.relpath(QUESTIONS)
    out = Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")
    serve = ["sim", "--port", "0", "--answers", questions, *SIM]
    print("$ runmgr", shlex.join(serve), "&", flush=True)
    with subprocess.Popen([*RUNMGR, *serve], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            if not line:
                return server.wait() or 1
            batch = ["batch", questions, "--model", "openai:demo", "--base-url", line.split()[-1]]
            batch += ["--prompt-field", "prompt", "--target-field", "target", "--scorer", "includes"]
            batch += ["--max-running", "32", "--out", str(out)]
            print("$ runmgr", shlex.join(batch), flush=True)
            environment = {**os.environ, "OPENAI_API_KEY": "any-word"}
            return subprocess.run([*RUNMGR, *batch], env=environment, check=False).returncode
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(main())
