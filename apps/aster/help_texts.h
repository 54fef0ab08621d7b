// What --help says of each command, around its options.
#pragma once

namespace aster::cli {

inline constexpr const char* kTopHelp =
    R"(Usage: aster COMMAND [options]

Answers questions about long documents on your own machine, with Star Attention
on top of llama.cpp.

Commands:
  ask          Answer one or more questions about a document.
  chat         Talk about a document, turn by turn.
  bench        Time prefill and decode.
  serve        Answer over HTTP, as OpenAI's API does, and remember contexts.
  eval         Score a long-context benchmark: what star keeps of the accuracy.
  tokenize     Show the tokens of a text.
  model list   The models that Aster can fetch, and where they lie.
  model fetch  Download one of them.
  model info   Facts of a model: sizes, trained length, memory per token.

`aster COMMAND --help` has the options of a command.)";

inline constexpr const char* kTopFooter =
    R"(Example:
  aster ask -m model.gguf -f book.txt -q "Who stole the bicycle?"

Exit codes: 0 done; 1 a file, a model, memory or the output failed; 2 wrong usage;
130, 143 stopped by SIGINT (Ctrl-C), SIGTERM, which serve ends by with 0.)";

inline constexpr const char* kAskHelp =
    R"(Usage: aster ask -f FILE -q TEXT [options]

Answers questions about a document. The answer goes to standard output as it comes;
the plan, progress and a summary go to standard error. Ctrl-C ends the answer and
keeps what was said; a second one ends the program at once.)";

inline constexpr const char* kAskFooter =
    R"(--json: answer (text), finish (end_of_text, stop_string, max_tokens, context_full or
  cancelled), attention, n_context, n_query, n_generated (tokens), block_size,
  anchor_size (tokens), window (blocks), overlap (tokens), n_blocks, isa, linear, model,
  threads, ttft_ms, prefill_tokens_per_s, decode_tokens_per_s, kv_bytes, peak_rss_bytes,
  top_logprobs (the ten likeliest first tokens as [text, natural log of the probability]).
  ttft_ms is the time to the first token: of the first question with encoding the
  document, of a later one without.

Examples:
  aster ask -m model.gguf -f book.txt -q "Who stole the bicycle?"
  aster ask -f a.txt -f b.txt -q "What do they agree on?" -q "Where do they differ?"
  pdftotext paper.pdf - | aster ask -q "Sum up the method." --attention star --block-size 4K
  aster ask -m model.gguf -f log.txt -q "What failed first?" --temp 0 --json)";

inline constexpr const char* kChatHelp =
    R"(Usage: aster chat -f FILE [options]

Loads a document, then answers the questions it reads from standard input, one a line.
Every turn sees the document and the turns before it. /exit or Ctrl-D ends; Ctrl-C ends
an answer, and at the prompt the program.)";

inline constexpr const char* kChatFooter =
    R"(--json prints one object a turn; `aster ask --help` lists its fields.

Examples:
  aster chat -m model.gguf -f book.txt
  aster chat -m model.gguf -f report.txt --attention star --system "Be brief.")";

inline constexpr const char* kBenchHelp =
    R"(Usage: aster bench [-m MODEL] [options]

Times the prefill (to the first token) of prompts and the decode at depths, in the manner
of llama-bench, after checking that each kind of attention answers as llama.cpp's does.)";

inline constexpr const char* kBenchFooter =
    R"(tokens/s is the mean of the samples ± their standard deviation; TTFT is in it whole. A
decode's depth is encoded once, by the same attention, and not timed. json: a row has test,
n_prompt, n_depth, n_gen, model, model_type, model_size_bytes, n_params, cpu, isa, linear,
threads, ubatch_size, attention, block_size, anchor_size, window, overlap, n_blocks, ttft_ms and
tokens_per_s (a sample each), tokens_per_s_mean, tokens_per_s_stddev, kv_bytes, peak_rss_bytes,
predicted_rss_bytes (what was resident before, and the KV store), check_logprob_diff (mean
distance from llama.cpp's ten likeliest tokens), profile_ms (with --profile).

Examples:
  aster bench -p 512,4K -n 32 -d 0,4K --attention dense,star,llama -r 3
  aster bench -m model.gguf -p 32K -n 0 --attention star --block-size 2K,4K,8K --profile
  ASTER_ISA=avx2 aster bench -o jsonl)";

inline constexpr const char* kBenchHostsHelp =
    R"(Usage: aster bench hosts [-m MODEL] [options]

