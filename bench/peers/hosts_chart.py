"""Draws speedup.png and flat.png from the runs.jsonl of bench/hosts.

  hosts_chart.py FOLDER

Runs in the virtual environment of bench/peers/plot.txt.
"""

import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402

LINK = 1  # of link_gbit: 10 Gbit/s
STYLE = {
    "star, broadcast": ("#d55e00", "o"), "star, recompute": ("#e69f00", "v"), "ring": ("#0072b2", "^")
}


def lines(rows, x, y):
    """{way: [(x, y)]}; what one host does alone begins the lines of star or of the ring."""
    found = {way: [] for way in STYLE}
    for row in rows:
        kind = "ring" if row["way"].startswith(("ring", "dense")) else "star"
        for way, points in found.items():
            if row["way"] == way or (row["hosts"] == 1 and way.startswith(kind)):
                points.append((x(row), y(row)))
    return {way: sorted(points) for way, points in found.items() if points}


def plot(axes, found, unit):
    for way, points in found.items():
        colour, mark = STYLE[way]
        axes.plot(*zip(*points), color=colour, marker=mark)
        axes.annotate(f" {way}: {points[-1][1]:.3g}{unit}", points[-1], color=colour, va="center")


def frame(axes, xs, x_label, y_label, title):
    axes.set_xscale("log", base=2)
    axes.set_xticks(xs)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(xs[0] / 1.1, xs[-1] * 2.6)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, fontsize=11, loc="left")


def speedup(rows, path):
    alone = {row["way"].split(",")[0]: row["done_s"][LINK] for row in rows if row["hosts"] == 1}
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    hosts = sorted({row["hosts"] for row in rows})

    def times(row):
        base = alone["dense" if row["way"].startswith(("ring", "dense")) else "star"]
        return base / row["done_s"][LINK]

    axes.plot(hosts, hosts, color="#999999", linestyle="--")
    middle = hosts[len(hosts) // 2]
    axes.annotate("ideal ", (middle, middle), (-4, 6), textcoords="offset points", color="#777777",
                  ha="right")
    plot(axes, lines(rows, lambda row: row["hosts"], times), "x")
    frame(axes, hosts, "hosts", "times as fast as one host, the same way",
          f"Encoding {rows[0]['n_context']:,} tokens, star in blocks of "
          f"{rows[0]['block_size']:,}, 10 Gbit/s; rehearsed on one machine")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:g}"))
    figure.savefig(path, dpi=150)


def flat(rows, path):
    figure, axes = plt.subplots(figsize=(9, 5.5), layout="constrained")
    found = lines(rows, lambda row: row["n_context"], lambda row: row["done_s"][LINK])
    plot(axes, found, " s")
    frame(axes, sorted({row["n_context"] for row in rows}), "context, tokens",
          "until the last host is done, seconds",
          f"One block of {rows[0]['n_context']:,} tokens a host: hosts grow with the context; 10 Gbit/s; "
          "rehearsed on one machine")
    axes.set_ylim(bottom=0)
    figure.savefig(path, dpi=150)


def main():
    folder = pathlib.Path(sys.argv[1])
    rows = [json.loads(line) for line in (folder / "runs.jsonl").read_text().splitlines()]
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    for name, draw in (("speedup", speedup), ("flat", flat)):
        chosen = [row for row in rows if row["case"] == name]
        if chosen:
            draw(chosen, folder / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
