"""``runmgr compare`` of loads."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runmgr.exceptions import UserError
from runmgr.report import text

if TYPE_CHECKING:
    from runmgr.load.compare import Figure, FigureDifference

__all__ = ("are_loads", "compare_directories")


def are_loads(directories: Sequence[Path]) -> bool:
    """Whether ``runmgr load`` wrote them.

    Raises:
        UserError: some are loads, and some are not.
    """
    from runmgr.load.results import kind_of

    kinds = [kind_of(directory) for directory in directories]
    if any(kinds) and not all(kinds):
        odd = directories[kinds.index(None)]
        raise UserError(f"{odd}: not the results of a load, as the others are; compare loads with loads")
    return all(kinds)


def compare_directories(
    directories: Sequence[Path],
    *,
    conditions: Sequence[str],
    confidence: float,
    page: Path | None,
    as_json: bool,
) -> int:
    """Compare loads with the first; gives the exit code.

    Raises:
        UserError: a directory or a condition is wrong.
    """
    from runmgr.load.compare import compare_loads
    from runmgr.load.gates import check_load_gates, parse_load_gate
    from runmgr.load.results import read_load

    if len(directories) < 2:
        raise UserError(f"{directories[0]}: one load; name the ones to compare it with")
    baseline, *candidates = (read_load(directory) for directory in directories)
    found = [compare_loads(baseline, candidate, confidence) for candidate in candidates]
    broken = [
        sentence
        for one in found
        for sentence in check_load_gates([parse_load_gate(condition, one) for condition in conditions], one)
    ]
    if page is not None:
        from runmgr.load.several import build_comparison_page

        try:
            page.write_bytes(build_comparison_page([baseline, *candidates], found, confidence))
        except OSError as error:
            raise UserError(f"--report {page}: cannot be written: {error.strerror or error}") from error
    if as_json:
        _print_json(baseline.name, [one.name for one in candidates], found, broken)
    else:
        for candidate, one in zip(candidates, found, strict=True):
            _print_table(baseline.name, candidate.name, one, confidence)
        for run in (baseline, *candidates):
            verdict = run.summary["validity"]["verdict"]
            if verdict != "valid":
                print(
                    f"note: {run.name} is {verdict}: {'; '.join(run.summary['validity']['reasons'])}",
                    file=sys.stderr,
                )
    for sentence in broken:
        print(f"runmgr: regression: {text.printable(sentence)}", file=sys.stderr)
    return 1 if broken else 0


def shown(name: str, figure: Figure) -> str:
    """A figure with its unit."""
    if name == "errors":
        return f"{figure.value:.2%}"
    return f"{figure.value:,.2f}" + ("" if name.endswith("_per_second") else " ms")


def _print_table(
    baseline: str, candidate: str, found: Mapping[str, FigureDifference], confidence: float
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), show_edge=False)
    for title in ("", baseline, candidate, "change", f"{confidence:.0%} interval", ""):
        table.add_column(Text(text.printable(title)), justify="left" if not title else "right")
    for name, one in found.items():
        scale = 100 if name == "errors" else 1
        relative = "" if one.relative is None else f" ({one.relative:+.1%})"
        interval = (
            "too few"
            if one.low is None or one.high is None
            else f"{one.low * scale:+,.2f} to {one.high * scale:+,.2f}"
        )
        table.add_row(
            name,
            shown(name, one.baseline),
            shown(name, one.candidate),
            f"{one.difference * scale:+,.2f}{relative}",
            interval,
            "" if one.better is None else "better" if one.better else "worse",
        )
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(table)


def _print_json(
    baseline: str, candidates: list[str], found: Sequence[Mapping[str, FigureDifference]], broken: list[str]
) -> None:
    import msgspec

    data: dict[str, Any] = {
        "comparisons": [
            {"baseline": baseline, "candidate": name, "figures": one}
            for name, one in zip(candidates, found, strict=True)
        ],
        "regressions": broken,
    }
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")
    sys.stdout.flush()
