"""Draws TTFT against length from a comparison's results.json: chart.png and chart.svg beside it.

  chart.py FOLDER

Log-log, a line for every engine, bars from the smallest to the largest sample. Runs in the virtual
environment of bench/peers/plot.txt.
"""

import json
import math
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

# Okabe and Ito's colours, which the colour-blind can tell apart, and a mark of its own for each.
STYLE = {
    "aster-star": ("#d55e00", "o"), "aster-dense": ("#000000", "s"), "llama.cpp": ("#0072b2", "^"),
    "openvino": ("#009e73", "D")
}


def tokens(n, _=None):
    """8192 as 8K, 6080 as 6,080."""
    return f"{n / 1024:,.0f}K" if n >= 1024 and n % 1024 == 0 else f"{n:,.0f}"


def seconds(s, _=None):
    return f"{s:,.0f}" if s >= 1 else f"{s:g}"


def three_digits(s):
    return f"{s:,.0f}" if s >= 100 else f"{s:.3g}"


def lines(figures):
    """{engine: (label, [(length, median, smallest, largest in s)])} of the prefills."""
    found = {}
    for figure in figures:
        if figure["n_gen"] == 0 and figure["summary"]:
            point = (figure["n_tokens"],
                     *(figure["summary"][key] / 1e3 for key in ("median", "min", "max")))
            found.setdefault(figure["engine"], (figure["label"], []))[1].append(point)
    return found


def separate(places, least):
    """Moves rising places apart, in decades, until each is at least `least` above the one below."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for below, above in zip(order, order[1:]):
        moved[above] = max(moved[above], moved[below] + least)
    return moved


def draw(results, axes):
    found = lines(results["figures"])
    for engine, (_, points) in found.items():
        colour, mark = STYLE[engine]
        lengths, middle, low, high = zip(*sorted(points))
        bars = [[m - s for m, s in zip(middle, low)], [g - m for m, g in zip(middle, high)]]
        axes.errorbar(lengths, middle, yerr=bars, color=colour, marker=mark, markersize=6,
                      linewidth=2, capsize=3)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({point[0] for _, points in found.values() for point in points})
    times = [time for _, points in found.values() for point in points for time in point[1:]]
    axes.set_xlim(lengths[0] / 1.2, lengths[-1] * 1.2)
    axes.set_ylim(min(times) / 1.5, max(times) * 1.5)
    axes.set_xticks(lengths)
    axes.xaxis.set_major_formatter(FuncFormatter(tokens))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(seconds))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
        axis.set_tick_params(which="minor", length=0)
    decades = math.log10(max(times) * 1.5) - math.log10(min(times) / 1.5)
    ends = [max(points) for _, points in found.values()]
    heights = separate([math.log10(end[1]) for end in ends], 0.055 * decades)
    for (engine, (label, _)), end, height in zip(found.items(), ends, heights):
        where = "" if end[0] == lengths[-1] else f" at {tokens(end[0])}"
        axes.annotate(f"{label}: {three_digits(end[1])} s{where}", end[:2], (1.02, 10**height),
                      textcoords=axes.get_yaxis_transform(), va="center", color=STYLE[engine][0])


def main():
    folder = pathlib.Path(sys.argv[1])
    results = json.loads((folder / "results.json").read_text())
    if not lines(results["figures"]):
        print("no prefill has a figure", file=sys.stderr)
        return 1
    settings = results["settings"]
    plt.rcParams.update({
        "font.size": 11, "svg.fonttype": "none", "axes.spines.top": False,
        "axes.spines.right": False
    })
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    draw(results, axes)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("prompt, tokens")
    axes.set_ylabel("time to the first token, seconds")
    threads = f"{settings['threads']} thread{'s' if settings['threads'] > 1 else ''}"
    axes.set_title(f"{settings['model_name']}\n{threads} of {results['machine']['cpu']}; "
                   "marks: median, bars: smallest to largest", fontsize=11, loc="left")
    figure.savefig(folder / "chart.png", dpi=150)
    figure.savefig(folder / "chart.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
