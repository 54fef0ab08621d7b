// Predictions as a file keeps them: one JSON object a line, appended as each is done.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aster/status.h"

namespace aster::eval {

// What the times depend on besides the model. Older files do not tell: empty there.
struct Machine {
  std::string cpu;     // as the system names it
  std::string isa;     // of the attention kernels
  std::string linear;  // who computes the linear layers of a prefill
  std::int64_t threads = 0;
};

struct Prediction {
  std::string model;          // the GGUF's file name
  std::string model_file;     // FileFingerprint of it; empty: an older file, which does not tell
  std::string prompt;         // "chat" or "bare"
  std::string chat_template;  // Fingerprint of one given for the model's own, else empty
  std::string run;            // of one process: times of different runs are never compared
  std::string task;
  std::int64_t index = 0;
  std::string sample;       // Sample::Fingerprint
  std::int64_t length = 0;  // tokens the sample was made for; 0 = not known
  std::string setting;      // as it was asked for: "dense", "star L/4", ...
  std::string attention;    // of the plan
  std::int64_t block_size = 0, anchor_size = 0, window = 0, overlap = 0;
  std::int64_t n_context = 0, n_query = 0;  // tokens
  // Where in the context each reference first stands: its first token; -1 = nowhere.
  std::vector<std::int64_t> reference_at;
  std::vector<std::string> references;
  std::string question;  // where the scorer looks at it, else empty
  std::string text;
  std::string finish;
  // Tokens whose keys the sample's first setting had computed just so, and lent; encode_seconds
  // counts what they took there.
  std::int64_t n_taken_over = 0;
  double encode_seconds = 0, query_seconds = 0, decode_seconds = 0;
  Machine machine;  // that the times are of

  double ttft_seconds() const { return encode_seconds + query_seconds; }
  // What makes it the same work: a run that goes on skips what it finds under this key.
  std::string Key() const;
  // Task, index and length, which a sample that was changed keeps.
  std::string Place() const;
  // In [0, 1], by the task's scorer.
  double Score() const;
};

// One line, with its line feed. The score is in it for readers; ParsePrediction ignores it.
std::string JsonLine(const Prediction& prediction);

// Errors, kWorld: what is missing or of another type. `where` names the line.
Result<Prediction> ParsePrediction(std::string_view line, const std::string& where);

// All lines of the file; none for a file that is not there. A last line without its line feed was
// cut off by a crash: it is left out, and *n_whole_bytes says where it starts.
Result<std::vector<Prediction>> ReadPredictions(const std::string& path,
                                                std::int64_t* n_whole_bytes);

}  // namespace aster::eval
