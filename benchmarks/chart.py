"""Line charts in SVG, several beside each other: logarithmic both ways, readable on light and dark pages."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Panel", "svg"]

WIDTH, HEIGHT = 330, 300  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 40, 44  # around its plot
LEGEND = 28  # below all panels

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .small { font-size: 11px }
.grid { stroke: #d1d9e0; stroke-width: 1 } .line { fill: none; stroke-width: 2 }
.c0 { stroke: #0969da; fill: #0969da } .c1 { stroke: #6e7781; fill: #6e7781 } .c2 { stroke: #cf5c00; fill: #cf5c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .grid { stroke: #3d444d }
.c0 { stroke: #58a6ff; fill: #58a6ff } .c1 { stroke: #9198a1; fill: #9198a1 } .c2 { stroke: #f0883e; fill: #f0883e }
}
path.line { fill: none }
"""


@dataclass(frozen=True)
class Panel:
    """One chart. `lines` are points by the name of the line; a name has the same colour in all panels."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def svg(panels: Sequence[Panel], y_label: str) -> str:
    """All panels beside each other, over one legend. They share the y axis."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    values = [y for panel in panels for points in panel.lines.values() for _, y in points]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))
    width, height = WIDTH * len(panels), HEIGHT + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        f"<style>{STYLE}</style>",
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({index * WIDTH} 0)">{_panel(panel, names, low, high, y_label)}</g>')
    x = float(LEFT)
    for number, name in enumerate(names):
        parts.append(f'<path class="line c{number}" d="M{x:.0f} {HEIGHT + 10}h20"/>')
        parts.append(f'<text x="{x + 26:.0f}" y="{HEIGHT + 14}">{escape(name)}</text>')
        x += 60 + 7 * len(name)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, names: Sequence[str], low: float, high: float, y_label: str) -> str:
    xs = sorted({x for points in panel.lines.values() for x, _ in points})

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - math.log10(xs[0])) / (math.log10(xs[-1]) - math.log10(xs[0]))
        up = (math.log10(y) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="title" x="{LEFT}" y="16">{escape(panel.title)}</text>']
    parts.append(f'<text class="small" x="{LEFT}" y="32">{escape(y_label)}</text>')
    y = low
    while y <= high:
        _, at = place(xs[0], y)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="small" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:g}</text>')
        y *= 10
    for x in xs:
        at, _ = place(x, low)
        anchor = "end" if x == xs[-1] else "middle"
        parts.append(f'<text class="small" x="{at:.1f}" y="{HEIGHT - 26}" text-anchor="{anchor}">{_short(x)}</text>')
    parts.append(f'<text class="small" x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">{panel.x_label}</text>')
    for name, points in panel.lines.items():
        colour = f"c{names.index(name)}"
        placed = [place(*point) for point in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        parts.append(f'<path class="line {colour}" d="{path}"/>')
        parts += [f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
    return "".join(parts)


def _short(x: float) -> str:
    return f"{x / 1024:g} Ki" if x >= 1024 and x % 1024 == 0 else f"{x:,.0f}"
