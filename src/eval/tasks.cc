#include "eval/tasks.h"

namespace aster::eval {
namespace {

constexpr std::string_view kPlaces[] = {"bathroom", "bedroom", "garden",
                                        "hallway",  "kitchen", "office"};
constexpr std::string_view kGifts[] = {"bill", "fred", "jeff", "mary", "apple", "football", "milk"};

constexpr int kShort = 20;  // tokens of an answer of one word

constexpr Task kTasks[] = {
    {"niah_single_1", "retrieval"},
    {"niah_single_2", "retrieval"},
    {"niah_single_3", "retrieval"},
    {"niah_multikey_1", "retrieval"},
    {"niah_multikey_2", "retrieval"},
    {"niah_multikey_3", "retrieval"},
    {"niah_multivalue", "retrieval"},
    {"niah_multiquery", "retrieval"},
    {"vt", "tracing", Scorer::kAll, 30},
    {"cwe", "aggregation", Scorer::kAll, 120},
    {"fwe", "aggregation", Scorer::kAll, 50},
    {"qa_1", "qa", Scorer::kAny, 32},
    {"qa_2", "qa", Scorer::kAny, 32},
    {"qa1", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa2", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa3", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa4", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa5", "babilong", Scorer::kLabel, kShort, kGifts},
};

}  // namespace

std::span<const Task> KnownTasks() { return kTasks; }

Task FindTask(std::string_view name) {
  for (const Task& task : kTasks) {
    if (task.name == name) return task;
  }
  return {name, "other"};
}

}  // namespace aster::eval
