"""Draws the charts of scripts/eval-report. The only file of it that needs matplotlib."""

import io
import math
import re

import matplotlib
import report_layout as layout

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patheffects import withStroke  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402
from PIL import Image  # noqa: E402

# Okabe and Ito's colours, which the colour-blind can tell apart; a second round of them is hatched.
COLOURS = ("#d55e00", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#9a7b4f")
MARKS, HATCHES = "oDv^sP", ("", "////", "....", "xxxx")
FOUND, LOST = "#009e73", "#d55e00"
THEMES = {
    "light": {"ground": "#ffffff", "ink": "#1b1f24", "quiet": "#57606a", "grid": "#dfe3e8",
              "llama": "#0072b2"},
    "dark": {"ground": "#14171c", "ink": "#e3e7ec", "quiet": "#a5aeb8", "grid": "#333a43",
             "llama": "#2f8fd8"}
}
WIDTH, DPI = 10, 200  # inches; the page shows two dots as one pixel
MOST_COLUMNS = 6


def styles(names, theme):
    """{setting: (colour, mark, hatch)}"""
    found, n_others = {}, 0
    for name in names:
        if name == "dense":
            found[name] = (theme["ink"], "s", "")
        elif name == "llama":
            found[name] = (theme["llama"], "^", "")
        else:
            turn, which = divmod(n_others, len(COLOURS))
            found[name] = (COLOURS[which], MARKS[which], HATCHES[turn % len(HATCHES)])
            n_others += 1
    return found


def bars(axes, x, values, width, style, theme):
    colour, _, hatch = style
    value, low, high = values
    axes.bar(x, value, width * 0.92, color=colour, hatch=hatch, edgecolor=theme["ground"],
             linewidth=0)
    _, caps, (line,) = axes.errorbar(x, value, yerr=[[value - low], [high - value]],
                                     color=theme["quiet"], linewidth=1, capsize=1.5)
    for part in (*caps, line):  # seen on a bar of any colour
        part.set_path_effects([withStroke(linewidth=2.4, foreground=theme["ground"])])


def dots(axes, x, values, _, style, theme):
    colour, mark, hatch = style
    value, low, high = values
    axes.errorbar(x, value, yerr=[[value - low], [high - value]], color=colour, marker=mark,
                  markersize=5, linewidth=1.3, capsize=2,
                  markerfacecolor=theme["ground"] if hatch else colour)


def grouped(figure, theme, data):
    """Marks of each setting side by side for each group; a panel for few groups.

    data: parts [[(group, n)]], settings, all_settings, values {(group, setting): [value, low,
    high]}, kind "bars" or "dots", limits or None, label.
    """
    names = data["settings"]
    panels = list(layout.panels_of([part for part in data["parts"] if part], len(names)))
    figure.set_size_inches(WIDTH, 0.6 + 2.45 * len(panels))
    style, mark = styles(data["all_settings"], theme), bars if data["kind"] == "bars" else dots
    most = max(map(len, panels))
    step = 0.8 / len(names)
    all_axes = figure.subplots(len(panels), 1, squeeze=False, sharey=True)[:, 0]
    for axes, groups in zip(all_axes, panels):
        for i, (group, _) in enumerate(groups):
            for k, name in enumerate(names):
                x = i + (k - (len(names) - 1) / 2) * step
                if (group, name) in data["values"]:
                    mark(axes, x, data["values"][group, name], step, style[name], theme)
                else:
                    axes.annotate("–", (x, 0), ha="center", va="bottom", color=theme["quiet"])
        axes.set_xticks(range(len(groups)),
                        [f"{layout.in_two_lines(group)}\nn = {n}" for group, n in groups])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, most - 0.4)
        axes.grid(True, axis="y", color=theme["grid"], linewidth=0.7)
        axes.axhline(0, color=theme["ink"], linewidth=1)
        axes.set_ylabel(data["label"])
        if data["limits"]:
            axes.set_ylim(*data["limits"])
    handles = []
    for name in names:
        colour, shape, hatch = style[name]
        if data["kind"] == "bars":
            handles.append(plt.Rectangle((0, 0), 1, 1, facecolor=colour, hatch=hatch, linewidth=0,
                                         edgecolor=theme["ground"]))
        else:
            handles.append(plt.Line2D([], [], color=colour, marker=shape, markersize=5,
                                      markerfacecolor=theme["ground"] if hatch else colour))
    figure.legend(handles, names, loc="outside upper left", ncols=min(len(names), 5),
                  frameon=False)


