#!/usr/bin/env python3
"""TTFT, decode and peak memory of llama.cpp's own attention, dense and star, in one run.

    bench/ttft.py [-m MODEL] [-p TOKENS] [--block-size N] [-r ROUNDS] [-t THREADS]

Runs `build/aster ask` on the bundled yearbook, repeated to the length asked for, once per attention
and round, interleaved, so that a drift of the machine meets all alike. Prints medians with the
smallest and largest, and the ratio to llama.cpp taken round by round. `--attention llama` is stock
llama.cpp: its attention, its KV cache, its linear layers, from the same source and build.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ASTER = ROOT / "build" / "aster"


def count_tokens(text, model):
    run = subprocess.run([ASTER, "tokenize", "-m", model, "--count", "-f", "-"], input=text.encode(),
                         stdout=subprocess.PIPE, check=True)
    return int(run.stdout)


def document(n_tokens, model):
    """The yearbook, over and over, cut to at most n_tokens less what the chat template adds."""
    book = (ROOT / "data" / "skarholm.txt").read_text()
    text = book * (n_tokens // 6000 + 1)
    low, high = 0, len(text)
    while high - low > 40:
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(text[:middle], model) <= n_tokens - 40 else (low, middle)
    return text[:low]


def ask(path, arguments, options):
    command = [ASTER, "ask", "-m", options.model, "-f", path, "-q", "Who keeps this yearbook?",
               "--temp", "0", "-n", "32", "--no-progress", "--json", *arguments]
    if options.threads:
        command += ["-t", str(options.threads)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if run.returncode != 0:
        sys.exit(run.stderr.decode().strip())
    return json.loads(run.stdout)


def spread(values, form):
    return f"{form % statistics.median(values)} ({form % min(values)} to {form % max(values)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="smollm2")
    parser.add_argument("-p", "--n-prompt", type=int, default=8000)
    parser.add_argument("--block-size", default="1K")
    parser.add_argument("-r", "--rounds", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=0)
    options = parser.parse_args()
    ways = {"llama.cpp": ["--attention", "llama"], "dense": ["--attention", "dense"],
            f"star, block {options.block_size}":
                ["--attention", "star", "--block-size", options.block_size]}
    runs = {way: [] for way in ways}
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(document(options.n_prompt, options.model))
        file.flush()
        for _ in range(options.rounds):
            for way, arguments in ways.items():
                runs[way].append(ask(file.name, arguments, options))
    first = runs["llama.cpp"][0]
    print(f"{first['model']}: {first['n_context']} tokens of context, {first['threads']} threads, "
          f"{options.rounds} rounds; median (smallest to largest)\n")
    print("| attention | kernels, linear layers | TTFT, s | of llama.cpp's TTFT | decode, tokens/s | "
          "peak RSS, MB |\n|---|---|---|---|---|---|")
    for way, results in runs.items():
        ttft = [r["ttft_ms"] / 1e3 for r in results]
        ratio = [r["ttft_ms"] / stock["ttft_ms"] for r, stock in zip(results, runs["llama.cpp"])]
        kernels = "ggml's" if way == "llama.cpp" else f"{results[0]['isa']}, {results[0]['linear']}"
        print(f"| {way} | {kernels} | {spread(ttft, '%.1f')} | {spread(ratio, '%.2f')} | "
              f"{spread([r['decode_tokens_per_s'] for r in results], '%.0f')} | "
              f"{max(r['peak_rss_bytes'] for r in results) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
