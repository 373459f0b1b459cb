"""``runmgr report``: a batch's page, written again."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ("command",)


@click.command("report")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
def command(directory: Path) -> int:
    """Write DIR/report.html again from DIR/results.jsonl, and print where it lies.

    Works while the batch runs, too.
    """
    from runmgr.cli.directory import checked_directory
    from runmgr.report import write_report

    print(write_report(checked_directory(directory)))
    return 0
