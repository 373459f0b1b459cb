"""``runmgr provider-batches``: the batches that a batch has at its provider."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from runmgr.report import text

__all__ = ("command",)


@click.command("provider-batches")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--journal", metavar="FILE", type=click.Path(path_type=Path), help="[DIR/journal.sqlite]")
@click.option("--cancel", is_flag=True, help="Ask the provider to stop those that are under way.")
def command(directory: Path, *, journal: Path | None, cancel: bool) -> int:
    """List what 'runmgr batch --via-batch-api' has at its provider, and how it stands there.

    What the provider has answered before --cancel is charged, and --resume collects it.
    """
    import trio

    from runmgr.batch.provider_batches import cancel_batches, look_at_batches
    from runmgr.cli.directory import checked_directory

    file = journal or checked_directory(directory) / "journal.sqlite"
    found = trio.run(cancel_batches if cancel else look_at_batches, file)
    if not found:
        print(f"runmgr: {directory}: nothing of it went by a provider's batch API", file=sys.stderr)
        return 0
    failed = False
    for each in found:
        record, seen = each.record, each.seen
        words = [str(record.number), record.id or "-", record.model, text.plural(record.requests, "request")]
        if seen is not None:
            words.append(f"{seen.status}, {text.count(seen.counts.done)} done")
        elif each.problem is not None:
            failed = True
            words.append(f"{record.state}; {each.problem}")
        else:
            words.append(record.state if record.problem is None else f"{record.state}: {record.problem}")
        print(text.printable("  ".join(words)))
    return int(failed)