def heat(figure, theme, data):
    """Share found by depth and length, a panel a setting.

    data: settings, lengths, cells {setting: {(length, bin): (found, n)}}, n_bins.
    """
    names, lengths, n_bins = data["settings"], data["lengths"], data["n_bins"]
    columns = min(len(names), MOST_COLUMNS, max(2, 14 // max(len(lengths), 2)))
    n_rows = math.ceil(len(names) / columns)
    wide = max(0.62 * len(lengths), 1.25)
    figure.set_size_inches(min(WIDTH, 1.6 + columns * (wide + 0.2)), 0.9 + 3.1 * n_rows)
    colours = plt.get_cmap("cividis")
    grid = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(names):]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names):
        for i, length in enumerate(lengths):
            for k in range(n_bins):
                found, n = data["cells"][name].get((length, k), (0, 0))
                face = colours(found / n) if n else "none"
                axes.add_patch(plt.Rectangle((i, k), 1, 1, facecolor=face,
                                             edgecolor=theme["ground"] if n else theme["grid"],
                                             linewidth=1))
                if n:
                    ink = "#000000" if found / n > 0.45 else "#ffffff"
                    axes.text(i + 0.5, k + 0.5, f"{found}/{n}", ha="center", va="center",
                              color=ink, fontsize=8)
        axes.set_xlim(0, len(lengths))
        axes.set_ylim(n_bins, 0)
        axes.set_xticks([i + 0.5 for i in range(len(lengths))],
                        [layout.tokens(length) if length else "not\nstated" for length in lengths])
        axes.set_yticks([0, n_bins / 2, n_bins], ["0 %", "50 %", "100 %"])
        axes.tick_params(length=0, labelbottom=True)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_title(re.sub(" (?=anchor|window|overlap)", "\n", name), fontsize=10)
    for axes in grid[:, 0]:
        axes.set_ylabel("depth in the context")
    figure.supxlabel("length, tokens", fontsize=10, color=theme["ink"])
    scale = plt.cm.ScalarMappable(plt.Normalize(0, 100), colours)
    bar = figure.colorbar(scale, ax=grid, shrink=0.8 / n_rows, aspect=22, pad=0.02, anchor=(0, 1))
    bar.set_label("found, %")
    bar.outline.set_visible(False)


def strip(figure, theme, data):
    """Every reference of one length and setting at its place, a lane a task.

    data: lanes [task], dots [(at, lane, kind)], kinds {kind: its words} of "found", "lost" and
    "neither", block_size, anchor_size, n_context (the longest).
    """
    lanes, end = data["lanes"], data["n_context"]
    figure.set_size_inches(WIDTH, 1.35 + 0.36 * len(lanes))
    axes = figure.subplots()
    if data["anchor_size"]:
        axes.axvspan(0, data["anchor_size"], color="#56b4e9", alpha=0.22, linewidth=0)
        axes.axvline(data["anchor_size"], color="#0072b2", linewidth=2.2)
    size = data["block_size"]
    edges = [*range(0, end, size), end]
    for seam in edges[1:-1]:
        axes.axvline(seam, color=theme["quiet"], linewidth=1, linestyle=(0, (3, 2)))
    kinds = {"found": ("o", FOUND, FOUND), "lost": ("D", LOST, LOST),
             "neither": ("o", LOST, "none")}
    placed = layout.aside(data["dots"], 0.011 * end)
    for kind, name in data["kinds"].items():
        mark, edge, face = kinds[kind]
        own = [place for place in placed if place[2] == kind]
        axes.scatter([place[0] for place in own], [place[1] for place in own], s=26, marker=mark,
                     edgecolors=edge, facecolors=face, linewidths=1.3, zorder=3, clip_on=False,
                     label=f"{name}: {len(own)}")
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_yticks(range(len(lanes)), lanes)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.set_xlabel("place of the reference in the context, tokens")
    above = axes.secondary_xaxis("top")
    every = math.ceil((len(edges) - 1) / 16)
    middles = [(a + b) / 2 for a, b in zip(edges, edges[1:])]
    labels = [f"{'block ' if i == 1 or len(middles) <= 8 else ''}{i}"
              for i in range(1, len(middles) + 1)]
    above.set_xticks(middles[::every], labels[::every])
    above.tick_params(length=0, colors=theme["quiet"], labelsize=9)
    above.spines["top"].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    handles.append(plt.Line2D([], [], color=theme["quiet"], linewidth=1, linestyle=(0, (3, 2))))
    names.append(f"seam, every {size:,} tokens")
    if data["anchor_size"]:
        handles.append(plt.Line2D([], [], color="#0072b2", linewidth=2.2))
        names.append(f"the anchor's end, at {data['anchor_size']:,}")
    figure.legend(handles, names, loc="outside lower left", ncols=3 if len(names) > 4 else 4,
                  frameon=False, fontsize=9)


