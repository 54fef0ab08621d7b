"""The report's sections on scores and time, as parts of a page."""

import collections

import report_data as data
import report_words as words
from report_data import ABOVE, OVERALL
from report_page import Chart, Heading, Table, Text


def glance(runs):
    """The table at the top: every model, length and setting in a line."""
    rows = []
    for run in runs:
        for length in run.lengths:
            for setting in run.compared_at(length):
                row, above = run.row(length, setting, OVERALL), run.row(length, setting, ABOVE)
                if row and row["difference"]:
                    rows.append([f"{run.model}, {run.prompt}",
                                 f"{length:,}" if length else "not stated", setting,
                                 f"{row['n_pairs']:,}", words.kept(row), words.kept(above),
                                 words.ttft(row)])
    if not rows:
        return []
    return [Table("What is kept of full attention's score, with 95 % intervals. \"Above 20\": over "
                  "the tasks that full attention scores above 20 %.",
                  ["model, kind of prompt", "length, tokens", "setting", "samples", "kept, overall",
                   "kept, overall above 20", "median TTFT, of full attention's"], rows,
                  words=(2,))]


def shared(run, length):
    """What one chart or table needs to know of a length: a name for its files and heading links."""
    return f"{run.name}-{length or 'any'}"


def plan_of(run, length, setting, field):
    """A field of the settings' plans: '1,024' or '960 to 1,024'."""
    values = {one[field] for one in run.samples(length, setting).values()}
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def lead_sentence(run, length, setting):
    row, above = run.row(length, setting, OVERALL), run.row(length, setting, ABOVE)
    if not row or not row["difference"]:
        return None
    text = (f"**{setting}** keeps **{words.kept(row)}** of {run.reference}'s overall score, on "
            f"{words.counted(row['n_pairs'], 'sample', 'samples')} of "
            f"{words.counted(row['n_tasks'], 'task', 'tasks')}")
    if above and above["retention"]:
        text += (f"; **{words.kept(above)}** over the {above['n_tasks']} that {run.reference} "
                 f"scores above 20 % ({words.counted(above['n_pairs'], 'sample', 'samples')})")
    if row["ttft_ratio"] is not None:
        text += f". Its median TTFT is **{words.ttft(row)}** of {run.reference}'s"
    zero = words.holds_zero(row["difference"])
    return (f"{text}. In points of the overall score that is {words.points(row)}: " +
            ("the interval holds 0, so the samples show neither a loss nor a gain."
             if zero else "the interval does not hold 0."))


def unequal(run, length):
    """A warning where settings have not the same samples, as in a run that is not complete."""
    settings = run.settings_at(length)
    sets = {setting: run.samples(length, setting).keys() for setting in settings}
    every = set().union(*sets.values())
    fewer = [f"{name} {len(own):,}" for name, own in sets.items() if len(own) < len(every)]
    if not fewer:
        return []
    return [Text(f"**Not every setting has all {len(every):,} samples**: {', '.join(fewer)}. "
                 "Scores are of what each has, and compare only roughly; differences and what is "
                 "kept are of samples that both have.")]


def headline(run, length):
    settings, counts = run.compared_at(length), machines(run, length)
    one_machine = len(counts) == 1 and None not in counts  # or seconds do not compare
    parts = unequal(run, length)
    lead = "star L/4" if "star L/4" in settings else (settings or [""])[0]
    sentence = lead_sentence(run, length, lead) if lead else None
    if sentence:
        parts.append(Text(sentence))
    rows = []
    for setting in run.settings_at(length):
        row, above = run.row(length, setting, OVERALL), run.row(length, setting, ABOVE)
        if row is None:
            continue
        star = setting not in data.FULL
        rows.append([setting, plan_of(run, length, setting, "block_size") if star else "–",
                     plan_of(run, length, setting, "anchor_size") if star else "–",
                     plan_of(run, length, setting, "window") if star else "–",
                     plan_of(run, length, setting, "overlap") if star else "–",
                     f"{row['n_samples']:,}", f"{row['n_tasks']}", words.interval(row["score"]),
                     words.kept(row), words.kept(above), words.ttft(row)] +
                    [f"{row['ttft_s']:.2f}"] * one_machine)
    if rows:
        parts.append(Table(
            "The settings. Block, anchor and overlap are in tokens, the window in blocks. TTFT is the "
            "evaluation's own, of the median sample: no benchmark.",
            ["setting", "block", "anchor", "window", "overlap", "samples", "tasks", "overall score, %",
             "kept", "kept, above 20", f"TTFT, of {run.reference or 'full attention'}'s"] +
            ["TTFT, s"] * one_machine, rows))
        parts += machine_line(counts)
    return parts


