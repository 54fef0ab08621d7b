"""Where marks and labels of the charts go: plain geometry, without matplotlib."""

import math

MOST_GROUPS, MOST_MARKS = 9, 60  # side by side in one panel
SHIFTS = (0, 0.26, -0.26, 0.13, -0.13)  # of dots in a lane
RATIOS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 2.5, 3,
          4, 5, 7.5, 10, 20)
# Of a label from its point, in points of type: to the right and up.
OFFSETS = [(side * reach, up) for reach in (9, 22, 40, 64)
           for up in (0, 12, -12, 26, -26, 44, -44, 64, -64) for side in (1, -1)]
NEAR = 20  # points of type: a label further away than this has a line to its point


def tokens(n):
    """8192 as 8K, 6080 as 6,080."""
    return f"{n // 1024:,}K" if n >= 1024 and n % 1024 == 0 else f"{n:,}"


def panels_of(parts, n_settings):
    """Lists of groups to lists of few enough groups, of about equal length."""
    most = max(2, min(MOST_GROUPS, MOST_MARKS // max(n_settings, 1)))
    for part in parts:
        n_panels = math.ceil(len(part) / most)
        cuts = [math.ceil(i * len(part) / n_panels) for i in range(n_panels + 1)]
        for begin, end in zip(cuts, cuts[1:]):
            yield part[begin:end]


def in_two_lines(name):
    """A long name of a task with a line of its own for what follows the first word."""
    if len(name) <= 10:
        return name
    for mark in ("_", " "):
        if mark in name:
            first, rest = name.split(mark, 1)
            return f"{first}{mark.strip()}\n{rest}"
    return name


def aside(dots, least):
    """[(at, height, kind)]: in a lane, dots nearer than `least` to each other step aside."""
    last, placed = {}, []
    for at, lane, kind in sorted(dots):
        free = [shift for shift in SHIFTS if at - last.get((lane, shift), -math.inf) >= least]
        shift = free[0] if free else min(SHIFTS, key=lambda one: last[lane, one])
        last[lane, shift] = at
        placed.append((at, lane + shift, kind))
    return placed


def ratio_ticks(low, high):
    """Ratios to name on a logarithmic axis, not too near to each other; 1 is one of them."""
    ticks = []
    for ratio in sorted((one for one in RATIOS if low <= one <= high), key=lambda one: one != 1):
        if all(abs(math.log(ratio / other)) >= 0.05 * math.log(high / low) for other in ticks):
            ticks.append(ratio)
    return ticks


def overlap(a, b):
    """The area that two boxes (x0, y0, x1, y1) share."""
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def box_at(point, size, offset, scale):
    """The box of a label of a size, in dots; scale: dots in a point of type."""
    left = point[0] + offset[0] * scale - (size[0] if offset[0] < 0 else 0)
    middle = point[1] + offset[1] * scale
    return left, middle - size[1] / 2, left + size[0], middle + size[1] / 2


def has_line(offset):
    return abs(offset[0]) + abs(offset[1]) > NEAR


def line_hits(point, box, taken):
    """How many of some places on the way from a point to a label lie in what is taken."""
    end = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    on_way = [(point[0] + (end[0] - point[0]) * k / 16, point[1] + (end[1] - point[1]) * k / 16)
              for k in range(3, 16)]
    return sum(one[0] < x < one[2] and one[1] < y < one[3] for x, y in on_way for one in taken)


def offset_of(point, size, inside, taken, line, scale):
    """The offset at which a label covers least; taken: boxes, line: one that may be crossed."""

    def cost(offset):
        here = box_at(point, size, offset, scale)
        out = size[0] * size[1] - overlap(here, inside)
        hits = line_hits(point, here, taken) if has_line(offset) else 0
        return (40 * out + 10 * sum(overlap(here, other) for other in taken) +
                overlap(here, line) + 100 * scale * hits + abs(offset[0]) + abs(offset[1]))

    return min(OFFSETS, key=cost)
