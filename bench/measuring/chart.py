"""A chart of lines as SVG, in a few lines of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 40, 48
_COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98", "#b9770e")


def chart(title: str, x_label: str, y_label: str, lines: Mapping[str, Points]) -> str:
    """Both axes from 0. Raises ValueError without points."""
    x_most = max(x for points in lines.values() for x, _ in points)
    y_most = max(y for points in lines.values() for _, y in points)
    x_ticks, y_ticks = ticks(x_most), ticks(y_most)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (_WIDTH - _LEFT - _RIGHT) * x / x_ticks[-1]
        return _LEFT + across, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * y / y_ticks[-1]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 20, title, "middle", size=14),
        _text(_WIDTH / 2, _HEIGHT - 12, x_label, "middle"),
        f'<g transform="rotate(-90 16 {_HEIGHT / 2:g})">{_text(16, _HEIGHT / 2, y_label, "middle")}</g>',
    ]
    for x in x_ticks:
        parts += [_rule(place(x, 0), place(x, y_ticks[-1])), _text(place(x, 0)[0], _HEIGHT - _BOTTOM + 16, f"{x:g}", "middle")]
    for y in y_ticks:
        parts += [_rule(place(0, y), place(x_ticks[-1], y)), _text(_LEFT - 6, place(0, y)[1] + 4, f"{y:g}", "end")]
    for index, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(_LEFT + 12, _TOP + 16 + 16 * index, name, "start", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def ticks(most: float) -> list[float]:
    """From 0 in even steps of 1, 2 or 5 times a power of ten, to the first that is not below `most`."""
    if most <= 0:
        return [0.0, 1.0]
    power = 10.0 ** floor(log10(most / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 6 >= most)
    return [round(step * index, 10) for index in range(ceil(round(most / step, 9)) + 1)]


def _text(x: float, y: float, text: str, anchor: str, *, size: int = 12, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(text)}</text>'


def _rule(begin: tuple[float, float], end: tuple[float, float]) -> str:
    return f'<line x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="#dddddd"/>'
