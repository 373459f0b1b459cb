"""``runmgr batch``: options in, exit code out; the work is `runmgr.batch`'s."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from runmgr.cli.cluster import cluster_of, cluster_options
from runmgr.cli.collector import settle
from runmgr.cli.config_file import read_config
from runmgr.cli.invocation import Invocation
from runmgr.exceptions import UserError
from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.batch import BatchConfig, BatchResult
    from runmgr.batch.run import Watch

__all__ = ("amount", "command")


@click.command("batch")
@click.argument("input", metavar="INPUT...", nargs=-1)
@click.option(
    "--config",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=read_config,
    help="A TOML file of these options; what the command line says goes before.",
)
@click.option(
    "--model",
    "-m",
    metavar="M",
    multiple=True,
    help="Model string: openai:NAME, anthropic:NAME, google:NAME, sim:, test, ... Repeatable: a matrix.",
)
@click.option(
    "--agent",
    metavar="MODULE:NAME",
    help="An agent of yours (with --model too, that model replaces its own), a function of the prompt, or a graph.",
)
@click.option(
    "--base-url", metavar="URL", help="Where the model's provider is, instead of its usual address."
)
@click.option("--prompt-field", metavar="F", help="The field that is the prompt. [prompt, input or question]")
@click.option(
    "--prompt", metavar="TEMPLATE", help="A Jinja template of the prompt over a row's fields, instead."
)
@click.option("--chat", metavar="FILE", help="A JSON file of messages with templates as contents, instead.")
@click.option(
    "--image-field", metavar="F", help="The field that names an image (or several), by path or URL."
)
@click.option("--few-shot", metavar="FILE", help="Rows with targets, shown before each case as examples.")
@click.option("--shots", metavar="N", type=int, help="Only the first N of them.")
@click.option(
    "--where",
    metavar="EXPR",
    help="Only rows for which this holds, e.g. 'topic == \"history\" and level > 2'.",
)
@click.option("--offset", metavar="N", type=int, default=0, help="Leave out the first N cases.")
@click.option("--sample", metavar="N", type=int, help="Only N cases, drawn at random by --seed.")
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Seed of the sample.")
@click.option(
    "--instructions", metavar="TEXT", help="Instructions for the model (with --agent: besides its own)."
)
@click.option("--target-field", metavar="F", help="The field that is the expected answer.")
@click.option(
    "--extract", metavar="REGEX", help="Takes the answer out of the output: last match, first group."
)
@click.option("--target-extract", metavar="REGEX", help="Takes the answer out of the target.")
@click.option(
    "--scorer",
    "scorers",
    metavar="NAME",
    multiple=True,
    help="exact, includes, numeric, regex, json, f1, edit, bleu, chrf, rouge, judge, pairwise, or module:name; with options "
    "after commas: numeric,rel=1%. Repeatable.",
)
@click.option("--out", metavar="DIR", type=click.Path(), help="The results directory. [runs/<time>]")
@click.option("--journal", metavar="FILE", type=click.Path(), help="The journal's file. [DIR/journal.sqlite]")
@click.option("--max-running", metavar="N", type=int, help="Runs at once. [100; with --via-batch-api 20,000]")
@click.option("--rpm", metavar="N", type=float, help="Requests a minute.")
@click.option("--tpm", metavar="N", type=float, help="Tokens a minute.")
@click.option("--budget-usd", metavar="X", help="Dollars that all runs together may cost, over all resumes.")
@click.option(
    "--budget-tokens", metavar="N", type=int, help="Tokens that all runs together may use, over all resumes."
)
@click.option(
    "--cache",
    metavar="FILE",
    type=click.Path(),
    help="Answer from this SQLite file what was answered before; never between epochs.",
)
@click.option("--timeout", metavar="S", type=float, help="Seconds that one run may take.")
@click.option(
    "--retries", metavar="N", type=int, default=8, show_default=True, help="Resends of one request."
)
@click.option(
    "--epochs", metavar="N", type=int, default=1, show_default=True, help="How often each case is run."
)
@click.option(
    "--reducer",
    "reducers",
    metavar="NAME",
    multiple=True,
    help="Epochs of a case as one score: mean, mode, max, pass@K. Repeatable.",
)
@click.option("--limit", metavar="N", type=int, help="Only the first N cases.")
@click.option(
    "--max-failures", metavar="N|F%", help="Passing this stops the batch; staying under it is success."
)
@click.option("--resume", is_flag=True, help="Go on from what DIR holds; where it holds nothing, start.")
@click.option("--retry-failed", is_flag=True, help="With --resume: run failed and cancelled runs again.")
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A model setting (max_tokens=400); temperature=0,0.7 is a matrix. Repeatable.",
)
@click.option(
    "--via-batch-api",
    is_flag=True,
    help="Ask by way of the provider's batch API (OpenAI, Anthropic): half the price, within 24 hours.",
)
@click.option(
    "--poll",
    metavar="S",
    type=float,
    help="With --via-batch-api: seconds between two looks at a batch, at most. [60]",
)
@cluster_options
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check everything, show the first prompts and the count, and send nothing.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress and no table; errors only.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json to stdout.")
@click.pass_obj
def command(
    invocation: Invocation,
    *,
    input: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    dry_run: bool,
    assignments: tuple[str, ...],
    ray: str | None,
    workers: int | None,
    per_worker: int | None,
    **options: Any,
) -> int:
    """Run a model or an agent over a file of cases, and score the answers.

    INPUT is JSONL, CSV, TSV, JSON, Parquet or text by its ending (also gzipped), several files or patterns, - for JSONL on standard input.

    \b
    runmgr batch questions.jsonl --model openai:gpt-4.1-mini --prompt-field question \\
        --target-field answer --scorer numeric --max-running 50
    """  # noqa: D301  \b is click's
    import trio

    from runmgr.batch import BatchConfig, new_directory
    from runmgr.batch.settings import parse_assignments

    if options["max_running"] is None:
        del options["max_running"]
    if options["budget_usd"] is not None:
        options["budget_usd"] = amount(options["budget_usd"])
    if not input:
        raise click.UsageError("Missing argument 'INPUT'", click.get_current_context())
    given = input[0] if len(input) == 1 else input
    cluster = cluster_of(ray, workers, per_worker)
    config = BatchConfig(input=given, settings=parse_assignments(assignments), cluster=cluster, **options)
    if dry_run:
        from runmgr.cli.dry_run import show

        return trio.run(show, config)
    if config.out is None:
        config = _with(config, out=new_directory())
    config = _with(config, command=_resume_command(invocation.words, config))
    if invocation.own_process:
        settle(config.max_running)
    result = trio.run(_watched, config, quiet)
    if as_json:
        sys.stdout.write(result.summary.to_json().decode())
        sys.stdout.flush()
    _tell(result, config, quiet=quiet)
    return result.exit_code


def _with(config: BatchConfig, **changes: Any) -> BatchConfig:
    import attrs

    return attrs.evolve(config, **changes)


def amount(word: str) -> str:
    """Dollars, as they were written, as a decimal.

    Raises:
        UserError: it is no amount.
    """
    from decimal import Decimal, InvalidOperation

    try:
        amount = Decimal(word.strip().removeprefix("$"))
    except InvalidOperation:
        raise UserError(f"--budget-usd {word}: an amount in dollars is needed, e.g. 2.50") from None
    if not amount.is_finite():
        raise UserError(f"--budget-usd {word}: an amount in dollars is needed, e.g. 2.50")
    return str(amount)


def _resume_command(said: Sequence[str], config: BatchConfig) -> tuple[str, ...]:
    """This command, to go on with: --resume and --out added where they were not said."""
    words = list(said)
    if "--resume" not in words:
        words.append("--resume")
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(config.out)]
    return ("runmgr", *words)


def _with_more(config: BatchConfig) -> list[str]:
    """The command to go on with, its budget doubled: with the old one it would stop at once."""
    words = list(config.command)
    for option, old in (("--budget-tokens", config.budget_tokens), ("--budget-usd", config.budget_usd)):
        if old is None:
            continue
        from decimal import Decimal

        new = format(max(2 * Decimal(str(old)), Decimal(1)).normalize(), "f")
        at = [i for i, word in enumerate(words) if word == option or word.startswith(f"{option}=")]
        for i in reversed(at):
            del words[i : i + 1 + ("=" not in words[i])]
        words += [option, new]
    return words


async def _watched(config: BatchConfig, quiet: bool) -> BatchResult:
    """The batch with its progress display and signals."""
    from runmgr.batch import run_batch
    from runmgr.cli.signals import Signals

    with Signals(shlex.join(config.command)) as signals:
        watchers: list[Watch] = [signals.watch]
        if not quiet:
            from runmgr.cli.progress import watch_live, watch_plainly

            watchers.append(watch_live if sys.stderr.isatty() else watch_plainly)
        return await run_batch(config, watch=watchers)


def _tell(result: BatchResult, config: BatchConfig, *, quiet: bool) -> None:
    """What came of it, on stderr: notes, the table, where things lie, how to go on."""
    for note in result.notes:
        print(f"runmgr: note: {text.printable(note)}", file=sys.stderr)
    if not quiet:
        from runmgr.cli.summary_table import print_summary

        print_summary(result)
    if result.input_error:
        print(f"runmgr: error: {result.input_error}", file=sys.stderr)
    if result.summary.status == "interrupted" and not result.input_error:
        print(f"runmgr: interrupted; go on with:\n{shlex.join(config.command)}", file=sys.stderr)
    elif result.summary.status == "budget_exhausted":
        print(
            f"runmgr: stopped by its budget; go on with a larger one:\n{shlex.join(_with_more(config))}",
            file=sys.stderr,
        )
    elif result.summary.status == "failed" and not result.input_error:
        print(
            f"runmgr: stopped: more runs failed than --max-failures {config.max_failures} allows",
            file=sys.stderr,
        )
    elif result.exit_code == 1 and quiet:
        print(f"runmgr: {text.printable(str(result.first_failure))}", file=sys.stderr)
