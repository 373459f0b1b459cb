"""``runmgr sim``: the simulated model behind an OpenAI-compatible server."""

from __future__ import annotations

import json
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from runmgr.exceptions import UserError

if TYPE_CHECKING:
    from runmgr.sim import QueueConfig, SimEntry

__all__ = ("command",)

_DISTRIBUTION = "A number with a unit, or uniform(a,b), normal(mean,sd), exp(mean), lognormal(median,sigma)."


@click.command("sim", epilog=f"Distributions: {_DISTRIBUTION}")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="The port; 0 takes a free one.")
@click.option("--ttft", metavar="DIST", help="Time to the first token, e.g. 200ms or lognormal(200ms,0.3).")
@click.option("--itl", metavar="DIST", help="Time between tokens, e.g. 10ms.")
@click.option("--tokens", metavar="DIST", help="Length of an answer, e.g. 40 or uniform(20,80).")
@click.option("--calls", metavar="N", help="Tool calls before an answer, where the request offers tools.")
@click.option("--fail", metavar="SHARE", help="Share of requests that meet a fault, e.g. 1%.")
@click.option("--faults", metavar="A+B", help="Which: 429, 500, 503, disconnect, truncate, garbage, hang.")
@click.option("--hang", metavar="S", help="Seconds that the fault hang stays silent.")
@click.option("--seed", metavar="N", help="Seed of every draw.")
@click.option(
    "--answers", metavar="FILE", help="JSONL of known questions: prompt and target, or question and answer."
)
@click.option("--wrong", metavar="SHARE", help="Share of known questions to answer wrongly.")
@click.option(
    "--script",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="JSONL of what is said turn by turn: prompt, and turns of calls or text.",
)
@click.option("--max-batch", metavar="N", type=int, help="A queue: requests computed at once. [256]")
@click.option("--prefill-rate", metavar="N", help="A queue: prompt tokens a second, e.g. 8k.")
@click.option("--prefill-chunk", metavar="N", type=int, help="A queue: prompt tokens a step. [2048]")
@click.option("--step", metavar="S", help="A queue: time of a decoding step, e.g. 10ms.")
@click.option("--step-each", metavar="S", help="A queue: what each request adds to it, e.g. 100us.")
@click.option(
    "--cache-tokens", metavar="N", type=int, default=0, help="A cache of prefixes, of this many tokens."
)
@click.option(
    "--block-tokens", metavar="N", type=int, default=16, show_default=True, help="Tokens a block of it."
)
@click.option("--max-in-flight", metavar="N", type=int, help="More than these at once get a 429.")
@click.option("--rpm", metavar="N", type=int, help="More requests a minute get a 429.")
@click.option("--tpm", metavar="N", type=int, help="More tokens a minute get a 429.")
@click.option(
    "--log", metavar="FILE", type=click.Path(path_type=Path), help="JSONL of what was answered, and when."
)
def command(
    *,
    host: str,
    port: int,
    answers: str | None,
    script: Path | None,
    max_batch: int | None,
    prefill_rate: str | None,
    prefill_chunk: int | None,
    step: str | None,
    step_each: str | None,
    log: Path | None,
    cache_tokens: int,
    block_tokens: int,
    max_in_flight: int | None,
    rpm: int | None,
    tpm: int | None,
    **simulated: str | None,
) -> int:
    """Serve a simulated model until Ctrl-C: OpenAI's chat completions and responses, Anthropic's messages; any model name.

    Prints its base URL on stdout once it listens. Times are drawn (--ttft, --itl), or made by a queue and a batch (--max-batch, ...).
    """
    import trio

    from runmgr.models.sim_config import parse_sim
    from runmgr.models.sim_script import read_scripts
    from runmgr.sim import SimOptions, serve

    # a comma joins faults on the command line of other tools; parse_sim joins them by +
    pairs = [
        f"{key}={value.replace(',', '+') if key == 'faults' else value}"
        for key, value in simulated.items()
        if value is not None
    ]
    config = parse_sim(",".join(pairs))
    queue = _queue(
        max_batch=max_batch,
        prefill_rate=prefill_rate,
        prefill_chunk=prefill_chunk,
        step=step,
        step_each=step_each,
    )
    known = None if answers is None else _answers(answers)
    scripts = () if script is None else read_scripts(script)
    try:
        lines = None if log is None else log.open("w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UserError(f"--log {log}: cannot be written: {error.strerror or error}") from None
    try:
        options = SimOptions(
            answers=known,
            scripts=scripts,
            queue=queue,
            cache_tokens=cache_tokens,
            block_tokens=block_tokens,
            max_in_flight=max_in_flight,
            rpm=rpm,
            tpm=tpm,
            log=None if lines is None else partial(_write, lines),
        )
        trio.run(partial(serve, config, options, host=host, port=port, listening=_say))
    except KeyboardInterrupt:
        return 0
    finally:
        if lines is not None:
            lines.close()
    return 0


def _queue(*, max_batch: int | None, prefill_chunk: int | None, **numbers: str | None) -> QueueConfig | None:
    """The queue, where any of its options is given."""
    from runmgr.models.sim_config import parse_number
    from runmgr.sim import QueueConfig

    given: dict[str, Any] = {
        name: parse_number(value, f"--{name.replace('_', '-')}")
        for name, value in numbers.items()
        if value is not None
    }
    if max_batch is not None:
        given["max_batch"] = max_batch
    if prefill_chunk is not None:
        given["prefill_chunk"] = prefill_chunk
    return QueueConfig(**given) if given else None


def _write(lines: TextIO, entry: SimEntry) -> None:
    tokens = entry.tokens
    line = {
        "number": entry.number,
        "route": entry.route,
        "status": entry.status,
        "fault": entry.fault,
        "ttft": round(tokens[0] - entry.arrived, 6) if tokens else None,
        "itl": [round(after - before, 6) for before, after in pairwise(tokens)],
        "e2e": round(entry.finished - entry.arrived, 6),
        "queued": round(entry.queued, 6),
        "input_tokens": entry.input_tokens,
        "cached_tokens": entry.cached_tokens,
        "output_tokens": entry.output_tokens,
    }
    lines.write(json.dumps(line) + "\n")


def _say(url: str) -> None:
    print(f"listening on {url}", flush=True)


def _answers(name: str) -> dict[str, str]:
    """Question to answer, of a JSONL file."""
    found: dict[str, str] = {}
    try:
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--answers {name}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            question = row["prompt"] if "prompt" in row else row["question"]
            found[question] = str(row["target"] if "target" in row else row["answer"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"--answers {name}:{number}: an object with prompt and target (or question and answer) is needed: {error}"
            ) from None
    return found
