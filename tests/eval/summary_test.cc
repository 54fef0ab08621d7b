#include "eval/summary.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace aster::eval {
namespace {

Prediction Make(const std::string& task, std::int64_t index, const std::string& setting,
                bool is_right, double ttft_seconds = 1) {
  Prediction p;
  p.model = "m.gguf";
  p.prompt = "chat";
  p.run = "1";
  p.task = task;
  p.index = index;
  p.sample = "0123456789abcdef";
  p.length = 4096;
  p.setting = setting;
  p.attention = setting == "dense" ? "dense" : "star";
  p.references = {"right"};
  p.reference_at = {17};
  p.text = is_right ? "Right." : "wrong";
  p.finish = "end_of_text";
  p.encode_seconds = ttft_seconds;
  return p;
}

const SummaryRow& Find(const std::vector<SummaryRow>& rows, const std::string& setting,
                       const std::string& group) {
  for (const SummaryRow& row : rows) {
    if (row.setting == setting && row.group == group) return row;
  }
  static const SummaryRow none;
  ADD_FAILURE() << "no row " << setting << ", " << group;
  return none;
}

// Two samples of each of three tasks; star misses one of vt and finds nothing more.
std::vector<Prediction> SomePredictions() {
  std::vector<Prediction> all;
  for (const std::int64_t i : {0, 1}) {
    all.push_back(Make("vt", i, "dense", true, 2));
    all.push_back(Make("vt", i, "star L/4", i == 0, 1));
    all.push_back(Make("niah_single_1", i, "dense", true, 2));
    all.push_back(Make("niah_single_1", i, "star L/4", true, 1.5));
    all.push_back(Make("niah_single_2", i, "dense", false, 2));
    all.push_back(Make("niah_single_2", i, "star L/4", false, 1));
  }
  return all;
}

TEST(Summary, TasksDomainsAndOverallWithWhatStarKeeps) {
  const std::vector<SummaryRow> rows = Summarise(SomePredictions()).rows;
  EXPECT_EQ(Find(rows, "dense", "overall").n_samples, 6);
  EXPECT_EQ(Find(rows, "dense", "overall").n_tasks, 3);
  EXPECT_NEAR(Find(rows, "dense", "overall").score.value, 200.0 / 3, 1e-9);
  EXPECT_NEAR(Find(rows, "dense", "retrieval").score.value, 50, 1e-9);
  EXPECT_FALSE(Find(rows, "dense", "overall").difference.has_value());
  const SummaryRow& star = Find(rows, "star L/4", "overall");
  EXPECT_EQ(star.n_pairs, 6);
  EXPECT_NEAR(star.score.value, 50, 1e-9);
  EXPECT_NEAR(star.difference->value, -50.0 / 3, 1e-9);
  EXPECT_NEAR(star.retention->value, 75, 1e-9);
  EXPECT_NEAR(*star.ttft_ratio, 0.5, 1e-9);
  // Without niah_single_2, which dense cannot do.
  EXPECT_NEAR(Find(rows, "star L/4", "overall above 20").retention->value, 75, 1e-9);
  EXPECT_EQ(Find(rows, "star L/4", "overall above 20").n_tasks, 2);
  EXPECT_FALSE(Find(rows, "star L/4", "niah_single_2").retention.has_value());
}

TEST(Summary, OnlySamplesThatBothHaveAreCompared) {
  std::vector<Prediction> all = SomePredictions();
  all.push_back(Make("vt", 2, "star L/4", false));
  const SummaryRow row = Find(Summarise(all).rows, "star L/4", "vt");
  EXPECT_EQ(row.n_samples, 3);
  EXPECT_EQ(row.n_pairs, 2);
  EXPECT_NEAR(row.retention->value, 50, 1e-9);
}

TEST(Summary, TimesOfDifferentRunsAreNotCompared) {
  std::vector<Prediction> all = SomePredictions();
  for (Prediction& p : all) {
    if (p.setting != "dense" && p.task == "vt") p.run = "2";
  }
  const std::vector<SummaryRow> rows = Summarise(all).rows;
  EXPECT_FALSE(Find(rows, "star L/4", "vt").ttft_ratio.has_value());
  EXPECT_TRUE(Find(rows, "star L/4", "vt").difference.has_value());
  EXPECT_TRUE(Find(rows, "star L/4", "niah_single_1").ttft_ratio.has_value());
}

TEST(Summary, AMeanOfTasksIsThereOnlyForWhoHasThemAll) {
  std::vector<Prediction> all = SomePredictions();
  all.push_back(Make("vt", 0, "star L/8", true));
  std::vector<std::string> groups;
  for (const SummaryRow& row : Summarise(all).rows) {
    if (row.setting == "star L/8") groups.push_back(row.group);
  }
  EXPECT_EQ(groups, std::vector<std::string>{"vt"});
}

TEST(Summary, AnotherSampleUnderTheSameIndexIsNotTheSame) {
  std::vector<Prediction> all = {Make("vt", 0, "dense", true), Make("vt", 0, "star L/4", true)};
  all.back().sample = "fedcba9876543210";
  EXPECT_EQ(Find(Summarise(all).rows, "star L/4", "vt").n_pairs, 0);
}

// One of two samples of vt more under L/2 than under L/4, and nothing else differs.
TEST(Summary, StarsSettingsAreComparedWithEachOther) {
  std::vector<Prediction> all = SomePredictions();
  for (const std::int64_t i : {0, 1}) {
    all.push_back(Make("vt", i, "star L/2", true, 1.5));
    all.push_back(Make("niah_single_1", i, "star L/2", true, 1.5));
    all.push_back(Make("niah_single_2", i, "star L/2", false, 1.5));
  }
  const std::vector<SettingPair> pairs = Summarise(all).pairs;
  ASSERT_EQ(pairs.size(), 2u);  // overall, and overall above 20
  for (const SettingPair& pair : pairs) {
    EXPECT_EQ(pair.setting, "star L/2");
    EXPECT_EQ(pair.other, "star L/4");
    EXPECT_EQ(pair.length, 4096);
  }
  EXPECT_EQ(pairs[0].group, "overall");
  EXPECT_EQ(pairs[0].n_pairs, 6);
  EXPECT_NEAR(pairs[0].difference.value, 50.0 / 3, 1e-9);
  EXPECT_EQ(pairs[1].group, "overall above 20");
  EXPECT_EQ(pairs[1].n_tasks, 2);
  EXPECT_NEAR(pairs[1].difference.value, 25, 1e-9);
  EXPECT_NEAR(*pairs[1].ttft_ratio, 1.25, 1e-9);  // of 1.5, 1.5, 1 and 1
}

TEST(Summary, APairOfSettingsIsOfSamplesThatBothHaveOfEveryTask) {
  std::vector<Prediction> all = SomePredictions();
  all.push_back(Make("vt", 0, "star L/8", true));
  EXPECT_TRUE(Summarise(all).pairs.empty());
  all.push_back(Make("niah_single_1", 0, "star L/8", true));
  all.push_back(Make("niah_single_2", 0, "star L/8", true));
  const std::vector<SettingPair> pairs = Summarise(all).pairs;
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[0].n_pairs, 3);
  EXPECT_NEAR(pairs[0].difference.value, 100.0 / 3, 1e-9);
}

