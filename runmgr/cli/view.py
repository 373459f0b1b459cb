"""``runmgr view``: a batch's report, live."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

__all__ = ("command",)


@click.command("view")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address; another than loopback asks for a token.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port; 0 takes a free one.",
)
@click.option("--journal", metavar="FILE", type=click.Path(path_type=Path), help="[DIR/journal.sqlite]")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
def command(directory: Path, *, host: str, port: int, journal: Path | None, open_it: bool) -> int:
    """Serve a batch's report until Ctrl-C, live while the batch runs. Needs runmgr[view].

    Prints its address on stdout once it listens.
    """
    import trio

    from runmgr.cli.directory import checked_directory
    from runmgr.report.serving import serve_view

    def say(url: str) -> None:
        print(f"listening on {url}", flush=True)
        if open_it:
            click.launch(url)

    serve = partial(
        serve_view, checked_directory(directory), journal=journal, host=host, port=port, listening=say
    )
    try:
        trio.run(serve)
    except KeyboardInterrupt:
        return 0
    return 0
