"""``runmgr report``: a batch's page, written again."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ("command",)


@click.command("report")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--journal",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The journal's file. [DIR/journal.sqlite]",
)
def command(directory: Path, journal: Path | None) -> int:
    """Write DIR/report.html again from DIR/results.jsonl, and print where it lies.

    Works while the batch runs, too.
    """
    from runmgr.cli.directory import checked_directory
    from runmgr.report import write_report

    directory = checked_directory(directory)
    print(write_report(directory, journal=journal or directory / "journal.sqlite"))
    return 0
