"""Lines over an axis as inline SVG: no script, no style attributes, colours by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

__all__ = ("MOST_LINES", "Line", "chart", "plain")

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 420, 170, 46, 10, 12, 26

_CLASSES = ("", "second", "third", "fourth", "fifth", "sixth")
MOST_LINES = len(_CLASSES)

Line = tuple[str, Sequence[tuple[float, float]]]


def chart(
    title: str,
    lines: Sequence[Line],
    unit: Callable[[float], str],
    *,
    steady: tuple[float, float] | None = None,
    log: bool = False,
    rows: Sequence[dict[str, Any]] = (),
) -> str:
    """Lines over a common axis, at most `MOST_LINES`.

    Args:
        title: said above it and to screen readers.
        lines: a name and its points each, in order of x.
        unit: an x as people read it.
        steady: from where to where to shade.
        log: whether y is logarithmic.
        rows: a sweep's rates: the first line's points are marked, in another colour where the rate missed.
    """
    every = [point for _, points in lines for point in points]
    if not every:
        return ""
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    top = max(1e-9, *(y for _, y in every))
    bottom = max(min((y for _, y in every if y > 0), default=top / 10), top / 1e5) if log else 0.0
    if log and bottom >= top:
        bottom = top / 10

    def px(x: float) -> float:
        return _LEFT + (x - left) / ((right - left) or 1.0) * (_WIDTH - _LEFT - _RIGHT)

    def py(y: float) -> float:
        share = (
            (math.log(max(y, bottom)) - math.log(bottom)) / (math.log(top) - math.log(bottom))
            if log
            else y / top
        )
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)

    parts: list[str] = []
    if steady is not None:
        begin, end = max(left, min(steady[0], right)), max(left, min(steady[1], right))
        parts.append(
            f'<rect class="steady" x="{px(begin):.1f}" y="{_TOP}" width="{max(px(end) - px(begin), 0):.1f}" '
            f'height="{_HEIGHT - _BOTTOM - _TOP}"><title>steady window</title></rect>'
        )
    for number, (_, points) in enumerate(lines):
        if points:
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
            parts.append(f'<polyline class="line {_CLASSES[number]}" points="{path}"/>')
    met = {row["rate"]: row["met"] for row in rows}
    for x, y in lines[0][1] if rows or len(lines[0][1]) == 1 else ():
        parts.append(
            f'<circle class="dot{"" if met.get(x, True) else " missed"}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3">'
            f"<title>{x:g}: {y:.4g}</title></circle>"
        )
    axis = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{axis}" x2="{_WIDTH - _RIGHT}" y2="{axis}"/>')
    parts += [
        f'<text x="{_LEFT - 4}" y="{py(value) + 4:.1f}" text-anchor="end">{escape(plain(value))}</text>'
        for value in ((bottom, top) if log else (0.0, top / 2, top) if top > 1e-9 else (0.0,))
    ]
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}">{escape(unit(left))}</text>')
    parts.append(
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(unit(right))}</text>'
    )
    key = "".join(
        f'<span class="k{number}">{escape(name)}</span>' for number, (name, _) in enumerate(lines, 1)
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg><div class="key">{key}</div></figure>'
    )


def plain(value: float) -> str:
    """A number in few letters."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
