"""``runmgr batch --dry-run``: what would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.batch import BatchConfig

__all__ = ("show",)


async def show(config: BatchConfig) -> int:
    """Checks all, prints the first prompts and the count; sends and writes nothing."""
    from runmgr.batch.preview import preview
    from runmgr.report.transcript import as_text

    found = await preview(config)
    for case in found.first:
        click.secho(f"── case {case.index}", fg="cyan")
        if case.instructions:
            click.echo("instructions: " + text.printable(case.instructions))
        for message in case.messages:
            click.echo(text.printable(f"{message['role']}: {_content(message['content'], as_text)}"))
        if case.target is not None:
            click.secho(text.printable(f"target: {as_text(case.target)}"), dim=True)
        click.echo()
    what = [text.plural(found.cases, "case") if found.cases is not None else "cases as they arrive"]
    if config.epochs > 1:
        what.append(text.plural(config.epochs, "epoch"))
    if len(found.variants) > 1:
        what.append(f"{len(found.variants)} combinations ({'; '.join(found.variants)})")
    runs = "" if found.runs is None else f" = {text.plural(found.runs, 'run')}"
    click.echo(f"{' x '.join(what)}{runs}; nothing was sent")
    return 0


def _content(content: Any, as_text: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(
        part.get("text") or f"[{part.get('image') or as_text(part.get('image_url'))}]" for part in content
    )
