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
  std::int64_t length = 0;  // tokens it was made for: "max_seq_length", else the path's, else 0
  std::string context;      // all before the question
  std::string query;        // from the question on, without the answer prefix
  std::string question;     // BABILong's, without our words around it
  std::string answer_prefix;
  std::vector<std::string> references;  // never empty
  int max_new_tokens = 0;               // "tokens_to_generate", else the task's

  // 64 bits of all texts above, and of the answer's length where it is not the task's, as 16
  // hexadecimal digits: tells whether a prediction is of them.
  std::string Fingerprint() const;
};

// The text of one file. The task is the field "task"; else the file's name without its ending, or
// the folder's where that is validation, test or a length: "4096/qa_1.jsonl", "qa1/4k.json",
// "4096/qa_1/validation.jsonl". A length is nK, nM or a multiple of 1024. Errors, kWorld: the file,
// the line or the row, what was found and what was expected.
Result<std::vector<Sample>> ParseSamples(std::string_view text, const std::string& path);

// Reads a file, or all .json and .jsonl files below a folder, sorted by path; each result is one
// file's. The folder `except` is left out, if it is below. Errors besides: two files with a sample
// of the same task, length and index, which nothing would tell apart.
Result<std::vector<std::vector<Sample>>> ReadSamples(const std::string& path,
                                                     const std::string& except = {});

}  // namespace aster::eval