TEST(Summary, WithoutFullAttentionSettingsAreStillComparedWithEachOther) {
  std::vector<Prediction> all;
  for (const char* task : {"vt", "niah_single_1"}) {
    all.push_back(Make(task, 0, "star L/4", true));
    all.push_back(Make(task, 0, "star L/8", false));
  }
  const Summary summary = Summarise(all);
  ASSERT_EQ(summary.pairs.size(), 1u);
  EXPECT_EQ(summary.pairs[0].group, "overall");
  EXPECT_NE(SummaryMarkdown(summary).find("in points of the overall score"), std::string::npos);
}

// Dense is often left out where it takes too long.
TEST(Summary, ALengthWithoutFullAttentionIsStillComparedBesideOneThatHasIt) {
  std::vector<Prediction> all = SomePredictions();
  for (const Prediction& p : SomePredictions()) {
    all.push_back(p);
    all.back().length = 8192;
    if (p.setting == "dense") all.back().setting = "star L/8";
  }
  const std::string text = SummaryMarkdown(Summarise(all));
  const std::size_t at = text.find("Settings against each other, Length 8192");
  ASSERT_NE(at, std::string::npos) << text;
  EXPECT_NE(text.find("in points of the overall score", at), std::string::npos) << text;
}

TEST(Summary, MarkdownHasALineForEveryGroupAndJsonEveryRow) {
  std::vector<Prediction> all = SomePredictions();
  for (const Prediction& p : SomePredictions()) {
    if (p.setting == "dense") continue;
    all.push_back(p);
    all.back().setting = "star L/8";
  }
  const Summary summary = Summarise(all);
  const std::string text = SummaryMarkdown(summary);
  for (const char* part :
       {"### Length 4096", "| vt | 2 |", "| retrieval | 4 |", "| overall | 6 |",
        "| star L/4 | overall | 6 | -16.7 (", "tasks that dense scores above 20 %",
        "| | less star L/4 |\n|---|---|\n| star L/8 | 0.0 ("}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const auto json = nlohmann::json::parse(SummaryJson(summary, all.front()));
  EXPECT_EQ(json.at("rows").size(), summary.rows.size());
  EXPECT_EQ(json.at("model"), "m.gguf");
  ASSERT_EQ(json.at("pairs").size(), 2u);
  EXPECT_EQ(json.at("pairs").at(1).at("other"), "star L/4");
  EXPECT_EQ(json.at("pairs").at(1).at("difference").at(0), 0);
}

TEST(Predictions, ALineReadsBackAsItWasWritten) {
  const Prediction p = Make("vt", 3, "star L/4", true, 1.25);
  const std::string line = JsonLine(p);
  const Result<Prediction> back = ParsePrediction(line, "line 1");
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(JsonLine(*back), line);
  EXPECT_EQ(back->Key(), p.Key());
  EXPECT_EQ(back->Score(), 1);
}

class PredictionsFile : public ::testing::Test {
 protected:
  PredictionsFile()
      : path_(std::filesystem::temp_directory_path() /
              ("aster-predictions-" + std::to_string(::getpid()) + ".jsonl")) {}
  ~PredictionsFile() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }

  std::filesystem::path path_;
};

