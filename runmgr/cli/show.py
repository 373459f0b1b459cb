"""``runmgr show``: one run's transcript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runmgr.exceptions import UserError
from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.records.outcomes import RunOutcome
    from runmgr.report import ResultLine
    from runmgr.report.transcript import Entry

__all__ = ("command",)

_COLOURS = {"text": "cyan", "thinking": "bright_black", "call": "yellow", "return": "yellow", "retry": "red"}


@click.command("show")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("run", metavar="RUN_ID")
@click.option(
    "--journal",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The journal's file. [DIR/journal.sqlite]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="The run's messages as JSON, as all_messages_json() writes them."
)
def command(directory: Path, run: str, *, journal: Path | None, as_json: bool) -> int:
    """Show one run's transcript: what was asked, called, returned and answered.

    RUN_ID is a run's id, the beginning of one, or a case's index in the input.
    """
    from runmgr.cli.directory import checked_directory

    directory = checked_directory(directory)
    line = _find(directory / "results.jsonl", run)
    outcome = _outcome(journal or directory / "journal.sqlite", run if line is None else line.run_id)
    if line is None and outcome is None:
        raise UserError(f'{directory}: no run {run!r} there; ids are the "run_id" of results.jsonl')
    if as_json:
        if outcome is None:
            raise UserError(
                f"{directory}: there is no journal with this run's messages; --journal FILE says where it is"
            )
        from runmgr.messages import ModelMessagesTypeAdapter

        print(ModelMessagesTypeAdapter.dump_json(outcome.messages).decode())
        return 0
    if line is not None:
        _print_line(line)
    _print_entries(_entries(line, outcome))
    if line is not None and line.error is not None:
        _heading(str(line.error.get("type")), "", "red")
        click.echo(text.printable(_why(line, outcome)))
    return 0


def _why(line: ResultLine, outcome: RunOutcome | None) -> str:
    """The message of a run's error; where a user's code raised it, with the last lines of the traceback."""
    error = None if outcome is None else outcome.error
    if error is not None and error.traceback is not None:
        return error.traceback.rstrip()
    return str((line.error or {}).get("message"))


def _find(results: Path, wanted: str) -> ResultLine | None:
    """The result that an id, its beginning or an index names.

    Raises:
        UserError: it names several.
    """
    from runmgr.report import read_lines

    index = int(wanted) if wanted.isdecimal() and len(wanted) < 16 else None
    found: list[ResultLine] = []
    for line in read_lines(results):
        if line.run_id == wanted:
            return line
        if line.index == index if index is not None else line.run_id.startswith(wanted):
            found.append(line)
    if len(found) > 1:
        some = ", ".join(line.run_id for line in found[:5])
        raise UserError(
            f"{wanted!r} names {len(found)} runs ({some}{', ...' if len(found) > 5 else ''}): give more of its id"
        )
    return found[0] if found else None


def _outcome(journal: Path, run_id: str) -> RunOutcome | None:
    if not journal.exists():
        return None
    from runmgr.journal import open_journal

    with open_journal(journal) as reader:
        return reader.outcome(run_id)


def _entries(line: ResultLine | None, outcome: RunOutcome | None) -> list[Entry]:
    from runmgr.report.transcript import Entry, as_text, entries

    if outcome is not None and outcome.messages:
        return entries(outcome.messages)
    if line is None:
        return []
    said = [Entry("user", as_text(line.input))]
    return said if line.output is None else [*said, Entry("text", as_text(line.output))]


def _print_line(line: ResultLine) -> None:
    facts = [
        f"run {line.run_id}",
        f"case {line.index}",
        f"epoch {line.epoch}",
        line.status,
        line.model or "model unknown",
    ]
    facts += [f"{name} {value}" for name, value in line.scores.items()]
    seconds = (
        None if line.started_at is None or line.finished_at is None else line.finished_at - line.started_at
    )
    facts += [text.duration(seconds), f"{text.tokens(line.usage)} tokens", f"cost {text.dollars(line.cost)}"]
    if line.attempts > 1:
        facts.append(f"{line.attempts} attempts")
    click.secho(text.printable(" · ".join(facts)), bold=True)


def _print_entries(said: list[Entry]) -> None:
    for entry in said:
        _heading(f"{entry.kind} {entry.name}".rstrip(), entry.note, _COLOURS.get(entry.kind, "green"))
        click.echo(text.printable(entry.text))


def _heading(title: str, note: str, colour: str) -> None:
    click.echo()
    click.secho(f"── {text.printable(title)}" + (f" ({text.printable(note)})" if note else ""), fg=colour)
