"""``runmgr plan``: what a batch would take, before it is paid for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from runmgr.cli.batch import command as batch_command
from runmgr.cli.invocation import Invocation
from runmgr.exceptions import UserError
from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.batch.planning import Estimate, Forecast, Samples

__all__ = ("command",)

PILOT = 20
"""Cases that are asked where no figures are told."""
_NOT_HERE = frozenset(
    {
        "out",
        "journal",
        "resume",
        "retry_failed",
        "dry_run",
        "quiet",
        "as_json",
        "max_failures",
        "cache",
        "report",
        "poll",
        "ray",
        "workers",
        "per_worker",
    }
)


def _run(
    invocation: Invocation,
    *,
    input: tuple[str, ...],
    assignments: tuple[str, ...],
    pilot: int | None,
    input_tokens: int | None,
    output_tokens: int | None,
    latency: float | None,
    requests: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    import trio

    from runmgr.batch import BatchConfig
    from runmgr.batch.planning import Figures, forecast, run_pilot, samples_of
    from runmgr.batch.settings import parse_assignments
    from runmgr.cli.batch import amount

    del invocation
    if not input:
        raise click.UsageError("Missing argument 'INPUT'", click.get_current_context())
    if (input_tokens is None) != (output_tokens is None):
        raise UserError("--input-tokens and --output-tokens go together: what one request takes")
    told = input_tokens is not None and output_tokens is not None
    if told and pilot is not None:
        raise UserError("--pilot and --input-tokens are two ways to say what a run takes: give one of them")
    if not told and (latency is not None or requests is not None):
        raise UserError("--latency and --requests go with --input-tokens and --output-tokens")
    if options["max_running"] is None:
        del options["max_running"]
    if options["budget_usd"] is not None:
        options["budget_usd"] = amount(options["budget_usd"])
    given = input[0] if len(input) == 1 else input
    config = BatchConfig(input=given, settings=parse_assignments(assignments), **options)
    if input_tokens is not None and output_tokens is not None:
        figures = Figures(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            latency=latency or 5.0,
            requests=requests or 1,
        )
        samples: Samples = trio.run(samples_of, config, figures)
    else:
        samples = trio.run(run_pilot, config, pilot or PILOT)
        spent = f"{text.tokens({'input_tokens': samples.pilot_usage.input_tokens, 'output_tokens': samples.pilot_usage.output_tokens})}"
        print(
            f"runmgr: asked for {text.plural(samples.pilot, 'case')} as a pilot: {spent}, cost {text.dollars(samples.pilot_cost)}"
            + (f"; {samples.failed} failed" if samples.failed else "")
            + ("; asked directly, at the full price" if config.via_batch_api else ""),
            file=sys.stderr,
        )
    found = forecast(config, samples)
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    else:
        _show(found)
    return 0


def _show(found: Forecast) -> None:
    def row(name: str, estimate: Estimate | None, shown: Any) -> None:
        if estimate is None:
            click.echo(f"  {name:<14} unknown (a price is not known)")
            return
        low, high = shown(estimate.low), shown(estimate.high)
        between = "" if low == high else f"   ({low} to {high})"
        click.echo(f"  {name:<14} {shown(estimate.value)}{between}")

    def count(value: float) -> str:
        return text.count(round(value))

    click.echo(f"plan for {text.plural(found.runs, 'run')}")
    if round(found.ended.value) < found.runs:
        row("of these end", found.ended, count)
    if found.seconds is not None:
        row("wall time", found.seconds, text.duration)
    row("requests", found.requests, count)
    row("input tokens", found.input_tokens, count)
    row("output tokens", found.output_tokens, count)
    row("cost", found.cost, text.dollars)
    click.echo(f"  {'limited by':<14} {found.limited_by}")
    more = "" if found.simulated == found.runs else f" of {text.plural(found.simulated, 'run')}, extrapolated"
    base = f"a pilot of {text.plural(found.pilot, 'case')}" if found.pilot else "the figures given"
    click.echo(f"  from {base} and {text.plural(found.simulations, 'simulation')}{more}; 90 % intervals")


_HELP = f"""What a batch would take: wall time, requests, tokens and cost, with intervals.

INPUT and options are those of batch. A pilot of {PILOT} cases is asked (and paid for), or its figures are told with
--input-tokens and --output-tokens and nothing is sent; the batch is then simulated in virtual time, under its limits.
"""

command = click.Command(
    "plan",
    callback=click.pass_obj(_run),
    help=_HELP,
    params=[
        *(parameter for parameter in batch_command.params if parameter.name not in _NOT_HERE),
        click.Option(
            ["--pilot"], type=click.IntRange(min=1), metavar="N", help=f"Cases to ask first. [{PILOT}]"
        ),
        click.Option(
            ["--input-tokens"], type=click.IntRange(min=0), metavar="N", help="Of a request; no pilot then."
        ),
        click.Option(["--output-tokens"], type=click.IntRange(min=0), metavar="N", help="Of an answer."),
        click.Option(
            ["--latency"],
            type=click.FloatRange(min=0),
            metavar="S",
            help="Seconds of a request, with those. [5]",
        ),
        click.Option(
            ["--requests"], type=click.IntRange(min=1), metavar="N", help="Requests of a run, with those. [1]"
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print it as JSON."),
    ],
)
