"""One case of OpenVINO GenAI on a GGUF: prints TTFT and decode rate as one JSON object.

  openvino_runner.py -m MODEL -p N_PROMPT -n N_GEN -t THREADS [--no-warmup]

The prompt is N_PROMPT token ids, since OpenVINO's tokenizer cuts long texts. N_GEN tokens are
decoded behind the first one, which belongs to the prompt's time. Everything else is OpenVINO's
default. A warm-up encodes another prompt of the same length first, as llama-bench does: another,
because the pipeline keeps what it has encoded and would find the same prompt there.

Runs in the virtual environment of bench/peers/openvino.txt. Exit code 1: one line says what failed.
"""

import argparse
import json
import random
import sys

READS = "Q4_0, Q4_1, Q8_0, Q4_K, Q6_K and F16 of llama, qwen2 and qwen3 models"


def generate(pipeline, n_prompt, n_new, vocabulary, seed):
    """Encodes n_prompt random ids and samples n_new tokens greedily; returns the perf metrics."""
    import numpy
    import openvino
    import openvino_genai
    ids = random.Random(seed).choices(range(vocabulary), k=n_prompt)
    config = openvino_genai.GenerationConfig(max_new_tokens=n_new, ignore_eos=True, do_sample=False)
    tensor = openvino.Tensor(numpy.array([ids], dtype=numpy.int64))
    metrics = pipeline.generate(tensor, config).perf_metrics
    done = metrics.get_num_input_tokens(), metrics.get_num_generated_tokens()
    if done != (n_prompt, n_new):
        raise RuntimeError(
            f"expected {n_prompt} tokens in and {n_new} out, got {done[0]} and {done[1]}")
    return metrics


def measure(options):
    import openvino
    import openvino_genai
    pipeline = openvino_genai.LLMPipeline(options.model, "CPU",
                                          INFERENCE_NUM_THREADS=options.threads)
    vocabulary = len(pipeline.get_tokenizer().get_vocab())
    n_prompt = max(options.n_prompt, 1)  # a depth of 0 still needs a token to begin with
    generate(pipeline, n_prompt if options.warmup else 16, 2, vocabulary, 1)
    metrics = generate(pipeline, n_prompt, options.n_gen + 1, vocabulary, 2)
    core = openvino.Core()
    precision = {
        name.lower(): str(core.get_property("CPU", name).get_type_name())
        for name in ("KV_CACHE_PRECISION", "INFERENCE_PRECISION_HINT")
    }
    steps_us = list(metrics.raw_metrics.m_durations)
    return {
        "version": openvino_genai.__version__, "n_prompt": options.n_prompt, "n_gen": options.n_gen,
        "threads": options.threads, "ttft_ms": metrics.get_ttft().mean,
        "tokens_per_s": len(steps_us) * 1e6 / sum(steps_us) if steps_us else None, **precision
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--n-prompt", type=int, required=True)
    parser.add_argument("-n", "--n-gen", type=int, required=True)
    parser.add_argument("-t", "--threads", type=int, required=True)
    parser.add_argument("--no-warmup", dest="warmup", action="store_false")
    options = parser.parse_args()
    try:
        print(json.dumps(measure(options)))
    except Exception as error:  # whatever the library throws: its last line says most
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        hint = f"; it reads {READS}" if "gguf" in str(error).lower() else ""
        print(f"{lines[-1] if lines else type(error).__name__}{hint}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
