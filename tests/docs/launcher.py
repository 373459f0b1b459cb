"""Runs programs one after the other or at once, each in a fork of this interpreter: no import is paid for twice.

A job is a line of JSON on stdin, its end a line of JSON on stdout. Every program has a process, a working directory, a
``__main__`` and an output file of its own; it ends as a program ends, with the interpreter taken down.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import sys
import time
import warnings

PRELOADED = [
    "click", "genai_prices.data_snapshot", "httptools", "jinja2", "msgspec", "pydantic", "rich.live", "rich.table", "trio",
    "runmgr.agent", "runmgr.batch", "runmgr.cli.app", "runmgr.cli.batch", "runmgr.graph.persistence.file",
    "runmgr.models.function", "runmgr.models.openai", "runmgr.models.sim", "runmgr.models.test", "runmgr.report",
    "runmgr.supervisor",
]  # fmt: skip


def main() -> None:
    """Take jobs until stdin ends. Returns in a program's process, which then goes on to be that program."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the attendants
    for line in sys.stdin:
        job = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            attend(job)


def attend(job) -> None:
    """Start the program, wait for its end, tell it."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        sys.exit(run(job))
    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.alarm(job["timeout"])
    _, status = os.waitpid(pid, 0)
    told = {
        "id": job["id"],
        "code": os.waitstatus_to_exitcode(status),
        "seconds": time.monotonic() - started,
    }
    os.write(1, json.dumps(told).encode() + b"\n")
    os._exit(0)


def run(job) -> int:
    """Be the program: ``["runmgr", ...]``, ``["python", "FILE.py", ...]`` or ``["pytest", ...]``."""
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    stdin = os.open(job.get("stdin") or os.devnull, os.O_RDONLY)
    for old, new in ((stdin, 0), (output, 1), (output, 2)):
        os.dup2(old, new)
    gc.enable()
    name, *words = job["words"]
    sys.argv = [name, *words]
    if name == "runmgr":
        return importlib.import_module("runmgr.cli").main(None)
    sys.path.insert(0, job["cwd"])
    if name == "pytest":
        warnings.resetwarnings()  # its plugins' own are not ours
        return int(importlib.import_module("pytest").main(words))
    sys.argv = words
    runpy.run_path(words[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    main()
