"""Small figures as inline SVG: no script, no style attributes (a strict page refuses them), colours by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from runmgr.report.statistics import Histogram

__all__ = ("bar_rows", "histogram", "points")

_WIDTH, _HEIGHT = 420, 150
_LEFT, _BOTTOM, _TOP = 8, 26, 18


def histogram(figure: Histogram, title: str, unit: Callable[[float], str], *, bars: int = 28) -> str:
    """Bars over a logarithmic axis, with the median and the 99th percentile marked.

    Args:
        figure: the values.
        title: said above it and to screen readers.
        unit: a value as people read it.
        bars: at most so many.
    """
    values = figure.bars(bars)
    if not values:
        return ""
    highest = max(count for _, _, count in values)
    step = (_WIDTH - 2 * _LEFT) / len(values)
    room = _HEIGHT - _BOTTOM - _TOP
    parts: list[str] = []
    for number, (low, high, count) in enumerate(values):
        if not count:
            continue
        tall = max(1.0, room * count / highest)
        label = escape(f"{unit(low)} to {unit(high)}: {count:,}")
        parts.append(
            f'<rect class="bar" x="{_LEFT + number * step + 1:.1f}" y="{_HEIGHT - _BOTTOM - tall:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{tall:.1f}"><title>{label}</title></rect>'
        )
    axis = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{axis}" x2="{_WIDTH - _LEFT}" y2="{axis}"/>')
    parts.append(_label(_LEFT, _HEIGHT - 10, unit(values[0][0]), "start"))
    parts.append(_label(_WIDTH - _LEFT, _HEIGHT - 10, unit(values[-1][1]), "end"))
    median, tail = figure.percentile(0.5), figure.percentile(0.99)
    if median is not None and tail is not None:
        parts.append(_label(_WIDTH / 2, _HEIGHT - 10, f"median {unit(median)}, p99 {unit(tail)}", "middle"))
    return _figure(title, parts, _HEIGHT)


def points(
    values: Sequence[tuple[float, float, bool]], title: str, unit: Callable[[float], str], *, most: int = 600
) -> str:
    """A point a value over time, on a logarithmic axis; bad ones in another colour.

    Args:
        values: time in seconds, value, whether it is bad.
        title: said above it and to screen readers.
        unit: a value as people read it.
        most: of more points only so many, evenly taken, are drawn.
    """
    if len(values) < 2:
        return ""
    step = max(1, len(values) // most)
    drawn = [value for number, value in enumerate(sorted(values)) if number % step == 0 or value[2]][
        : 2 * most
    ]
    first, last = drawn[0][0], max(time for time, _, _ in drawn)
    least = max(min(value for _, value, _ in drawn), 1e-4)
    largest = max(*(value for _, value, _ in drawn), least * 1.01)
    width, room = _WIDTH - 2 * _LEFT, _HEIGHT - _BOTTOM - _TOP
    parts: list[str] = []
    for time, value, bad in drawn:
        x = _LEFT + width * ((time - first) / (last - first) if last > first else 0.5)
        y = _HEIGHT - _BOTTOM - room * math.log(max(value, least) / least) / math.log(largest / least)
        parts.append(f'<circle class="{"bad" if bad else "bar"}" cx="{x:.1f}" cy="{y:.1f}" r="1.8"/>')
    axis = _HEIGHT - _BOTTOM
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{axis}" x2="{_WIDTH - _LEFT}" y2="{axis}"/>')
    parts.append(_label(_LEFT, _TOP - 6, unit(largest), "start"))
    parts.append(_label(_LEFT, _HEIGHT - 10, f"{unit(least)} at the bottom", "start"))
    parts.append(_label(_WIDTH - _LEFT, _HEIGHT - 10, f"{unit(last - first)} later", "end"))
    return _figure(title, parts, _HEIGHT)


def bar_rows(rows: Sequence[tuple[str, float, str]], title: str) -> str:
    """A bar a row, from 0 to 1.

    Args:
        rows: name, share, and what to write beside the bar.
        title: said above it and to screen readers.
    """
    if not rows:
        return ""
    parts: list[str] = []
    name_width, bar_width = 130, 160
    for number, (name, share, text) in enumerate(rows):
        y = _TOP + 6 + number * 26
        filled = bar_width * min(max(share, 0.0), 1.0)
        parts.append(_label(_LEFT, y + 12, name if len(name) <= 20 else name[:19] + "…", "start"))
        parts.append(f'<rect class="track" x="{name_width}" y="{y}" width="{bar_width}" height="16" rx="3"/>')
        parts.append(f'<rect class="bar" x="{name_width}" y="{y}" width="{filled:.1f}" height="16" rx="3"/>')
        parts.append(_label(name_width + bar_width + 8, y + 12, text, "start"))
    return _figure(title, parts, _TOP + 12 + 26 * len(rows))


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _figure(title: str, parts: list[str], height: float) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg></figure>'
    )
