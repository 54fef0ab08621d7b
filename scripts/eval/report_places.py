"""The report's sections on places: needles by depth, and where star lost, as parts of a page."""

import statistics

import report_samples as samples
import report_words as words
from report_data import FULL
from report_page import Chart, Heading, Table, Text
from report_sections import shared

MOST_LOST = 20  # samples in a table
MOST_REFERENCES = 3  # of a sample in a table
ANSWER = 120  # characters


def heat(run):
    """Needles by depth and length."""
    cells = {name: samples.cells(run, name) for name in run.settings}
    settings = [name for name in run.settings if cells[name]]
    if not settings:
        return []
    lengths = [length for length in run.lengths
               if any(key[0] == length for name in settings for key in cells[name])]
    sizes = [n for name in settings for _, n in cells[name].values()]
    title = "Needles found, by depth and length"
    middle = words.counted(int(statistics.median(sizes)), "reference", "references")
    few = ("" if statistics.median(sizes) >= 10 else
           f" Half of the fields have {middle} or fewer: one field says little by itself.")
    totals = "; ".join(
        f"{name} {words.share(*map(sum, zip(*cells[name].values())))}" for name in settings)
    rows = []
    for length in lengths:
        for k in range(samples.N_BINS):
            counts = [cells[name].get((length, k)) for name in settings]
            rows.append([f"{words.length_title(length)}, {10 * k} to {10 * k + 10} %",
                         *(f"{count[0]}/{count[1]}" if count else "0/0" for count in counts)])
    return [
        Heading(3, "Needles by depth and length", f"{run.name}-needles"),
        Text("All references of the niah tasks. Each reference of a sample counts by itself, at "
             "the depth where it first stands; it is found if the answer holds it, in whatever "
             "case. Several of one sample are not independent."),
        Chart(f"{run.name}-needles", "heat",
              {"settings": settings, "lengths": lengths, "cells": cells, "n_bins": samples.N_BINS},
              f"{title}, a panel a setting: {totals}. The fields are in the table that follows.",
              f"{title}. In each field: found/all; the colour is their share; no colour: no "
              f"reference there.{few}"),
        Table(f"{title}, found/all.", ["length, depth", *settings], rows, folded=True)
    ]


def kind_of(reference):
    if reference.found:
        return "found"
    return "lost" if reference.full_found in (True, None) else "neither"


def strip(run, length, setting):
    """Every needle of one length and setting; nothing where there is none."""
    found = samples.paired(run, length, samples.needles(run, length, setting))
    if not found:
        return []
    (block_size, anchor_size), usual = samples.usual_plan(found)
    lanes = list(dict.fromkeys(one.task for one in sorted(
        usual, key=lambda one: run.groups_at(length).index(one.task))))
    dots = [(one.at, lanes.index(one.task), kind_of(one)) for one in usual]
    count = {kind: sum(dot[2] == kind for dot in dots) for kind in ("found", "lost", "neither")}
    full = run.reference_at(length)
    kinds = {"found": "found", "lost": f"not found, but with {full}" if full else "not found",
             "neither": f"found with neither this nor {full}"}
    title = f"Needles with {setting} at {words.length_title(length)}"
    other = len(found) - len(usual)
    left_out = f" {other} references under plans with other sizes are left out." if other else ""
    return [
        Chart(f"{shared(run, length)}-needles-{words.slug(setting)}", "strip",
              {"lanes": lanes, "dots": dots, "block_size": block_size, "anchor_size": anchor_size,
               "n_context": max(one.n_context for one in usual),
               "kinds": {kind: name for kind, name in kinds.items() if full or kind != "neither"}},
              f"{title}, each at its place in the context, with a lane a task, blocks of "
              f"{block_size:,} tokens and an anchor of {anchor_size:,}. " + "; ".join(
                  f"{kinds[kind]}: {n}" for kind, n in count.items()
                  if full or kind != "neither") + ".",
              f"{title}. Each dot is one of {len(dots):,} references; the shaded part is the "
              f"anchor. Dots near each other stand a little higher or lower.{left_out}")
    ]


