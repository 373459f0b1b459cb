"""``runmgr load``: options in, exit code out; the work is `runmgr.load`'s."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runmgr.cli.cluster import cluster_of, cluster_options
from runmgr.cli.collector import settle
from runmgr.cli.invocation import Invocation
from runmgr.exceptions import UserError

if TYPE_CHECKING:
    from runmgr.load import LoadConfig, LoadResult

__all__ = ("command",)

_DISTRIBUTION = "A number, or uniform(a,b), normal(mean,sd), exp(mean), lognormal(median,sigma)."


@click.command("load", epilog=f"Lengths: {_DISTRIBUTION}")
@click.option(
    "--base-url", metavar="URL", help="The server, with its /v1. The key is OPENAI_API_KEY's, if set."
)
@click.option("--model", "-m", metavar="M", help="openai:NAME, with the name the server knows.")
@click.option(
    "--rate", metavar="R", help="Open loop: requests a second; 10,20,40 for steps, 10..100 for a ramp."
)
@click.option("--concurrency", metavar="N", type=int, help="Closed loop: requests in flight.")
@click.option(
    "--trace",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Recorded arrivals: JSONL or CSV with timestamp (ms), input_length, output_length.",
)
@click.option(
    "--sweep",
    metavar="LOW..HIGH",
    help="Search between these rates for the highest that meets --slo; --duration is of each. [10]",
)
@click.option(
    "--arrival", metavar="KIND", default="constant", show_default=True, help="constant, poisson or gamma."
)
@click.option(
    "--burstiness",
    metavar="B",
    type=float,
    default=1.0,
    help="Shape of gamma arrivals: 1 is Poisson, less is burstier.",
)
@click.option("--time-scale", metavar="X", type=float, default=1.0, help="Multiplies a trace's times.")
@click.option("--length-scale", metavar="X", type=float, default=1.0, help="Multiplies a trace's lengths.")
@click.option("--duration", metavar="S", type=float, help="Seconds of sending, warm-up included. [30]")
@click.option("--requests", metavar="N", type=int, help="How many requests, instead.")
@click.option(
    "--prompts",
    metavar="FILE[=WEIGHT]",
    multiple=True,
    help="Prompts: JSONL with prompt, input, question, messages or turns, or .txt with one a line. Repeatable.",
)
@click.option(
    "--agent",
    metavar="MODULE:NAME[=WEIGHT]",
    multiple=True,
    help="Whole runs of an agent of yours, on --prompts; with --model, that model replaces its own. Repeatable.",
)
@click.option("--input-tokens", metavar="DIST", help="Length of synthetic prompts. [64]")
@click.option("--output-tokens", metavar="DIST", help="max_tokens of each request.")
@click.option("--turns", metavar="DIST", help="Conversations of synthetic prompts: their turns.")
@click.option("--think", metavar="DIST", help="Between an answer and the next turn, e.g. 2s or exp(5s).")
@click.option(
    "--tokenizer",
    metavar="FILE|MODULE:NAME",
    help="Counts tokens where the provider gives no usage: a tokenizer.json, or a function. [pieces are counted]",
)
@click.option(
    "--prefix-tokens",
    metavar="N",
    type=int,
    default=0,
    help="Words that all synthetic prompts begin with.",
)
@click.option(
    "--warmup", metavar="S", type=float, default=0.0, help="Seconds at the start that count for nothing."
)
@click.option(
    "--cooldown",
    metavar="S",
    type=float,
    default=0.0,
    help="Seconds at the end of sending that count for nothing.",
)
@click.option(
    "--slo", metavar="LIST", help="Service levels: ttft=200ms,itl=50ms,e2e.p95=2s,goodput=95%,errors=1%."
)
@click.option(
    "--defs",
    metavar="TOOL",
    default="runmgr",
    show_default=True,
    help="Whose definitions: runmgr, vllm, guidellm or aiperf.",
)
@click.option("--processes", metavar="N", type=int, default=1, help="Processes that share the schedule. [1]")
@cluster_options
@click.option(
    "--calibrate", is_flag=True, help="First measure this client against a server that does nothing."
)
@click.option(
    "--timeout", metavar="S", type=float, default=600.0, help="Seconds that one request may take. [600]"
)
@click.option("--max-failures", metavar="N|F%", help="Passing this is exit code 1. [all]")
@click.option("--record-chunks", is_flag=True, help="Write when each piece of content arrived.")
@click.option("--seed", metavar="N", type=int, default=0, help="Of arrivals, prompts and lengths.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A field of the request's body (temperature=0, ignore_eos=true). Repeatable.",
)
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), help="The results directory. [runs/load-<time>]"
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table; errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json to stdout.")
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Measure a model server under load: streamed chat completions at a rate, at a concurrency, or as a trace says.

    Latency is counted from when a request was due. Writes requests.jsonl, summary.json and report.html.

    \b
    runmgr load --base-url http://127.0.0.1:8000/v1 --model openai:llama --rate 20 --arrival poisson --duration 60 \\
        --input-tokens 500 --output-tokens 100 --slo ttft=200ms,itl=50ms
    """  # noqa: D301  \b is click's
    import trio

    config = _config(**options)
    if invocation.own_process:
        _make_room(config.concurrency or 0)
    agent, model = _agent(config)
    result = trio.run(_watched, config, quiet, agent, model)
    if as_json:
        sys.stdout.write((_read(result.out) if result.out else "") or "")
        sys.stdout.flush()
    _tell(result, quiet=quiet)
    return result.exit_code


