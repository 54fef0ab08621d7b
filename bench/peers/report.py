"""From runs to tables: medians, ratios, results.md and results.json.

A run is one line of runs.jsonl (see rounds.py). A ratio is taken within a round, where both figures
met the same state of the machine, and the median is over those ratios. Ratios say how many times as
fast as a peer: above 1 is faster, for a TTFT and for a decode alike.
"""

import json
import statistics

import engines

BUSY = 0.1  # cores kept busy by other programs, from which on the table warns


class DamagedLog(Exception):
    """A runs.jsonl holds something else; the message is one line."""


def load(path):
    """(header, later notes, runs) of a runs.jsonl; a last line that was cut off is left out."""
    header, notes, runs = None, [], []
    for i, line in enumerate(path.read_text().splitlines(keepends=True)):
        if not line.endswith("\n"):
            break
        try:
            entry = json.loads(line)
        except ValueError:
            raise DamagedLog(f"{path}, line {i + 1}: expected a JSON object") from None
        if "comparison" in entry:
            header = entry["comparison"]
        elif "resumed" in entry:
            notes.append(entry["resumed"])
        else:
            runs.append(entry)
    return header, notes, runs


def samples(runs, case, engine, key="value"):
    """{round: figure} of the runs that succeeded."""
    return {
        run["round"]: run[key] for run in runs
        if run["case"] == case.name and run["engine"] == engine and run["status"] == "ok"
    }


def summary(values):
    """Median, smallest, largest and count; None of nothing."""
    values = list(values)
    if not values:
        return None
    return {
        "median": statistics.median(values), "min": min(values), "max": max(values),
        "n": len(values)
    }


def ratios(runs, case, engine, peer):
    """{round: how many times as fast as the peer}, of the rounds that have both."""
    own, other = samples(runs, case, engine), samples(runs, case, peer)
    both = sorted(own.keys() & other.keys())
    if case.n_gen:
        return {number: own[number] / other[number] for number in both}
    return {number: other[number] / own[number] for number in both}


def failure(runs, case, engine):
    """Why the last run of a cell failed; None where it did not, or there is none."""
    own = [run for run in runs if run["case"] == case.name and run["engine"] == engine]
    return own[-1]["reason"] if own and own[-1]["status"] == "failed" else None


def figure(value):
    """A positive number with three digits, and never fewer than stand before the point."""
    digits = max(0, 3 - len(str(int(value)))) if value >= 1 else 3
    return f"{value:,.{digits}f}"


def spread(found, scale=1.0):
    """'1.23 (1.20 to 1.31)'; the figure alone where there is one."""
    text = figure(found["median"] * scale)
    if found["n"] > 1:
        text += f" ({figure(found['min'] * scale)} to {figure(found['max'] * scale)})"
    return text