What encoding a context over several hosts would take, from this machine alone: the work of
each host is run by itself, one after another, with made-up keys where others would send theirs,
and its messages are noted. Then the messages are replayed over links of the speeds asked for,
until the last host is done. Hosts with the same work are run once: the first, and the one with
the most.)";

inline constexpr const char* kBenchHostsFooter =
    R"(Columns: the slowest host's own work; what a host sends at most; when the last host is done, at
each speed of the links; the same by the cost model that --anchor auto decides by.

-o jsonl has in each row: model, isa, linear, threads, n_context, hosts, way, block_size,
anchor_size, work_s (of each host run, in order), kv_bytes (that a host holds at most),
bytes_sent, messages_sent, link_gbit, done_s and predicted_s (lists, one per link),
round_trip_ms, s_per_token, s_per_pair.

Examples:
  aster bench hosts -p 16K --hosts 2,4,8
  aster bench hosts -m model.gguf -p 64K --hosts 8 --ways ring,contiguous --link 10)";

inline constexpr const char* kEvalHelp =
    R"(Usage: aster eval -m MODEL --data PATH -o DIR [options]
       aster eval -o DIR

Scores answers of a long-context benchmark, RULER's or BABILong's, under full attention and
under any settings of star, on the same samples: what star keeps of the accuracy, and how much
sooner the answer comes. A run that is stopped goes on when the same command is given again.)";

inline constexpr const char* kEvalFooter =
    R"(Samples: one JSON object a line, or an array of them, with input_context, input_query and
outputs; or RULER's input, answer_prefix and outputs; or BABILong's input, question and target.
Optional: task (else the file's name), index, max_seq_length, tokens_to_generate. scripts/ruler
makes RULER's tasks for a model. Answers are greedy.

DIR/predictions.jsonl has a line for each sample and setting, as it is done: the answer, the
score, times and the machine they are of, sizes, and where in the context each reference
stands. What a setting encodes exactly as the sample's first one did it takes over, and its
times count what that took there. The tables go to standard output and, with all figures, to
DIR/summary.json; scripts/eval-report draws them.

Examples:
  scripts/ruler --lengths 4K --samples 20 -o ruler
  aster eval --data ruler -o results --attention dense,star --block-size L/4,L/8
  aster eval --data ruler -o results --attention star --block-size L/8 --window 0,1)";

inline constexpr const char* kTokenizeHelp =
    R"(Usage: aster tokenize TEXT [options]
       aster tokenize -f FILE [options]

Prints the token ids of a text on standard output and their number on standard error.)";

inline constexpr const char* kTokenizeFooter =
    R"(--json: n_tokens, tokens (ids), texts (of each token).

Examples:
  aster tokenize "Hello world"
  aster tokenize -m model.gguf -f book.txt --count)";

inline constexpr const char* kModelHelp =
    R"(Usage: aster model list [--json]
       aster model fetch NAME
       aster model info [-m MODEL] [--json]

Lists, downloads and describes models.)";

inline constexpr const char* kFetchHelp =
    R"(Usage: aster model fetch NAME

Downloads a model of the catalogue into ${XDG_CACHE_HOME:-~/.cache}/aster/models, checks
its SHA-256 and prints its path. A model that is there already is not downloaded again.)";

inline constexpr const char* kListHelp =
    R"(Usage: aster model list [--json]

Lists the models that Aster can fetch.)";

inline constexpr const char* kInfoHelp =
    R"(Usage: aster model info [-m MODEL] [--json]

Facts of a model: what it is, its sizes, the length it was trained for, the memory that a
token of context takes, and how many tokens fit this machine.)";

inline constexpr const char* kServeHelp =
    R"(Usage: aster serve [-m MODEL] [options]

Answers over HTTP, as OpenAI's API does (http://127.0.0.1:8080/v1), with a page at /. A
context is encoded once, and every later question about it pays for the question alone. Runs
until Ctrl-C or SIGTERM: then it takes no more requests and lets those under way finish; a
second signal ends it at once.)";

inline constexpr const char* kServeFooter =
    R"(The last user message of a chat is the query, what precedes it the context. docs/serve.md says
more; docs/security.md what is defended and what is not. Each request is a line on standard
error, without any of its text.

Examples:
  aster serve
  aster serve -m model.gguf --kv-memory 16G --parallel 8 --attention star
  aster serve --host 0.0.0.0 --api-key-file keys.txt --tls-cert cert.pem --tls-key key.pem)";

}  // namespace aster::cli