def _config(
    *,
    rate: str | None,
    sweep: str | None,
    input_tokens: str | None,
    output_tokens: str | None,
    turns: str | None,
    think: str | None,
    prompts: tuple[str, ...],
    agent: tuple[str, ...],
    slo: str | None,
    assignments: tuple[str, ...],
    out: Path | None,
    max_failures: str | None,
    ray: str | None,
    workers: int | None,
    per_worker: int | None,
    **options: Any,
) -> LoadConfig:
    from runmgr.load import LoadConfig
    from runmgr.load.arrivals import parse_rates
    from runmgr.load.config import parse_weighted
    from runmgr.load.slo import parse_slo
    from runmgr.load.sweep import parse_sweep
    from runmgr.load.write import new_directory
    from runmgr.models.sim_config import parse_distribution

    if max_failures is not None:
        _check_failures(max_failures)
    return LoadConfig(
        rates=None if rate is None else parse_rates(rate),
        sweep=None if sweep is None else parse_sweep(sweep),
        input_tokens=None if input_tokens is None else parse_distribution(input_tokens, "--input-tokens"),
        output_tokens=None if output_tokens is None else parse_distribution(output_tokens, "--output-tokens"),
        turns=None if turns is None else parse_distribution(turns, "--turns"),
        think=None if think is None else parse_distribution(think, "--think"),
        prompts=[parse_weighted(one, "--prompts") for one in prompts],
        agent=[parse_weighted(one, "--agent") for one in agent],
        objectives=() if slo is None else parse_slo(slo),
        fields=_fields(assignments),
        out=out or new_directory(),
        max_failures=max_failures,
        cluster=cluster_of(ray, workers, per_worker),
        **options,
    )


def _agent(config: LoadConfig) -> tuple[Any, Any]:
    """The agents (one, or a list) and the model that are named, or None."""
    if not config.agent:
        return None, None
    from runmgr.batch.callables import as_agent
    from runmgr.batch.loading import load_object
    from runmgr.batch.model import model_of

    agents = [as_agent(load_object(one.name, "--agent"), one.name) for one in config.agent]
    found: Any = agents[0] if len(agents) == 1 else agents
    if config.model is not None:
        return found, model_of(config.model, config.base_url)
    if config.base_url is not None:
        raise UserError("--base-url goes with --model: it says where that model's provider is")
    for one, agent in zip(config.agent, agents, strict=True):
        if getattr(agent, "model", None) is None and hasattr(agent, "run"):
            raise UserError(f"--agent {one.name}: has no model; name one with --model")
    return found, None


def _check_failures(text: str) -> None:
    try:
        good = 0 <= float(text.removesuffix("%")) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise UserError(f"--max-failures {text}: a number or a share is needed, e.g. 10 or 5%")


def _fields(assignments: tuple[str, ...]) -> dict[str, Any]:
    import json

    fields: dict[str, Any] = {}
    for one in assignments:
        key, sign, value = one.partition("=")
        if not sign or not key:
            raise UserError(f"--set {one}: KEY=VALUE is needed")
        try:
            fields[key] = json.loads(value)
        except ValueError:
            fields[key] = value
    return fields


def _make_room(in_flight: int) -> None:
    """A process that only measures: as many connections as it may have, and fewer collections of garbage."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard == resource.RLIM_INFINITY or soft < hard:
            wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 1 << 20)
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    except (ImportError, ValueError, OSError):  # no such limit here, or not ours to raise
        pass
    settle(in_flight)


async def _watched(config: LoadConfig, quiet: bool, agent: Any, model: Any) -> LoadResult:
    from runmgr.cli.load_view import Interrupts, watch_live, watch_plainly
    from runmgr.load import run_load
    from runmgr.load.run import Watch

    with Interrupts() as interrupts:
        watchers: list[Watch] = [interrupts.watch]
        if not quiet:
            watchers.append(watch_live if sys.stderr.isatty() else watch_plainly)
        return await run_load(config, agent=agent, model=model, watch=watchers)


def _read(out: Path) -> str:
    return (out / "summary.json").read_text(encoding="utf-8")


def _tell(result: LoadResult, *, quiet: bool) -> None:
    if not quiet:
        from runmgr.cli.load_view import print_figures

        print_figures(result.summary, result.out)
    if result.exit_code == 130:
        print(f"runmgr: interrupted; what was measured is in {result.out}", file=sys.stderr)
    elif result.exit_code == 1:
        if result.summary["kind"] == "sweep":
            print("runmgr: not even the lowest rate met", file=sys.stderr)
            return
        missed = [name for name, one in result.summary["slo"].items() if not one["met"]]
        why = f"missed: {', '.join(missed)}" if missed else f"{result.summary['failed']} requests failed"
        print(f"runmgr: {why}", file=sys.stderr)
