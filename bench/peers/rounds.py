"""Runs every engine on every case, round by round, and writes each run down before the next one.

runs.jsonl has a JSON object a line: {"comparison": settings, machine, versions ...} first,
{"resumed": ...} where it was taken up again, and else a run: round, case, engine, time, command,
env, wall_s, cpu_s, peak_rss_bytes, other_cores, and status: "ok" with value and the engine's own
row, or "failed" with reason. The unit of value is in engines.py.
"""

import datetime
import fcntl
import json
import os
import statistics
import sys

import engines
import process


class LogInUse(Exception):
    """Another process writes the log; the message is one line."""


def now():
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


class Log:
    """runs.jsonl, held by one process; every line is on disk before the next run begins."""

    def __init__(self, path):
        self.file = open(path, "a+b")  # noqa: SIM115  (held until the process ends)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LogInUse(f"another bench/compare writes {path}") from None
        self.file.seek(0)
        whole = self.file.read().rfind(b"\n") + 1
        self.file.truncate(whole)  # a line that was cut off

    def add(self, entry):
        self.file.write(json.dumps(entry).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def cases_of(settings):
    prefills = [engines.Case(n) for n in settings["n_prompt"] if n]
    depths = settings["n_depth"] if settings["n_gen"] else []
    return prefills + [engines.Case(n, settings["n_gen"]) for n in depths]


def order(cases, chosen, number):
    """The cells of a round (number counts from 1); a case's engines, to be compared, one by one."""

    def rotated(items):
        first = (number - 1) % len(items)
        return items[first:] + items[:first]

    return [(case, engine) for case in rotated(cases) for engine in rotated(chosen)]


def time_left(todo, runs):
    """'about 12 min left', from earlier runs of the same cells; 'at least' where some have none."""
    seconds, known = 0.0, True
    for case, engine in todo:
        own = [
            run["wall_s"] for run in runs
            if run["case"] == case.name and run["engine"] == engine and run["status"] == "ok"
        ]
        known = known and bool(own)
        seconds += statistics.median(own) if own else 0
    if not seconds:
        return "time left unknown"
    return f"{'about' if known else 'at least'} {duration(seconds)} left"


def duration(seconds):
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def run_once(case, engine, number, settings, program, timeout_s):
    """Runs a cell: the record for runs.jsonl."""
    arguments, env = engines.command(engine, case, settings)
    record = {
        "round": number, "case": case.name, "engine": engine, "time": now(),
        "command": [*program, *arguments], "env": env
    }
    done = process.run(record["command"], timeout_s, env)
    record |= {
        "wall_s": round(done.wall_s, 3), "cpu_s": round(done.cpu_s, 3),
        "peak_rss_bytes": done.peak_rss_bytes, "other_cores": round(done.other_cores, 3)
    }
    reason = done.failure(timeout_s)
    if reason is None:
        try:
            value, row = engines.read(engine, case, done.out)
            return record | {"status": "ok", "value": value, "row": row}
        except (engines.EngineError, KeyError, TypeError) as error:
            known = isinstance(error, engines.EngineError)
            reason = str(error) if known else f"printed a row without {error}"
    return record | {"status": "failed", "reason": reason}


def outcome(case, record):
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    value = record["value"]
    return f"{value:.1f} tokens/s" if case.n_gen else f"{value / 1e3:.2f} s"


def run_rounds(settings, programs, reasons, timeout_s, log, runs):
    """Runs every cell of every round that has no figure yet, appending to runs and to the log."""
    done = {(run["round"], run["case"], run["engine"]) for run in runs if run["status"] == "ok"}
    todo = [(number, case, engine) for number in range(1, settings["rounds"] + 1)
            for case, engine in order(cases_of(settings), settings["engines"], number)
            if not engines.is_one_block(engine, case, settings)]
    todo = [cell for cell in todo if (cell[0], cell[1].name, cell[2]) not in done]
    failed = {}
    for i, (number, case, engine) in enumerate(todo):
        reason = reasons.get(engine) or failed.get((case, engine))
        if reason:
            if (case, engine) not in failed:
                failed[case, engine] = reason
                record = {
                    "round": number, "case": case.name, "engine": engine, "time": now(),
                    "status": "failed", "reason": reason
                }
                runs.append(record)
                log.add(record)
            continue
        left = [(case, engine) for _, case, engine in todo[i:]
                if engine not in reasons and (case, engine) not in failed]
        print(
            f"compare: [{i + 1}/{len(todo)}] round {number}, {case.title.rpartition(',')[0]}, "
            f"{engines.label(engine, settings)} ({time_left(left, runs)}) ... ", end="",
            file=sys.stderr, flush=True)
        record = run_once(case, engine, number, settings, programs[engine], timeout_s)
        runs.append(record)
        log.add(record)
        if record["status"] == "failed":
            failed[case, engine] = record["reason"]
        print(outcome(case, record), file=sys.stderr, flush=True)