def machines(run, length):
    """What the predictions were made on, each with their number; None: they do not tell."""
    return collections.Counter(
        tuple(one[name] for name in data.MACHINE_FIELDS) if "cpu" in one else None
        for setting in run.settings_at(length) for one in run.samples(length, setting).values())


def machine_line(counts):
    """What the times are of; nothing where no prediction tells."""
    if set(counts) <= {None}:
        return []
    told = []
    for machine, n in counts.most_common():
        name = "a machine that was not recorded"
        if machine:
            cpu, isa, linear, threads = machine
            name = (f"{cpu or 'a CPU without a name'}, {words.counted(threads, 'thread', 'threads')} "
                    f"(attention {isa}, linear layers {linear})")
        told.append(f"{name}: {words.counted(n, 'prediction', 'predictions')}")
    several = " Seconds of several machines do not compare, so there are none; shares are of one run each." * (
        len(told) > 1)
    return [Text(f"The times are of {'; '.join(told)}.{several}")]


def llama_line(run, length, comparison):
    """Dense against llama.cpp's own attention; comparison is llama's, or None."""
    row = run.row(length, "llama", OVERALL)
    if comparison is None or not row or not row["difference"]:
        return []
    return [Text(f"Dense against llama.cpp's own attention (`llama`: stock): llama less dense is "
                 f"{words.points(row)} points of the overall score, on "
                 f"{words.counted(row['n_pairs'], 'sample', 'samples')}. The answers' texts are "
                 f"the same in {words.share(comparison.n_same_text, comparison.n_pairs)}.")]


def group_parts(run, length):
    """Tasks, then domains and overall."""
    groups = run.groups_at(length)
    return ([group for group in groups if run.is_task(group)],
            [group for group in groups if not run.is_task(group)])


def numbered(run, length, groups, settings, key):
    """[(group, "4" or "3 to 4")]: how many samples the settings have."""
    found = []
    for group in groups:
        counts = [run.row(length, name, group)[key] for name in settings
                  if run.row(length, name, group)]
        if counts and max(counts) > 0:
            low, high = min(counts), max(counts)
            found.append((group, f"{low:,}" if low == high else f"{low:,} to {high:,}"))
    return found


def chart_and_table(run, length, settings, key, words_of):
    """What the charts of scores and of differences share: (chart's data, table's rows)."""
    count = "n_samples" if key == "score" else "n_pairs"
    parts = [numbered(run, length, groups, settings, count) for groups in group_parts(run, length)]
    values, rows = {}, []
    for group, n in [one for part in parts for one in part]:
        cells = []
        for name in settings:
            row = run.row(length, name, group)
            if row and row[key]:
                values[group, name] = row[key]
            cells.append(words_of(row))
        rows.append([group, n, *cells])
    return {"parts": parts, "settings": settings, "all_settings": run.settings,
            "values": values}, rows


def said(run, length, settings, key, show):
    """Overall's figures for a chart's alternative text."""
    rows = [(name, run.row(length, name, OVERALL)) for name in settings]
    return "; ".join(f"{name} {show(row)}" for name, row in rows if row and row[key])


def scores(run, length):
    settings = run.settings_at(length)
    score = lambda row: words.interval(row["score"] if row else None)  # noqa: E731
    chart, rows = chart_and_table(run, length, settings, "score", score)
    chart.update(kind="bars", limits=(0, 103), label="score, %")
    title = f"Score by task at {words.length_title(length)}"
    overall = said(run, length, settings, "score", score)
    return [
        Heading(4, "Score by task", f"{shared(run, length)}-scores"),
        Chart(f"{shared(run, length)}-scores", "grouped", chart,
              f"{title}: bars for {', '.join(settings)}, with 95 % intervals. " +
              (f"Overall, in per cent: {overall}. " if overall else "") +
              "All figures are in the table that follows.",
              f"{title}. Lines on the bars: 95 % intervals; n: samples; a dash: none."),
        Table(f"{title}, in per cent, with 95 % intervals; n: samples of each setting.",
              ["task", "n", *settings], rows)
    ]