def table(head, rows):
    """A Markdown table, its columns as wide as their cells."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width)
                                       for cell, width in zip(line, widths)) + " |"
                     for line in lines)


def cell(runs, case, engine, settings):
    if engines.is_one_block(engine, case, settings):
        return "one block: as dense"
    found = summary(samples(runs, case, engine).values())
    if found:
        return spread(found, 1 if case.n_gen else 1e-3)
    return "failed" if failure(runs, case, engine) else "not run"


def pairs(chosen):
    """(engine, peer) for every ratio."""
    return [(engine, peer) for peer in engines.PEERS if peer in chosen for engine in chosen
            if engine not in engines.PEERS]


def figures_table(runs, cases, chosen, settings):
    head = ["case", *(engines.label(engine, settings) for engine in chosen)]
    rows = [[case.title, *(cell(runs, case, engine, settings) for engine in chosen)]
            for case in cases]
    return table(head, rows)


def ratios_table(runs, cases, chosen):
    wanted = pairs(chosen)
    rows = []
    for case in cases:
        found = [summary(ratios(runs, case, *pair).values()) for pair in wanted]
        rows.append(
            [case.title.rpartition(",")[0], *(spread(one) if one else "-" for one in found)])
    head = [
        "case", *(f"{engines.LABELS[engine]} / {engines.LABELS[peer]}" for engine, peer in wanted)
    ]
    return table(head, rows)


def memory_table(runs, cases, chosen, settings):
    rows = []
    for case in cases:
        peaks = [samples(runs, case, engine, "peak_rss_bytes").values() for engine in chosen]
        rows.append([
            f"prefill of {case.n_tokens:,}",
            *(f"{max(peak) / 1e6:,.0f}" if peak else "-" for peak in peaks)
        ])
    return table(["case", *(engines.label(engine, settings) for engine in chosen)], rows)


def failures(runs, cases, chosen):
    """One line for each reason, with the cases that it stopped."""
    stopped = {}
    for engine in chosen:
        for case in cases:
            reason = failure(runs, case, engine)
            if reason:
                stopped.setdefault((engine, reason), []).append(case.name)
    return [
        f"- {engines.LABELS[engine]} failed in {', '.join(names)}: {reason}"
        for (engine, reason), names in stopped.items()
    ]


def first_row(runs, engine):
    return next((run["row"] for run in runs if run["engine"] == engine and run["status"] == "ok"),
                None)


def aster_note(settings, versions, rows):
    row = rows[0]
    forced = " (forced; the peers chose for themselves)" if settings["isa"] else ""
    drift = max(one.get("check_logprob_diff") or 0 for one in rows)
    return (f"- Aster {versions['aster']}: {row.get('isa')} kernels{forced}, linear layers "
            f"{row.get('linear')}, KV cache bf16; checked before timing: at most {drift:.2f} from "
            "llama.cpp's log probabilities.")


def llama_note(_, versions, rows):
    return (f"- llama.cpp ({versions['llama.cpp']}): llama-bench -fa 1, KV cache "
            f"{rows[0].get('type_k')}, ubatch {rows[0].get('n_ubatch')}.")


def openvino_note(_, versions, rows):
    return (f"- OpenVINO GenAI {versions['openvino']}: its defaults, KV cache "
            f"{rows[0].get('kv_cache_precision')}, inference precision "
            f"{rows[0].get('inference_precision_hint')}.")


def engine_notes(header, runs, chosen):
    """What each engine ran with, in a line each."""
    notes = []
    writers = {"aster": aster_note, "llama.cpp": llama_note, "openvino": openvino_note}
    for group, note in writers.items():
        names = set(engines.GROUPS[group]) & set(chosen)
        rows = [run["row"] for run in runs if run["engine"] in names and run["status"] == "ok"]
        if rows:
            notes.append(note(header["settings"], header["versions"], rows))
    return notes


def warnings(header, resumed, runs):
    notes = []
    busiest = max((run.get("other_cores", 0) for run in runs), default=0)
    if busiest > BUSY:
        notes.append(f"- **Not a quiet machine**: other programs kept up to {busiest:.1f} of "
                     f"{header['machine']['hardware_threads']} CPUs busy during a run.")
    if resumed:
        notes.append(
            f"- Stopped and taken up again: {', '.join(note['time'] for note in resumed)}.")
    return notes


def count(n, thing):
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def heading(header, runs, chosen):
    """What ran, where and when, in a paragraph."""
    settings, machine = header["settings"], header["machine"]
    rows = filter(None, (first_row(runs, engine) for engine in chosen))
    kind = next((f" ({row['model_type']})" for row in rows if row.get("model_type")), "")
    return (f"{settings['model_name']}{kind}, {count(settings['threads'], 'thread')} of "
            f"{machine['cpu']} ({count(machine['cores'], 'core')}, "
            f"{machine['memory_bytes'] / 1e9:.1f} GB, "
            f"{' '.join(machine['flags']) or 'no AVX2'}), Linux {machine['kernel']}; "
            f"{count(len({run['round'] for run in runs}), 'interleaved round')}, begun "
            f"{header['time']}.")


def document(header, resumed, runs, cases, chosen):
    """The whole of results.md."""
    settings = header["settings"]
    parts = [heading(header, runs, chosen), "Median (smallest to largest):",
             figures_table(runs, cases, chosen, settings)]
    if pairs(chosen):
        parts += ["Times as fast, each round by itself; above 1 is faster:",
                  ratios_table(runs, cases, chosen)]
    prefills = [case for case in cases if not case.n_gen]
    if prefills:
        parts += ["Peak memory of the whole process, MB:",
                  memory_table(runs, prefills, chosen, settings)]
    notes = failures(runs, cases, chosen) + warnings(header, resumed, runs)
    parts += ["\n".join(notes + engine_notes(header, runs, chosen)), f"`{header['command']}`"]
    return "\n\n".join(filter(None, parts)) + "\n"


def results(header, resumed, runs, cases, chosen):
    """results.json, as a dictionary: everything in runs.jsonl, with summaries and ratios."""
    figures, divided = [], []
    for case in cases:
        for engine in chosen:
            found = samples(runs, case, engine)
            figures.append({
                "case": case.name, "engine": engine,
                "label": engines.label(engine, header["settings"]),
                "unit": "tokens/s" if case.n_gen else "ms",
                "n_tokens": case.n_tokens, "n_gen": case.n_gen,
                "one_block": engines.is_one_block(engine, case, header["settings"]),
                "samples": found, "summary": summary(found.values()),
                "failed": failure(runs, case, engine)
            })
        for engine, peer in pairs(chosen):
            found = ratios(runs, case, engine, peer)
            divided.append({
                "case": case.name, "engine": engine, "peer": peer, "times_as_fast": found,
                "summary": summary(found.values())
            })
    return {**header, "resumed": resumed, "figures": figures, "ratios": divided, "runs": runs}
