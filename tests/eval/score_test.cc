// Our scorer against RULER's own, on predictions that record_official_scores.py had it score.
#include "eval/score.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace aster::eval {
namespace {

TEST(Score, IsTheOfficialScorersOnRecordedPredictions) {
  std::ifstream file(ASTER_OFFICIAL_SCORES);
  const auto rows = nlohmann::json::parse(file);
  ASSERT_GE(rows.size(), 25u);
  for (const auto& row : rows) {
    const Task task = FindTask(row.at("task").get_ref<const std::string&>());
    const auto prediction = row.at("pred").get<std::string>();
    const auto references = row.at("outputs").get<std::vector<std::string>>();
    EXPECT_NEAR(100 * Score(task, prediction, references, ""), row.at("score").get<double>(), 1e-9)
        << row.dump();
  }
}

struct LabelCase {
  const char* task;
  const char* question;
  const char* prediction;
  const char* target;
  double score;
};

TEST(Score, LabelsCountWhenTheyAloneAreNamedInTheFirstSentence) {
  const LabelCase cases[] = {
      {"qa1", "Where is Mary?", " The kitchen.", "kitchen", 1},
      {"qa1", "Where is Mary?", "KITCHEN", "kitchen", 1},
      {"qa1", "Where is Mary?", "In the garden or the kitchen", "kitchen", 0},
      {"qa1", "Where is Mary?", "In the garden", "kitchen", 0},
      {"qa1", "Where is Mary?", "I do not know", "kitchen", 0},
      {"qa1", "Where is Mary?", "", "kitchen", 0},
      {"qa1", "Where is Mary?", "The kitchen. Then the garden.", "kitchen", 1},
      {"qa4", "What is north of the office?", "North of the office is the garden", "garden", 1},
      {"qa5", "What did Fred give to Bill?", "Fred gave Bill the milk", "milk", 1},
      {"qa5", "Who gave the milk to Bill?", "Fred or Jeff", "fred", 0},
      {"qa1", "Where is Mary?", "Answer:\nthe kitchen", "kitchen", 1},
      {"qa1", "Where is Mary?", "the kitchen\n<example> the garden", "kitchen", 1},
      {"qa1", "Where is Mary?", "the kitchen <CONTEXT> the garden", "kitchen", 1},
      {"qa7", "How many things does Mary carry?", "None", "none", 0},  // "one" is in it
      {"qa8", "What does Mary carry?", "The apple and the milk", "apple,milk", 1},
      {"qa8", "What does Mary carry?", "The milk, the apple", "apple,milk", 1},
      {"qa8", "What does Mary carry?", "The apple", "apple,milk", 0},
      {"qa8", "What does Mary carry?", "Apple, milk and football", "apple,milk", 0},
      {"qa8", "What does Mary carry?", "The apple and the milk", "apple", 0},
      {"qa19", "How do you go from the hall to the park?", "n,w", "n,w", 1},
      {"qa19", "How do you go from the hall to the park?", "north, then west", "n,w", 0},
  };
  for (const LabelCase& c : cases) {
    EXPECT_EQ(Score(FindTask(c.task), c.prediction, std::vector<std::string>{c.target}, c.question),
              c.score)
        << c.task << ": " << c.prediction;
  }
}

TEST(Score, BytesThatAreNoTextStayAsTheyAre) {
  EXPECT_EQ(LowerCase("A\xFF\x80Z\xC3"), "a\xFF\x80z\xC3");
  EXPECT_EQ(Score(FindTask("vt"), "ABC\xF0\x9F", std::vector<std::string>{"abc"}, ""), 1);
}

TEST(Tasks, RulersThirteenAreKnownWithItsNumbersOfNewTokens) {
  const struct {
    const char* name;
    const char* domain;
    int max_new_tokens;
  } cases[] = {{"niah_single_1", "retrieval", 128},
               {"niah_multiquery", "retrieval", 128},
               {"vt", "tracing", 30},
               {"cwe", "aggregation", 120},
               {"fwe", "aggregation", 50},
               {"qa_1", "qa", 32},
               {"qa_2", "qa", 32},
               {"my_task", "other", 128}};
  for (const auto& c : cases) {
    EXPECT_EQ(FindTask(c.name).domain, c.domain) << c.name;
    EXPECT_EQ(FindTask(c.name).max_new_tokens, c.max_new_tokens) << c.name;
  }
}

}  // namespace
}  // namespace aster::eval
