#include "eval/tasks.h"

namespace aster::eval {
namespace {

// What BABILong's answers may name, in lower case.
using Label = std::string_view;
constexpr Label kPlaces[] = {"bathroom", "bedroom", "garden", "hallway", "kitchen", "office"};
constexpr Label kGifts[] = {"bill", "fred", "jeff", "mary", "apple", "football", "milk"};
constexpr Label kYesOrNo[] = {"no", "yes"};
constexpr Label kCounts[] = {"none", "one", "three", "two"};
constexpr Label kCarried[] = {"apple", "football", "milk", "nothing"};
constexpr Label kYesNoMaybe[] = {"maybe", "no", "yes"};
constexpr Label kPlacesInTown[] = {"bedroom", "cinema", "kitchen", "office", "park", "school"};
constexpr Label kAnimals[] = {"cat", "mouse", "sheep", "wolf"};
constexpr Label kColours[] = {"gray", "green", "white", "yellow"};
constexpr Label kPaths[] = {"e,e", "e,n", "e,s", "n,e", "n,n", "n,w",
                            "s,e", "s,s", "s,w", "w,n", "w,s", "w,w"};
constexpr Label kMotives[] = {"bedroom", "bored",   "garden", "hungry",
                              "kitchen", "thirsty", "tired"};

constexpr std::string_view kYesOrNoForm = "yes or no";
constexpr std::string_view kYesNoMaybeForm = "yes, no or maybe";
constexpr std::string_view kCountForm = "none, one, two or three";
constexpr std::string_view kCarriedForm =
    "the names of the things, a comma between two, or the word nothing";
constexpr std::string_view kPathForm =
    "two letters for the two ways, such as n,w: north, then west";

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
    {"qa6", "babilong", Scorer::kLabel, kShort, kYesOrNo, kYesOrNoForm},
    {"qa7", "babilong", Scorer::kLabel, kShort, kCounts, kCountForm},
    {"qa8", "babilong", Scorer::kLabel, kShort, kCarried, kCarriedForm},
    {"qa9", "babilong", Scorer::kLabel, kShort, kYesOrNo, kYesOrNoForm},
    {"qa10", "babilong", Scorer::kLabel, kShort, kYesNoMaybe, kYesNoMaybeForm},
    {"qa11", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa12", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa13", "babilong", Scorer::kLabel, kShort, kPlaces},
    {"qa14", "babilong", Scorer::kLabel, kShort, kPlacesInTown},
    {"qa15", "babilong", Scorer::kLabel, kShort, kAnimals},
    {"qa16", "babilong", Scorer::kLabel, kShort, kColours},
    {"qa17", "babilong", Scorer::kLabel, kShort, kYesOrNo, kYesOrNoForm},
    {"qa18", "babilong", Scorer::kLabel, kShort, kYesOrNo, kYesOrNoForm},
    {"qa19", "babilong", Scorer::kLabel, kShort, kPaths, kPathForm},
    {"qa20", "babilong", Scorer::kLabel, kShort, kMotives},
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