def places(run, length):
    """Strips and the table of places, for the settings of star."""
    charts, rows, reference = [], [], run.reference_at(length)
    for setting in run.compared_at(length):
        charts += strip(run, length, setting)
        found = samples.paired(run, length, samples.needles(run, length, setting))
        for place, count in samples.by_place(found).items() if found else ():
            against = [words.share(count.full, count.n), f"{count.lost:,}", f"{count.won:,}"]
            rows.append([setting, place, f"{count.n:,}", words.share(count.found, count.n)] +
                        against * (reference is not None))
    if not charts:
        return []
    return [
        Heading(4, "Needles and seams", f"{shared(run, length)}-seams"), *charts,
        Table("Needles found, by where they stand. What stands in the anchor, or in a block that "
              "sees all before it, was encoded as full attention encodes it: what is lost there "
              "is lost to the other blocks. Other blocks begin behind a seam that hides something from "
              "them; tokens are counted from there.",
              ["setting", "place", "references", "found"] +
              [f"found with {reference}", f"with {reference} alone", "with star alone"] * (reference is not None),
              rows, words=(1,))
    ]


def seam_words(distance):
    if distance is None:
        return "no seam"
    if distance == 0:
        return "at it"
    return f"{abs(distance):,} {'before' if distance < 0 else 'after'}"


def lost_row(run, prediction):
    missed = samples.missed(prediction)
    shown = missed[:MOST_REFERENCES]
    more = [f"and {len(missed) - len(shown)} more"] if len(missed) > len(shown) else []
    lines = [one.text for one in shown] or prediction["outputs"][:MOST_REFERENCES]
    answer = " ".join(prediction["pred"].split())
    return [
        f"{prediction['task']} {prediction['index']}",
        f"{100 * prediction['score']:.0f}",
        "\n".join(f"{100 * one.at / one.n_context:.0f} %" for one in shown) or "–",
        "\n".join(f"{samples.block_number(one.at, one.block_size)}" for one in shown) or "–",
        "\n".join(seam_words(one.to_seam) for one in shown) or "–",
        "\n".join(lines + more), answer[:ANSWER] + ("…" if len(answer) > ANSWER else "")
    ]


def lost(run, length, comparisons):
    """Where star lost, and the other way round. comparisons: {setting: Comparison}."""
    own = {name: one for name, one in comparisons.items() if name not in FULL and one.n_pairs}
    if not own:
        return []
    full = run.reference
    rows = [[name, f"{one.n_pairs:,}", f"{len(one.lost):,}", f"{one.n_won:,}", f"{one.n_lower:,}",
             f"{one.n_higher:,}"] for name, one in own.items()]
    parts = [
        Heading(4, "Where star lost", f"{shared(run, length)}-lost"),
        Table(f"Sample by sample against {full}. Right: a score of 100 %, every reference found "
              "(qa: any).",
              ["setting", "samples", f"{full} right, star not", f"star right, {full} not",
               f"lower than {full}", f"higher than {full}"], rows)
    ]
    for name, one in own.items():
        if not one.lost:
            continue
        more = len(one.lost) - MOST_LOST
        title = f"{name}: {words.counted(len(one.lost), 'sample', 'samples')} that {full} has right"
        if more > 0:
            title += f"; the first {MOST_LOST}, {more:,} more are not shown"
        parts.append(Table(
            f"{title}. The references are those that the answer lacks, each where it first stands: "
            "depth, block, and tokens to the nearest seam.",
            ["sample", "score, %", "depth", "block", "seam", "references missed", "answer"],
            [lost_row(run, prediction) for prediction in one.lost[:MOST_LOST]], words=(5, 6),
            folded=True))
    return parts
