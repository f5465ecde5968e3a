"""Charts as inline SVG: no script, colours from the page's style sheet (so that they follow light and dark), a text for screen readers.

All are 360 units wide, so that their text is as large as the page's on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from stages.reporting.measures import Measure

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 250, 53, 10, 8, 34
MARKERS = ("M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0", "M-3.6,-3.6h7.2v7.2h-7.2z", "M0,-4.6L4.4,3.4H-4.4z", "M0,-5L4.2,0L0,5L-4.2,0z", "M-4.5,-1.5h9v3h-9z")
"Shapes of points, so that nobody needs colours to tell lines apart: circle, square, triangle, diamond, bar."


@dataclass(frozen=True)
class Series:
    """A line of a chart."""

    name: str
    look: int
    "which colour and marker it has"
    points: tuple[tuple[Measure, Measure], ...]
    "x and y in order; what has an interval gets it drawn"


@dataclass(frozen=True)
class Scale:
    """From values to units of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where ``value`` lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values between the ends, about four."""
        rough = (self.high - self.low) / 4
        power = 10 ** math.floor(math.log10(rough))
        step = min((factor * power for factor in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
        return [i * step for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def scale(measures: Iterable[Measure], start: float, end: float, *also: float) -> Scale:
    """A scale that holds all values with their intervals, and ``also``, with some room."""
    found = [float(value) for measure in measures for value in (measure.value, measure.low, measure.high) if value is not None]
    values = [*found, *also] or [0.0]
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - room if low not in also else low, high + room if high not in also else high, start, end)


def number(value: float) -> str:
    """A tick's label."""
    return f"{value:.6g}".replace("-", "−") if abs(value) > 1e-12 else "0"


def drawing(label: str, elements: Iterable[str], height: float = HEIGHT) -> str:
    """An SVG element that screen readers call ``label``."""
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>{"".join(elements)}</svg>'


def text(x: float, y: float, words: str, anchor: str = "middle", **more: str) -> str:
    """A label; names in ``more`` become attributes."""
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class of the style sheet."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def marker(x: float, y: float, look: int) -> str:
    """A point."""
    return f'<path d="{MARKERS[look % len(MARKERS)]}" transform="translate({x:.1f} {y:.1f})" class="dot c{look}"/>'


def axes(x: Scale, y: Scale, x_name: str, y_name: str) -> list[str]:
    """Grid, ticks and names."""
    parts = []
    for value in y.ticks():
        parts += [line(x.start, y(value), x.end, y(value), "zero" if value == 0 else "grid"), text(x.start - 5, y(value) + 3.5, number(value), "end")]
    for value in x.ticks():
        parts += [line(x(value), y.start, x(value), y.end, "zero" if value == 0 else "grid"), text(x(value), y.start + 14, number(value))]
    middle = (y.start + y.end) / 2
    return [*parts, text((x.start + x.end) / 2, y.start + 29, x_name, **{"class": "name"}), text(11, middle, y_name, transform=f"rotate(-90 11 {middle:.1f})", **{"class": "name"})]


def curves(label: str, x_name: str, y_name: str, series: Sequence[Series]) -> str:
    """Values over steps, which count from 0, with bands for the intervals."""
    points = [point for one in series for point in one.points]
    x, y = scale((point[0] for point in points), LEFT, WIDTH - RIGHT, 0.0), scale((point[1] for point in points), HEIGHT - BOTTOM, TOP)
    parts = axes(x, y, x_name, y_name)
    for one in series:
        bounds = [(x(at.value), y(low), y(high)) for at, found in one.points if (low := found.low) is not None and (high := found.high) is not None]
        outline = [f"{at:.1f},{low:.1f}" for at, low, _ in bounds] + [f"{at:.1f},{high:.1f}" for at, _, high in reversed(bounds)]
        parts.append(f'<polygon points="{" ".join(outline)}" class="band c{one.look}"/>' if len(bounds) > 1 else "")
    for one in series:
        parts.append(_trail(one, x, y))
        parts += [marker(x(at.value), y(found.value), one.look) for at, found in one.points] if len(one.points) <= 12 else []
    return drawing(label, parts)


def trajectories(label: str, x_name: str, y_name: str, series: Sequence[Series]) -> str:
    """Paths over two axes, with the intervals of both at their ends."""
    points = [point for one in series for point in one.points]
    x, y = scale((point[0] for point in points), LEFT, WIDTH - RIGHT), scale((point[1] for point in points), HEIGHT - BOTTOM, TOP)
    parts = axes(x, y, x_name, y_name)
    for one in series:
        across, up = one.points[-1]
        if across.low is not None and across.high is not None and up.low is not None and up.high is not None:
            parts += [
                line(x(across.low), y(up.value), x(across.high), y(up.value), f"cross c{one.look}"),
                line(x(across.value), y(up.low), x(across.value), y(up.high), f"cross c{one.look}"),
            ]
    for one in series:
        parts += [_trail(one, x, y), marker(x(one.points[-1][0].value), y(one.points[-1][1].value), one.look)]
    start = series[0].points[0]
    return drawing(label, [*parts, text(x(start[0].value) + 5, y(start[1].value) - 5, "base", "start")])