def place_labels(figure, axes, points, labels, style):
    """A label beside each (name, x, [value, low, high]), where it covers least.
    labels: {name: text}"""
    figure.canvas.draw()
    scale = figure.dpi / 72
    to_dots = axes.transData.transform
    inside = axes.get_window_extent()
    full = to_dots((1, 0))[0]
    line = (full - 2 * scale, inside.y0, full + 2 * scale, inside.y1)
    taken = []
    for _, x, (value, low, high) in points:
        (px, py), bottom, top = to_dots((x, value)), to_dots((x, low))[1], to_dots((x, high))[1]
        taken += [(px - 6 * scale, py - 6 * scale, px + 6 * scale, py + 6 * scale),
                  (px - 3 * scale, bottom, px + 3 * scale, top)]
    for name, x, (value, _, _) in sorted(points, key=lambda point: -point[2][0]):
        text = axes.annotate(labels[name], (x, value), fontsize=9.5)
        box = text.get_window_extent()
        text.remove()
        point, size = to_dots((x, value)), (box.width, box.height)
        offset = layout.offset_of(point, size, inside.extents, taken, line, scale)
        taken.append(layout.box_at(point, size, offset, scale))
        colour = style[name][0]
        leader = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.7}
        axes.annotate(labels[name], (x, value), offset, textcoords="offset points", va="center",
                      ha="right" if offset[0] < 0 else "left", fontsize=9.5, color=colour,
                      arrowprops=leader if layout.has_line(offset) else None)


def trade(figure, theme, data):
    """Score against TTFT. data: all_settings, points [(setting, ratio, [value, low, high])],
    labels {setting: text}, reference."""
    figure.set_size_inches(WIDTH, 5)
    axes = figure.subplots()
    style = styles(data["all_settings"], theme)
    for name, x, (value, low, high) in data["points"]:
        colour, mark, hatch = style[name]
        axes.errorbar(x, value, yerr=[[value - low], [high - value]], color=colour, marker=mark,
                      markersize=8, linewidth=1.2, capsize=3,
                      markerfacecolor=theme["ground"] if hatch else colour)
    axes.axvline(1, color=theme["quiet"], linewidth=1, linestyle=(0, (3, 2)))
    ratios = [x for _, x, _ in data["points"]]
    axes.set_xscale("log")
    axes.set_xlim(min(ratios) / 1.12, max(ratios) * 1.12)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(layout.ratio_ticks(*axes.get_xlim()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
    lows, highs = [v[1] for _, _, v in data["points"]], [v[2] for _, _, v in data["points"]]
    room = 0.08 * (max(highs) - min(lows)) + 1
    axes.set_ylim(min(lows) - room, max(highs) + room)
    axes.grid(True, color=theme["grid"], linewidth=0.7)
    axes.set_xlabel(f"median TTFT, of {data['reference']}'s (left is faster)")
    axes.set_ylabel("overall score, %")
    place_labels(figure, axes, data["points"], data["labels"], style)


PAINTERS = {"grouped": grouped, "heat": heat, "strip": strip, "trade": trade}


def png(figure):
    """256 colours are enough for a chart, and a third of the size."""
    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    Image.open(raw).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True)
    return small.getvalue()


def draw(chart):
    """The chart's PNG for light pages and the one for dark pages."""
    found = []
    for theme in THEMES.values():
        settings = {
            "font.size": 10, "font.family": "DejaVu Sans", "axes.spines.top": False,
            "axes.spines.right": False, "axes.axisbelow": True, "hatch.linewidth": 0.8,
            "xtick.labelsize": 9, "ytick.labelsize": 9,
            **{key: theme["ground"] for key in ("figure.facecolor", "axes.facecolor")},
            **{key: theme["ink"] for key in ("text.color", "axes.edgecolor", "axes.labelcolor",
                                             "xtick.color", "ytick.color")}
        }
        with plt.rc_context(settings):
            figure = plt.figure(layout="constrained", dpi=DPI)
            PAINTERS[chart.painter](figure, theme, chart.data)
            found.append(png(figure))
            plt.close(figure)
    return tuple(found)
