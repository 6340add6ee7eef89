"""Pictures of measurements as SVG, without any library: dots on a logarithmic axis, a row for each program, and lines on two logarithmic axes."""
import math
from xml.sax.saxutils import escape

# Distinct also for those who do not see all colours; the shapes differ, too.
COLOURS = ["#777777", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000", "#8b4513", "#6a3d9a", "#b2df8a"]
SHAPES = ["circle", "square", "diamond", "triangle"]


def number(value):
    if value >= 1e6:
        power = math.log10(value)
        return f"10^{power:.0f}" if abs(power - round(power)) < 1e-9 else f"{value / 1e6:g}M"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def mark(shape, x, y, colour, title):
    r = 5
    inner = f"<title>{escape(title)}</title>"
    points = {"square": [(-r, -r), (r, -r), (r, r), (-r, r)], "diamond": [(0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)], "triangle": [(0, -r - 1), (r + 1, r), (-r - 1, r)]}.get(shape)
    style = f'fill="{colour}" fill-opacity="0.85" stroke="white" stroke-width="0.8"'
    if points is None:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" {style}>{inner}</circle>'
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in points)}" {style}>{inner}</polygon>'


def label(x, y, text, anchor="start", size=13, colour="#222222", turn=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{turn}>{escape(text)}</text>'


def line(x1, y1, x2, y2, colour="#dddddd", width=1.0, dash=""):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{f" stroke-dasharray={chr(34)}{dash}{chr(34)}" if dash else ""}/>'


def write(path, width, height, parts):
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
                    f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


class Logarithmic:
    """An axis from first to last pixel; whole powers of ten around all values, or 1, 2, 5 where they are few."""

    def __init__(self, values, first, last):
        low, high = min(values), max(values)
        steps = (1, 2, 5) if high / low < 1000 else (1,)
        ticks = [s * 10.0**p for p in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2) for s in steps]
        under = [t for t in ticks if t <= low * 1.0001]
        over = [t for t in ticks if t >= high * 0.9999]
        self.ticks = [t for t in ticks if under[-1] <= t <= over[0]]
        if len(self.ticks) == 1:
            self.ticks.append(ticks[ticks.index(self.ticks[0]) + 1])
        self.low, self.high, self.first, self.last = math.log10(self.ticks[0]), math.log10(self.ticks[-1]), first, last

    def __call__(self, value):
        return self.first + (math.log10(value) - self.low) / (self.high - self.low) * (self.last - self.first)


def legend(names, x, y, step=20):
    parts = []
    for n, name in enumerate(names):
        parts.append(mark(SHAPES[n % len(SHAPES)], x, y + n * step - 4, COLOURS[n % len(COLOURS)], name))
        parts.append(label(x + 14, y + n * step, name))
    return parts


def dots(path, title, axis, rows, series, goals=()):
    """series: {name: {row: (value, least, most)}}; goals: (value, what it is), drawn as dashed lines."""
    values = [v for points in series.values() for point in points.values() for v in point] + [g for g, _ in goals]
    if not series or not rows:
        return
    left, top, width, step = 130, 70, 620, 34
    bottom = top + step * len(rows)
    scale = Logarithmic(values, left, left + width)
    parts = [label(left, 30, title, size=18), label(left + width / 2, bottom + 44, axis, "middle")]
    for tick in scale.ticks:
        parts += [line(scale(tick), top, scale(tick), bottom), label(scale(tick), bottom + 20, number(tick), "middle", 12)]
    for n, (value, what) in enumerate(goals):
        parts += [line(scale(value), top - 4, scale(value), bottom, "#aa0000", 1.2, "5 4"), label(scale(value) + 3, top - 8 - 14 * (n % 2), what, size=11, colour="#aa0000")]
    for n, row in enumerate(rows):
        y = top + step * (n + 0.5)
        parts += [line(left, top + step * (n + 1), left + width, top + step * (n + 1), "#eeeeee"), label(left - 8, y + 4, row, "end")]
        for k, (name, points) in enumerate(series.items()):
            if row in points:
                value, least, most = points[row]
                # Beside each other, so that equal values do not hide each other.
                at = y + (k - (len(series) - 1) / 2) * (step - 12) / max(1, len(series) - 1)
                parts.append(line(scale(least), at, scale(most), at, COLOURS[k % len(COLOURS)], 1.5))
                parts.append(mark(SHAPES[k % len(SHAPES)], scale(value), at, COLOURS[k % len(COLOURS)], f"{name}, {row}: {value:.3g} ({least:.3g}-{most:.3g})"))
    parts += legend(list(series), left + width + 30, top + 14)
    write(path, left + width + 330, max(bottom + 64, top + 20 * len(series) + 20), parts)


def lines(path, title, horizontal, vertical, series, goals=()):
    """series: {name: [(x, y), ...]}; goals: (y, what it is)."""
    points = [p for one in series.values() for p in one if p[1] > 0]
    if not points:
        return
    left, top, width, height = 90, 60, 560, 360
    across = Logarithmic([p[0] for p in points], left, left + width)
    up = Logarithmic([p[1] for p in points] + [g for g, _ in goals], top + height, top)
    parts = [label(left, 30, title, size=18), label(left + width / 2, top + height + 46, horizontal, "middle"),
             label(24, top + height / 2, vertical, "middle", turn=f' transform="rotate(-90 24 {top + height / 2:.0f})"')]
    for tick in across.ticks:
        parts += [line(across(tick), top, across(tick), top + height), label(across(tick), top + height + 20, number(tick), "middle", 12)]
    for tick in up.ticks:
        parts += [line(left, up(tick), left + width, up(tick)), label(left - 8, up(tick) + 4, number(tick), "end", 12)]
    for value, what in goals:
        parts += [line(left, up(value), left + width, up(value), "#aa0000", 1.2, "5 4"), label(left + 4, up(value) - 5, what, size=11, colour="#aa0000")]
    for n, (name, one) in enumerate(series.items()):
        colour = COLOURS[n % len(COLOURS)]
        one = [p for p in one if p[1] > 0]
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{" ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in one)}"/>')
        parts += [mark(SHAPES[n % len(SHAPES)], across(x), up(y), colour, f"{name}: {y:.4g} at {x:,}") for x, y in one]
    parts += legend(list(series), left + width + 30, top + 14)
    write(path, left + width + 330, max(top + height + 64, top + 20 * len(series) + 20), parts)