def differences(run, length):
    settings = run.compared_at(length)
    if not any(run.row(length, name, group) and run.row(length, name, group)["difference"]
               for name in settings for group in run.groups_at(length)):
        return []
    full = run.reference
    chart, rows = chart_and_table(run, length, settings, "difference", words.points)
    chart.update(kind="dots", limits=None, label="points")
    title = f"Difference to {full} in points at {words.length_title(length)}"
    means = [[group, *(words.kept(run.row(length, name, group)) for name in settings)]
             for group in group_parts(run, length)[1]]
    parts = [
        Heading(4, f"Difference to {full}", f"{shared(run, length)}-difference"),
        Text(f"Shown in points and not in per cent kept: where {full} scores little, a point is "
             f"many per cent of its score, and where it scores 0 there is nothing to keep. "
             f"Above 0: better than {full}. An interval that holds 0 shows neither a loss nor a "
             "gain."),
        Chart(f"{shared(run, length)}-difference", "grouped", chart,
              f"{title}: dots for {', '.join(settings)}, with 95 % intervals. "
              f"Overall: {said(run, length, settings, 'difference', words.points)}. "
              "All figures are in the table that follows.",
              f"{title}. Lines: 95 % intervals; n: samples that both have."),
        Table(f"{title}, with 95 % intervals; n: samples that both have.",
              ["task", "n", *settings], rows)
    ]
    if means:
        parts.append(Table(f"What is kept of {full}'s score, with 95 % intervals.",
                           ["of", *settings], means))
    return parts


def against_each_other(run, length):
    """Which setting to take: a triangle of star's settings."""
    settings = run.compared_at(length)
    has_above = any(run.pair(length, one, other, ABOVE) for one in settings for other in settings)
    group = ABOVE if has_above else OVERALL
    pairs = {(one, other): run.pair(length, one, other, group)
             for one in settings for other in settings}
    columns = [other for other in settings if any(pairs[one, other] for one in settings)]
    rows = [[one, *(words.points(pairs[one, other]) for other in columns)]
            for one in settings if any(pairs[one, other] for other in settings)]
    if not rows:
        return []
    counts = [pair["n_pairs"] for pair in pairs.values() if pair]
    low, high = min(counts), max(counts)
    of = f"the tasks that {run.reference} scores above 20 %" if has_above else "all tasks"
    return [
        Heading(4, "Settings against each other", f"{shared(run, length)}-pairs"),
        Table(f"A line's setting less a column's, in points of the mean over {of}, with 95 % "
              f"intervals, on the {f'{low:,}' if low == high else f'{low:,} to {high:,}'} samples "
              "that both have. An interval that holds 0 does not settle which of the two is better.",
              ["", *(f"less {name}" for name in columns)], rows)
    ]


def trade(run, length):
    """Score against TTFT; needs a full attention to be the measure."""
    points, labels = [], {}
    full = run.row(length, run.reference, OVERALL)
    for name in run.settings_at(length):
        row = run.row(length, name, OVERALL)
        if not row or not (name == run.reference or row["ttft_ratio"]):
            continue
        points.append((name, 1 if name == run.reference else row["ttft_ratio"], row["score"]))
        # Scores of other samples stand beside each other, but do not compare.
        other = full and row["n_samples"] != full["n_samples"]
        labels[name] = (f"{name} ({words.counted(row['n_samples'], 'sample', 'samples')})"
                        if other else name)
    if run.reference is None or len(points) < 2:
        return []
    title = f"Score against TTFT at {words.length_title(length)}"
    other_samples = "" if all(name == label for name, label in labels.items()) else (
        f" A point with a number of samples has not the {full['n_samples']:,} of the others, and its "
        "score does not compare with theirs: what is kept, above, is of the same samples.")
    listed = "; ".join(f"{labels[name]} at {ratio:.2f}: {words.interval(score)}"
                       for name, ratio, score in points)
    return [
        Heading(4, "Score against TTFT", f"{shared(run, length)}-ttft"),
        Chart(f"{shared(run, length)}-ttft", "trade",
              {"points": points, "labels": labels, "all_settings": run.settings,
               "reference": run.reference},
              f"{title}, a point a setting. Overall score in per cent: {listed}.",
              f"{title}. Up is better, left is faster; lines: 95 % intervals of the overall score. "
              f"TTFT is the median over samples of its share of {run.reference}'s, which is at 1."
              + other_samples)
    ]
