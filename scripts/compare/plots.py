"""Plots as SVG: two panels, CPU and memory, with logarithmic axes."""

import math

WIDTH, HEIGHT, MARGIN = 360, 240, 52
COLORS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce")
PANELS = (("cpu", "CPU of {}", (("s", 1), ("ms", 1e-3), ("µs", 1e-6))), ("peak", "memory", (("MB", 1e6), ("kB", 1e3), ("B", 1))))


def powers(low, high):
    """The powers of ten around a range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def shown(value, units):
    unit, factor = next((unit for unit in units if value >= unit[1] * 0.999), units[-1])
    return f"{value / factor:g} {unit}"


def text(x, y, words, anchor="middle", color="#222"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{color}">{words}</text>'


def panel(left, title, axis, units, lines):
    points = [point for line in lines.values() for point in line if point[1] > 0]
    xs, ys = (powers(min(values), max(values)) for values in zip(*points))
    place = lambda value, ticks, length: length * math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
    at_x = lambda value: left + MARGIN + place(value, xs, WIDTH - MARGIN - 16)
    at_y = lambda value: HEIGHT - 44 - place(value, ys, HEIGHT - 80)
    parts = [text(left + WIDTH / 2 + 20, 20, title), text(left + WIDTH / 2 + 20, HEIGHT - 8, axis)]
    for tick in xs:
        parts.append(text(at_x(tick), HEIGHT - 28, f"{tick:g}"))
    for tick in ys:
        parts.append(f'<path d="M{at_x(xs[0]):.0f} {at_y(tick):.0f}H{at_x(xs[-1]):.0f}" stroke="#ddd"/>')
        parts.append(text(left + MARGIN - 4, at_y(tick) + 4, shown(tick, units), "end"))
    for color, (name, line) in zip(COLORS, lines.items()):
        places = [(at_x(x), at_y(y)) for x, y in line if y > 0]
        if not places:
            continue
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        # The label of the highest line is above it, those of the others below.
        is_highest = line[-1][1] == max(other[-1][1] for other in lines.values())
        parts.append(text(places[-1][0], places[-1][1] + (-7 if is_highest or len(lines) == 1 else 12), name, "end", color))
    return parts


def write(path, axis, each, lines):
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (key, title, units) in enumerate(PANELS):
        if any(value > 0 for line in lines.get(key, {}).values() for _, value in line):
            parts += panel(index * WIDTH, title.format(each), axis, units, lines[key])
    with open(path, "w") as file:
        file.write("\n".join([*parts, "</svg>"]) + "\n")
