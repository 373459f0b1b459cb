"""A batch as a log of Inspect AI's: its JSON format, version 2, as its documentation of ``EvalLog`` describes it."""

from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from runmgr.exceptions import JournalError
from runmgr.journal import JournalReader, open_journal
from runmgr.report.lines import ResultLine, read_lines
from runmgr.report.summary import Summary, Tally
from runmgr.report.transcript import as_text

__all__ = ("write_inspect_log",)

_STATUS = {
    "complete": "success",
    "interrupted": "cancelled",
    "budget_exhausted": "cancelled",
    "failed": "error",
}


def write_inspect_log(directory: Path, summary: Summary, target: Path) -> None:
    """Writes the log; a sample at a time in memory. Blocks.

    Args:
        directory: the batch's.
        summary: of the batch.
        target: the file to write.
    """
    results = directory / "results.jsonl"
    batch: dict[str, Any] = {}
    if (directory / "batch.json").exists():
        batch = json.loads((directory / "batch.json").read_bytes())
    identity: dict[str, Any] = batch.get("identity") or {}
    tally = Tally()
    for line in read_lines(results):
        tally.add(line)
    began, ended = _time(tally.first_started), _time(tally.last_finished)
    model = str(identity.get("model") or next(iter(summary.by_model), "unknown"))
    name = Path(str(batch.get("input") or "batch")).stem or "batch"
    epochs = int(batch.get("epochs") or 1)
    head: dict[str, Any] = {
        "version": 2,
        "status": _STATUS[summary.status],
        "eval": {
            "run_id": directory.name,
            "created": batch.get("created") or began,
            "task": name,
            "task_id": directory.name,
            "eval_id": directory.name,
            "task_version": 0,
            "dataset": {"name": name, "location": batch.get("input"), "samples": _cases(summary, epochs)},
            "model": model,
            "model_args": {},
            "config": {"epochs": epochs},
            "packages": {},
            "scorers": [{"name": scorer} for scorer in summary.scores],
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": summary.runs,
            "completed_samples": summary.succeeded,
            "scores": [
                {
                    "name": scorer,
                    "scorer": scorer,
                    "params": {},
                    "metrics": {
                        "mean": {"name": "mean", "value": score.mean, "params": {}},
                        "stderr": {"name": "stderr", "value": score.stderr or 0.0, "params": {}},
                    },
                }
                for scorer, score in summary.scores.items()
                if score.mean is not None
            ],
        },
        "stats": {
            "started_at": began,
            "completed_at": ended,
            "model_usage": {model_name: _usage(part.usage) for model_name, part in summary.by_model.items()},
        },
    }
    with ExitStack() as stack:
        reader: JournalReader | None = None
        if (directory / "journal.sqlite").exists():
            try:
                reader = stack.enter_context(open_journal(directory / "journal.sqlite"))
            except JournalError:
                reader = None
        file = stack.enter_context(target.open("w", encoding="utf-8", errors="replace"))
        _write(file, head, results, reader)


def _write(file: IO[str], head: dict[str, Any], results: Path, reader: JournalReader | None) -> None:
    file.write(json.dumps(head, indent=2)[:-2] + ',\n  "samples": [')
    for number, line in enumerate(read_lines(results)):
        file.write(",\n" if number else "\n")
        json.dump(_sample(line, reader), file, ensure_ascii=False)
    file.write("\n  ]\n}\n")


def _cases(summary: Summary, epochs: int) -> int:
    return summary.runs // max(1, epochs * max(1, len(summary.by_variant)))


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    tokens_in, tokens_out = usage.get("input_tokens", 0), usage.get("output_tokens", 0)
    return {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}


def _sample(line: ResultLine, reader: JournalReader | None) -> dict[str, Any]:
    said = as_text(line.input)
    output = "" if line.output is None else as_text(line.output)
    outcome = None if reader is None else reader.outcome(line.run_id)
    messages = [{"role": "user", "content": said}, {"role": "assistant", "content": output}]
    if outcome is not None and outcome.messages:
        messages = _messages(outcome.messages)
    sample: dict[str, Any] = {
        "id": line.index,
        "epoch": line.epoch,
        "uuid": line.run_id,
        "input": said,
        "target": "",
        "messages": messages,
        "output": {
            "model": line.model or "",
            "choices": [{"message": {"role": "assistant", "content": output}, "stop_reason": "stop"}],
            "usage": _usage(line.usage),
        },
        "scores": {name: {"value": value} for name, value in line.scores.items() if value is not None},
        "metadata": {"status": line.status, "attempts": line.attempts, "variant": line.variant or ""},
        "store": {},
        "events": [],
        "model_usage": {line.model or "": _usage(line.usage)},
        "attachments": {},
    }
    if line.started_at is not None and line.finished_at is not None:
        sample["total_time"] = line.finished_at - line.started_at
    if line.error is not None:
        message = f"{line.error.get('type')}: {line.error.get('message')}"
        sample["error"] = {"message": message, "traceback": message, "traceback_ansi": message}
    return sample


def _messages(messages: list[Any]) -> list[dict[str, Any]]:
    """Pydantic AI's messages as Inspect's."""
    found: list[dict[str, Any]] = []
    instructions: str | None = None
    for message in messages:
        if message.kind == "response":
            text: list[str] = []
            calls: list[dict[str, Any]] = []
            for part in message.parts:
                if part.part_kind == "text":
                    text.append(part.content)
                elif part.part_kind == "tool-call":
                    calls.append(
                        {
                            "id": part.tool_call_id,
                            "function": part.tool_name,
                            "arguments": part.args_as_dict(),
                            "type": "function",
                        }
                    )
            said: dict[str, Any] = {"role": "assistant", "content": "\n".join(text)}
            if calls:
                said["tool_calls"] = calls
            found.append(said)
            continue
        if message.instructions and message.instructions != instructions:
            instructions = message.instructions
            found.append({"role": "system", "content": message.instructions})
        for part in message.parts:
            if part.part_kind in {"tool-return", "retry-prompt"} and getattr(part, "tool_name", None):
                content = as_text(part.content) if part.part_kind == "tool-return" else part.model_response()
                found.append(
                    {
                        "role": "tool",
                        "content": content,
                        "tool_call_id": part.tool_call_id,
                        "function": part.tool_name,
                    }
                )
            else:
                role = "system" if part.part_kind == "system-prompt" else "user"
                found.append({"role": role, "content": as_text(part.content)})
    return found
