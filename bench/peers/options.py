"""The command line of bench/compare, and the settings that a comparison keeps."""

import argparse
import pathlib

import engines

DESCRIPTION = "Aster, llama.cpp and OpenVINO GenAI on one GGUF, threads and lengths, interleaved."

USAGE = """\
bench/compare [-m MODEL] [-p N,...] [-d N,...] [-r ROUNDS] [options]
       bench/compare --resume [-o FOLDER]
       bench/compare --redraw FOLDER
       bench/compare --prepare"""

EPILOG = """\
A prefill is timed to its first token; a decode is timed behind a context that was encoded before.
Each round runs every engine on every case once, each in a process of its own, engine after engine
within a case, and the order rotates from round to round. Every engine gets N token ids: Aster and
OpenVINO a fixed pseudo-random sequence, llama-bench its own. Peers warm up with a prompt of full
length, and else keep their defaults; llama-bench runs with -fa 1. Speed is what counts here, so no
engine minds a prompt longer than the model was trained for.

Ratios say how many times as fast as a peer: above 1 is faster. They are taken round by round, of
figures of one comparison only.

The folder gets runs.jsonl (a line for every run, as soon as it is done), results.md (also printed),
results.json, chart.png and chart.svg. Ctrl-C leaves what is done. --resume goes on with the same
program and model, and tries again what failed. An engine that cannot run is named with its reason,
and not tried again before --resume.

The first comparison builds llama-bench and installs OpenVINO and matplotlib, each in a folder under
${XDG_CACHE_HOME:-~/.cache}/aster/peers; OpenVINO reads Q4_0, Q4_1, Q8_0, Q4_K, Q6_K and F16 only.

Commands to run instead, for tests: ASTER_BENCH_ASTER, ASTER_BENCH_LLAMA_BENCH,
ASTER_BENCH_LLAMA_QUANTIZE, ASTER_BENCH_OPENVINO.

Exit codes: 0 every case has a figure; 1 something failed; 2 wrong usage; 130, 143 stopped.

Examples:
  bench/compare -p 8192 -r 3
  bench/compare -m qwen2.5 --quantize Q8_0 -p 8K,16K,32K --block-size 4K -d 0,8K,32K
"""

# What may not change when a comparison is taken up; the rest may be extended.
FIXED = {
    "model": None, "quantize": None, "block_size": 4096, "n_gen": 32, "threads": None, "isa": None,
    "linear": "auto", "ubatch_size": None, "warmup": True
}
FREE = {
    "n_prompt": [8192, 32768], "n_depth": [0, 8192], "rounds": 3,
    "engines": ["aster-dense", "aster-star", "llama.cpp", "openvino"]
}


def tokens(text):
    """8192 or 8K."""
    try:
        n = int(text[:-1]) * 1024 if text[-1:] in ("K", "k") else int(text)
    except ValueError:
        n = -1
    if n < 0:
        raise argparse.ArgumentTypeError(f"'{text}': expected a number of tokens, as 8192 or 8K")
    return n


def token_list(text):
    return sorted({tokens(part) for part in text.split(",")})


def engine_list(text):
    unknown = [name for name in text.split(",") if name not in engines.GROUPS]
    if unknown:
        raise argparse.ArgumentTypeError(f"'{unknown[0]}': expected {', '.join(engines.GROUPS)}")
    chosen = {engine for name in text.split(",") for engine in engines.GROUPS[name]}
    return [engine for engine in engines.LABELS if engine in chosen]


def positive(text):
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': expected a number above 0")
    return int(text)


def make_parser():
    parser = argparse.ArgumentParser(
        usage=USAGE, description=DESCRIPTION, epilog=EPILOG, argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
            prog, max_help_position=28, width=98))
    what = parser.add_argument_group("what is compared")
    what.add_argument("-m", "--model",
                      help="a GGUF file, or a name from `aster model list`. Default: smollm2")
    what.add_argument("--quantize", metavar="TYPE",
                      help="requantise the model first, to Q8_0 say; kept in the cache")
    what.add_argument("-p", "--n-prompt", type=token_list, metavar="N,...",
                      help="lengths of the prefills; 0: none. Default: 8192,32768")
    what.add_argument("-d", "--n-depth", type=token_list, metavar="N,...",
                      help="depths of the decodes. Default: 0,8192")
    what.add_argument("-n", "--n-gen", type=tokens, metavar="N",
                      help="tokens of a decode; 0: no decodes. Default: 32")
    what.add_argument("--engines", type=engine_list, metavar="NAME,...",
                      help="of aster, aster-dense, aster-star, llama.cpp, openvino. Default: all")
    how = parser.add_argument_group("how")
    how.add_argument("-r", "--rounds", type=positive, metavar="N",
                     help="runs of everything. Default: 3")
    how.add_argument("-t", "--threads", type=positive, metavar="N",
                     help="threads of every engine. Default: the cores")
    how.add_argument("-ub", "--ubatch-size", type=positive, metavar="N",
                     help="of Aster and llama.cpp. Default: their own, 512")
    how.add_argument("--block-size", type=tokens, metavar="N",
                     help="of star, in tokens. Default: 4096")
    how.add_argument("--linear", choices=("auto", "ggml", "onednn", "onednn-f32", "onednn-bf16"),
                     help="who computes Aster's linear layers in a prefill. Default: auto")
    how.add_argument("--isa", choices=("scalar", "avx2", "avx512", "avx512bf16", "amx"),
                     help="force Aster's kernels; the peers keep what they choose")
    how.add_argument("--no-warmup", dest="warmup", action="store_false",
                     help="no full warm-up of the peers: saves half their time, at their cost")
    how.add_argument("--timeout", type=positive, metavar="S", default=3600,
                     help="longest time of one run, in seconds. Default: 3600")
    out = parser.add_argument_group("results")
    out.add_argument("-o", "--output", type=pathlib.Path, metavar="FOLDER",
                     help="where they go. Default: build/compare/<date and time>")
    out.add_argument("--resume", action="store_true", default=False,
                     help="go on in FOLDER, by default the newest, with its settings")
    out.add_argument("--redraw", type=pathlib.Path, metavar="FOLDER",
                     help="make table and chart again from its runs, and run nothing")
    out.add_argument("--no-chart", dest="chart", action="store_false", default=True,
                     help="no chart")
    out.add_argument("--prepare", action="store_true", default=False,
                     help="build and install the peers, and run nothing")
    return parser
