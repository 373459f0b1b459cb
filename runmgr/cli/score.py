"""``runmgr score``: a finished batch scored again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from runmgr.exceptions import UserError
from runmgr.report import text

__all__ = ("command",)


@click.command("score")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--scorer", "scorers", metavar="NAME", multiple=True, help="As of batch. [those of the batch] Repeatable."
)
@click.option("--add", is_flag=True, help="Keep the scores that are there, and add these.")
@click.option("--extract", metavar="REGEX", help="As of batch; '' is none. [that of the batch]")
@click.option("--target-extract", metavar="REGEX", help="Likewise.")
@click.option(
    "--target-field", metavar="F", help="The field that is the expected answer. [that of the batch]"
)
@click.option(
    "--reducer", "reducers", metavar="NAME", multiple=True, help="mean, mode, max, pass@K. Repeatable."
)
@click.option("--journal", metavar="FILE", type=click.Path(path_type=Path), help="[DIR/journal.sqlite]")
@click.option("--max-running", metavar="N", type=int, default=100, show_default=True, help="Judges at once.")
@click.option("--budget-tokens", metavar="N", type=int, help="Tokens that batch and judges together may use.")
@click.option("--quiet", "-q", is_flag=True, help="No table.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json to stdout.")
def command(directory: Path, *, quiet: bool, as_json: bool, **options: Any) -> int:
    """Score a finished batch again, without asking the model again; judges are asked.

    Replaces the scores in DIR/results.jsonl, and writes DIR/summary.json and DIR/report.html. The input must still be where it was.
    """
    import trio

    from runmgr.batch.rescoring import rescore
    from runmgr.cli.directory import checked_directory

    directory = checked_directory(directory)
    if options["max_running"] < 1:
        raise UserError(f"--max-running {options['max_running']}: must be at least 1")
    result = trio.run(lambda: rescore(directory, **options))
    for note in result.notes:
        print(f"runmgr: note: {text.printable(note)}", file=sys.stderr)
    if as_json:
        sys.stdout.write(result.summary.to_json().decode())
        sys.stdout.flush()
    if not quiet:
        from runmgr.cli.summary_table import print_summary

        print_summary(result)
    return 0
