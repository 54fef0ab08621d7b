"""The engines as commands: what to run for a case, and how to read what it prints.

A case is a prefill of n_tokens, whose value is the TTFT in ms, or a decode of n_gen tokens behind
n_tokens, whose value is in tokens/s. Adding an engine: name and label below, a command, a reader.
"""

import dataclasses
import json
import statistics

LABELS = {
    "aster-dense": "Aster dense", "aster-star": "Aster star", "llama.cpp": "llama.cpp",
    "openvino": "OpenVINO"
}
PEERS = ("llama.cpp", "openvino")
GROUPS = {"aster": ("aster-dense", "aster-star"), **{name: (name,) for name in LABELS}}


class EngineError(Exception):
    """An engine ran but did not do what was asked; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: n_tokens is a prompt's length and n_gen 0, or n_tokens is a decode's depth."""
    n_tokens: int
    n_gen: int = 0

    @property
    def name(self):
        """llama-bench's name of it."""
        return f"tg{self.n_gen}@d{self.n_tokens}" if self.n_gen else f"pp{self.n_tokens}"

    @property
    def title(self):
        if self.n_gen:
            return f"decode of {self.n_gen} at {self.n_tokens:,}, tokens/s"
        return f"TTFT of {self.n_tokens:,} tokens, s"

    @classmethod
    def parse(cls, name):
        """The case of a name."""
        if name.startswith("pp"):
            return cls(int(name[2:]))
        n_gen, depth = name[2:].split("@d")
        return cls(int(depth), int(n_gen))


def label(engine, settings):
    """The engine's name in tables and the chart."""
    if engine == "aster-star":
        return f"{LABELS[engine]}, block {settings['block_size']:,}"
    return LABELS[engine]


def is_one_block(engine, case, settings):
    """Whether star has one block here, which is dense attention: nothing to run."""
    return engine == "aster-star" and case.n_tokens <= settings["block_size"]


def aster_command(engine, case, settings):
    command = [
        "bench", "-m", settings["model"], "-r", "1", "-o", "jsonl", "--no-progress", "--allow-long",
        "-t",
        str(settings["threads"])
    ]
    command += (["-p", "0", "-n", str(case.n_gen), "-d",
                 str(case.n_tokens)] if case.n_gen else ["-p", str(case.n_tokens), "-n", "0"])
    command += ["--attention", engine.removeprefix("aster-"), "--linear", settings["linear"]]
    if engine == "aster-star":
        command += ["--block-size", str(settings["block_size"]), "--anchor-size", "auto"]
    if settings["ubatch_size"]:
        command += ["-ub", str(settings["ubatch_size"])]
    return command


def llama_command(case, settings):
    command = [
        "-m", settings["model"], "-fa", "1", "-r", "1", "-o", "jsonl", "-t",
        str(settings["threads"])
    ]
    command += (["-p", "0", "-n", str(case.n_gen), "-d",
                 str(case.n_tokens)] if case.n_gen else ["-p", str(case.n_tokens), "-n", "0"])
    if settings["ubatch_size"]:
        command += [
            "-ub",
            str(settings["ubatch_size"]), "-b",
            str(max(2048, settings["ubatch_size"]))
        ]
    return command + ([] if settings["warmup"] else ["--no-warmup"])


def openvino_command(case, settings):
    command = [
        "-m", settings["model"], "-p",
        str(case.n_tokens), "-n",
        str(case.n_gen), "-t",
        str(settings["threads"])
    ]
    return command + ([] if settings["warmup"] else ["--no-warmup"])


def command(engine, case, settings):
    """(arguments behind the program's name, additions to the environment)."""
    if engine == "llama.cpp":
        return llama_command(case, settings), {}
    if engine == "openvino":
        return openvino_command(case, settings), {}
    return aster_command(engine, case,
                         settings), {"ASTER_ISA": settings["isa"]} if settings["isa"] else {}


def aster_value(case, row):
    return statistics.median(row["tokens_per_s"] if case.n_gen else row["ttft_ms"])


def llama_value(case, row):
    return row["avg_ts"] if case.n_gen else row["avg_ns"] / 1e6


def openvino_value(case, row):
    return row["tokens_per_s"] if case.n_gen else row["ttft_ms"]


def read(engine, case, out):
    """(value, the engine's own row) from what it printed: the last line that is a JSON object."""
    rows = [line for line in out.splitlines() if line.startswith("{")]
    try:
        row = json.loads(rows[-1]) if rows else None
    except ValueError:
        row = None
    if row is None:
        raise EngineError("printed no JSON row")
    want = (case.n_tokens, case.n_gen)
    depth = row.get("n_depth", 0) if engine != "openvino" and case.n_gen else row.get("n_prompt")
    if (depth, row.get("n_gen")) != want:
        raise EngineError(f"ran {depth} and {row.get('n_gen')} tokens, not {want[0]} and {want[1]}")
    value = {"llama.cpp": llama_value, "openvino": openvino_value}.get(engine, aster_value)(case,
                                                                                            row)
    if not value or value <= 0:
        raise EngineError(f"printed {value} as its figure")
    return value, row
