"""The paper's own rows beside ours."""

import report_data as data
import report_words as words
from report_page import Heading, Table, Text

# Acharya, Jia, Ginsburg, "Star Attention", arXiv 2411.17116: RULER on A100s against ring attention.
# (model, block, [(length, ring's accuracy, star's change in points, speed-up)])
PAPER = (
    ("Llama-3.1-8B-Instruct", "L/4", ((16, 92.22, -0.94, 1.1), (32, 87.53, 1.17, 1.2),
                                      (64, 84.79, -1.42, 1.8), (128, 76.31, -1.90, 2.7))),
    ("Llama-3.1-70B-Instruct", "L/4", ((16, 95.09, -2.71, 1.7), (32, 94.61, -2.55, 2.0),
                                       (64, 88.54, -1.44, 4.7))),
    ("Llama-3-8B-Instruct-1048K", "32K", ((128, 77.39, 0.96, 2.7), (256, 74.44, -0.77, 10.8),
                                          (512, 69.30, -6.73, 16.2), (1024, 63.70, -5.32, 16.9))),
)


def paper_rows():
    for model, block, lengths in PAPER:
        for length, full, change, faster in lengths:
            yield [f"paper: {model}", f"{length}K" if length < 1024 else "1M", f"star {block}",
                   "not stated", f"{full:.2f}", f"{change:+.2f}",
                   f"{100 * (full + change) / full:.1f} %", f"{faster:.1f}x"]


def our_rows(runs):
    for run in runs:
        for length in run.lengths:
            full = run.row(length, run.reference, data.OVERALL)
            for setting in run.compared_at(length):
                row = run.row(length, setting, data.OVERALL)
                if not full or not row or not row["difference"]:
                    continue
                faster = f"{1 / row['ttft_ratio']:.2f}x" if row["ttft_ratio"] else "–"
                yield [f"ours: {run.model}, {run.prompt}",
                       f"{length:,}" if length else "not stated", setting,
                       f"{row['n_pairs']:,}, {row['n_tasks']} tasks", words.interval(full["score"]),
                       words.points(row), words.kept(row), faster]


def section(runs):
    ours = list(our_rows(runs))
    if not ours:
        return []
    return [
        Heading(2, "Beside the paper", "paper"),
        Text("The paper's rows are its own (Acharya, Jia, Ginsburg, arXiv 2411.17116): RULER, its "
             "models and lengths, on A100s. Its full attention is a ring over several hosts, and "
             "its speed-up is end to end against that ring. Ours is TTFT on one machine against "
             "dense attention of the same program. The models, lengths and machines differ, so the "
             "rows stand side by side and cannot be divided by each other."),
        Table("Overall RULER score of full attention, star's change in points, and what it keeps. "
              "The paper states no intervals; its \"kept\" is computed here from its two figures.",
              ["model", "length", "setting", "samples", "full attention", "change, points", "kept",
               "speed-up"], [*paper_rows(), *ours], words=(2,))
    ]