def _trail(one: Series, x: Scale, y: Scale) -> str:
    return f'<polyline points="{" ".join(f"{x(at.value):.1f},{y(found.value):.1f}" for at, found in one.points)}" class="trail c{one.look}"/>'


def whiskers(label: str, x_name: str, rows: Sequence[tuple[str, Measure, int]], *, bars: bool = False) -> str:
    """One value a row with its interval and a line at zero: (name, value, look); ``bars`` draws them from zero."""
    height = 34 * len(rows) + BOTTOM + TOP
    x = scale((found for _, found, _ in rows), 12, WIDTH - 12, 0.0)
    bottom = height - BOTTOM
    parts = [line(x(value), TOP, x(value), bottom, "zero" if value == 0 else "grid") for value in x.ticks()]
    parts += [text(x(value), bottom + 14, number(value)) for value in x.ticks()]
    parts.append(text(WIDTH / 2, bottom + 29, x_name, **{"class": "name"}))
    for i, (name, found, look) in enumerate(rows):
        y = TOP + 34 * i + 24
        parts.append(text(14, y - 10, f"{name}  {found}", "start", **{"class": "row"}))
        if bars:
            parts.append(f'<rect x="{min(x(0), x(found.value)):.1f}" y="{y - 5:.1f}" width="{abs(x(found.value) - x(0)):.1f}" height="10" class="bar c{look}"/>')
        if found.low is not None and found.high is not None:
            parts.append(line(x(found.low), y, x(found.high), y, f"whisker c{look}"))
        parts.append("" if bars else f'<circle cx="{x(found.value):.1f}" cy="{y:.1f}" r="4.5" class="dot c{look}"/>')
    return drawing(label, parts, height)


def dots(label: str, x_name: str, rows: Sequence[tuple[str, Sequence[tuple[Measure, int]]]], low: float, high: float) -> str:
    """Several values a row, from ``low`` to ``high``, with intervals where they have any: (name, [(value, look)]), the last one on top."""
    left, step = _margin([name for name, _ in rows]), 24
    x, bottom = Scale(low, high, left, WIDTH - 14), TOP + step * len(rows)
    parts = [line(x(value), TOP, x(value), bottom, "grid") for value in x.ticks()] + [text(x(value), bottom + 14, number(value)) for value in x.ticks()]
    parts.append(text((left + WIDTH) / 2, bottom + 29, x_name, **{"class": "name"}))
    for i, (name, values) in enumerate(rows):
        y = TOP + step * (i + 0.5)
        parts.append(text(left - 8, y + 4, name, "end"))
        parts += [line(x(found.low), y, x(found.high), y, f"whisker c{look}") for found, look in values if found.low is not None and found.high is not None]
        parts += [marker(x(found.value), y, look) for found, look in values]
    return drawing(label, parts, bottom + BOTTOM)


def _margin(names: Sequence[str]) -> float:
    """Room for names to the left of a drawing."""
    return min(150.0, 24 + 6.2 * max(map(len, names)))


def heatmap(label: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[float, str] | None]], row_name: str, column_name: str) -> str:
    """Cells [rows][columns]: how strong the colour is (0..1) and what is written; nothing stays blank."""
    left = _margin(rows)
    wide, high = (WIDTH - left - 4) / len(columns), 32
    parts = [text(left + wide * len(columns) / 2, 12, column_name, **{"class": "name"})]
    parts += [text(left + wide * (j + 0.5), 27, name) for j, name in enumerate(columns)]
    middle = 34 + high * len(rows) / 2
    parts.append(text(11, middle, row_name, transform=f"rotate(-90 11 {middle:.1f})", **{"class": "name"}))
    for i, name in enumerate(rows):
        parts.append(text(left - 6, 34 + high * (i + 0.5) + 4, name, "end"))
        for j, cell in enumerate(cells[i]):
            if cell is not None:
                place = f'x="{left + wide * j + 1:.1f}" y="{35 + high * i}" width="{wide - 2:.1f}" height="{high - 2}"'
                parts.append(f'<rect {place} rx="2" class="cell" fill-opacity="{0.04 + 0.56 * min(1.0, max(0.0, cell[0])):.2f}"/>')
                parts.append(text(left + wide * (j + 0.5), 34 + high * (i + 0.5) + 4, cell[1]))
    return drawing(label, parts, 38 + high * len(rows))
