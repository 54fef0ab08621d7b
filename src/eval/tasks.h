// The tasks that are known by name: RULER's 13 (arXiv 2404.06654) and BABILong's 20 (arXiv
// 2406.10149).
#pragma once

#include <span>
#include <string_view>

namespace aster::eval {

enum class Scorer {
  kAll,    // the share of the references that the answer holds
  kAny,    // whether it holds one of them
  kLabel,  // whether the answer's first sentence names the right labels and no other
};

struct Task {
  std::string_view name;
  std::string_view domain;  // of the overall score: retrieval, tracing, aggregation, qa; babilong
  Scorer scorer = Scorer::kAll;
  int max_new_tokens = 128;                        // RULER's own
  std::span<const std::string_view> labels = {};   // of kLabel: all that an answer may name
  std::string_view answer_form = "a single word";  // that is asked for, in our words
};

// All, in the order of tables.
std::span<const Task> KnownTasks();

// The task of that name; a name that is not known is a task of domain "other", scored as RULER's
// needles are, with 128 tokens of answer. The returned name is `name` itself.
Task FindTask(std::string_view name);

}  // namespace aster::eval
