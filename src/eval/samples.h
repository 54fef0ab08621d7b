// Samples of a benchmark, as files hold them: one JSON object a line, or one array of them.
//
// Three forms are read. Star Attention's reference has `input_context` and `input_query`, RULER
// `input` (the question is found by RULER's own words for it) and maybe `answer_prefix`, both with
// `outputs`; BABILong has `input`, `question` and `target`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aster/status.h"
#include "eval/tasks.h"

namespace aster::eval {

struct Sample {
  std::string task;
  std::int64_t index = 0;   // "index", else the place in the file
  std::int64_t length = 0;  // tokens it was made for: "max_seq_length", else 0
  std::string context;      // all before the question
  std::string query;        // from the question on, without the answer prefix
  std::string answer_prefix;
  std::vector<std::string> references;  // never empty
  int max_new_tokens = 0;               // "tokens_to_generate", else the task's

  // 64 bits of all texts above, as 16 hexadecimal digits: tells whether a prediction is of them.
  std::string Fingerprint() const;
};

// The text of one file. The task is the field "task"; else the file's name without its ending, or
// the folder's where the file is called validation or test. Errors, kWorld: the file, the line or
// the row, what was found and what was expected.
Result<std::vector<Sample>> ParseSamples(std::string_view text, const std::string& path);

// Reads a file, or all .json and .jsonl files below a folder, sorted by path; each result is one
// file's.
Result<std::vector<std::vector<Sample>>> ReadSamples(const std::string& path);

}  // namespace aster::eval