TEST_F(PredictionsFile, ALineThatACrashCutOffIsLeftOut) {
  const std::string line = JsonLine(Make("vt", 0, "dense", true));
  Write(line + line.substr(0, line.size() / 2));
  std::int64_t n_whole = 0;
  const auto found = ReadPredictions(path_.string(), &n_whole);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(found->size(), 1u);
  EXPECT_EQ(n_whole, std::ssize(line));
}

TEST_F(PredictionsFile, AnotherFileIsRefusedWithItsLine) {
  const std::string line = JsonLine(Make("vt", 0, "dense", true));
  for (const std::string& bad : {std::string("hello\n"), std::string("{\"model\":7}\n"),
                                 std::string("[]\n"), std::string("\n")}) {
    Write(line + bad);
    std::int64_t n_whole = 0;
    const auto found = ReadPredictions(path_.string(), &n_whole);
    ASSERT_FALSE(found.ok()) << bad;
    EXPECT_NE(found.error().message.find("line 2"), std::string::npos) << found.error().message;
  }
}

TEST_F(PredictionsFile, NoFileIsNoPredictions) {
  std::int64_t n_whole = 1;
  const auto found = ReadPredictions("/nonexistent/p.jsonl", &n_whole);
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->empty());
  EXPECT_EQ(n_whole, 0);
}

}  // namespace
}  // namespace aster::eval
