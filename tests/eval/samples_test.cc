#include "eval/samples.h"

#include <gtest/gtest.h>

#include <string>

namespace aster::eval {
namespace {

Sample One(const std::string& text, const std::string& path = "vt.jsonl") {
  Result<std::vector<Sample>> samples = ParseSamples(text, path);
  EXPECT_TRUE(samples.ok()) << (samples.ok() ? "" : samples.error().message);
  if (!samples.ok() || samples->size() != 1) return {};
  return samples->front();
}

TEST(Samples, TheReferencesFormIsTakenAsItIs) {
  const Sample sample = One(
      R"({"task":"niah_single_1","index":7,"max_seq_length":4096,"tokens_to_generate":9,)"
      R"("input_context":"haystack","input_query":"\nWhat?","answer_prefix":" It is","outputs":["1","2"]})");
  EXPECT_EQ(sample.task, "niah_single_1");
  EXPECT_EQ(sample.index, 7);
  EXPECT_EQ(sample.length, 4096);
  EXPECT_EQ(sample.context, "haystack");
  EXPECT_EQ(sample.query, "\nWhat?");
  EXPECT_EQ(sample.answer_prefix, " It is");
  EXPECT_EQ(sample.references, (std::vector<std::string>{"1", "2"}));
  EXPECT_EQ(sample.max_new_tokens, 9);
}

TEST(Samples, RulersInputIsCutWhereItsQuestionStarts) {
  const struct {
    const char* path;
    std::string context, query;
  } cases[] = {
      {"niah_single_1/validation.jsonl", "A special magic number is hidden.\nOne of them.",
       "\nWhat is the special magic number for x mentioned in the provided text?"},
      {"niah_multivalue.jsonl", "Some special magic numbers.\nWhat are they?\nOne.",
       "\nWhat are all the special magic numbers for x mentioned in the provided text?"},
      {"cwe.jsonl", "Below is a list.\nQuestion: What are the 10?\n 1. a\nBelow is a list.",
       "\nQuestion: What are the 10 most common words in the above list?"},
      {"qa_1.jsonl",
       "Answer the question based on the given documents.\n\nDocument 1:\nQuestion: no",
       "\n\nAnswer the question based on the given documents. Only\n\nQuestion: Where?"},
  };
  for (const auto& c : cases) {
    std::string input;
    for (const char letter : c.context + c.query) {
      input += letter == '\n' ? std::string("\\n") : std::string(1, letter);
    }
    const Sample sample =
        One(R"({"index":1,"input":")" + input + R"(","answer_prefix":" Answer:","outputs":["a"]})",
            c.path);
    EXPECT_EQ(sample.context, c.context) << c.path;
    EXPECT_EQ(sample.query, c.query) << c.path;
    EXPECT_EQ(sample.answer_prefix, " Answer:") << c.path;
  }
}

TEST(Samples, TheTaskIsTheFieldElseTheFilesOrTheFoldersName) {
  const std::string row = R"({"input_context":"a","input_query":"b","outputs":["c"]})";
  EXPECT_EQ(One(row, "data/4096/qa_2.jsonl").task, "qa_2");
  EXPECT_EQ(One(row, "data/qa_2/validation.jsonl").task, "qa_2");
  EXPECT_EQ(One(row, "data/qa_2/test.jsonl").max_new_tokens, 32);
  EXPECT_EQ(One(row, "data/4096/qa_2/validation.jsonl").task, "qa_2");
  EXPECT_EQ(One(row, "data/qa_2/8k.jsonl").task, "qa_2");
  EXPECT_EQ(One(row, "4k.jsonl").task, "4k");
}

TEST(Samples, TheLengthIsTheFieldElseTheFilesOrAFoldersName) {
  const std::string row = R"({"input_context":"a","input_query":"b","outputs":["c"]})";
  EXPECT_EQ(One(row, "data/4096/qa_2.jsonl").length, 4096);
  EXPECT_EQ(One(row, "data/4096/qa_2/validation.jsonl").length, 4096);
  EXPECT_EQ(One(row, "data/qa_2/8k.jsonl").length, 8192);
  EXPECT_EQ(One(row, "data/qa_2/1M.jsonl").length, 1 << 20);
  EXPECT_EQ(One(row, "data/qa_2/0k.jsonl").length, 0);
  EXPECT_EQ(One(row, "2026/qa_2.jsonl").length, 0);  // a year
  EXPECT_EQ(One(row, "99999999999999999999k/qa_2.jsonl").length, 0);
  EXPECT_EQ(One(R"({"input_context":"a","input_query":"b","outputs":["c"],"max_seq_length":100})",
                "4096/qa_2.jsonl")
                .length,
            100);
}

TEST(Samples, BabilongIsReadFromAnArray) {
  const Sample sample = One(
      R"([{"input":"Mary went to the kitchen.","question":"Where is Mary?","target":"kitchen"}])",
      "qa1.json");
  EXPECT_NE(sample.context.find("Mary went to the kitchen."), std::string::npos);
  EXPECT_TRUE(sample.query.ends_with("Where is Mary?"));
  EXPECT_EQ(sample.references, std::vector<std::string>{"kitchen"});
  EXPECT_EQ(FindTask(sample.task).scorer, Scorer::kLabel);
  EXPECT_EQ(sample.question, "Where is Mary?");  // labels in our own words do not count
}

TEST(Samples, BabilongsOwnFoldersAreRead) {
  const std::string rows =
      R"([{"input":"Mary took the milk.","question":"What does Mary carry?","target":"milk"}])";
  const Sample sample = One(rows, "data/qa8/4k.json");
  EXPECT_EQ(sample.task, "qa8");
  EXPECT_EQ(sample.length, 4096);
  EXPECT_NE(sample.query.find("a comma between two"), std::string::npos);
  const auto other = ParseSamples(rows, "data/4k.json");
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("qa1 to qa20"), std::string::npos) << other.error().message;
}

TEST(Samples, AFingerprintTellsAnyTextApart) {
  Sample sample = One(R"({"input_context":"a","input_query":"b","outputs":["c","d"]})");
  const std::string before = sample.Fingerprint();
  EXPECT_EQ(before.size(), 16u);
  EXPECT_EQ(sample.Fingerprint(), before);
  sample.context = "ab";
  sample.query = "";
  EXPECT_NE(sample.Fingerprint(), before);
  sample.context = "a";
  sample.query = "b";
  EXPECT_EQ(sample.Fingerprint(), before);
  sample.references = {"cd"};
  EXPECT_NE(sample.Fingerprint(), before);
}

TEST(Samples, BadRowsAreErrorsThatNameTheLineAndWhatWasExpected) {
  const std::string good = R"({"input_context":"a","input_query":"b","outputs":["c"]})";
  const struct {
    std::string text;
    std::vector<std::string> says;
  } cases[] = {
      {"", {"f.jsonl", "empty"}},
      {good + "\n{\"input_context\":", {"line 2", "no JSON"}},
      {"[" + good, {"f.jsonl", "no JSON"}},
      {"[" + good + ",7]", {"row 2", "object"}},
      {"7", {"line 1", "object"}},
      {R"({"input_context":"a","outputs":["c"]})", {"line 1", "input_query"}},
      {R"({"input_context":7,"input_query":"b","outputs":["c"]})", {"input_context", "text"}},
      {R"({"input_context":"a","input_query":"b"})", {"output"}},
      {R"({"input_context":"a","input_query":"b","outputs":[]})", {"outputs", "at least one"}},
      {R"({"input_context":"a","input_query":"b","outputs":["c",3]})", {"outputs", "list"}},
      {R"({"input_context":"a","input_query":"b","outputs":"c"})", {"outputs", "list"}},
      {R"({"input_context":"","input_query":"b","outputs":["c"]})", {"context is empty"}},
      {R"({"input_context":"a","input_query":" \n","outputs":["c"]})", {"question is empty"}},
      {R"({"input":"no question","outputs":["c"]})", {"no question", "input_context"}},
      {R"({"index":-1,"input_context":"a","input_query":"b","outputs":["c"]})", {"index", "-1"}},
      {R"({"max_seq_length":1e99,"input_context":"a","input_query":"b","outputs":["c"]})",
       {"max_seq_length", "whole number"}},
      {R"({"tokens_to_generate":"9","input_context":"a","input_query":"b","outputs":["c"]})",
       {"tokens_to_generate", "whole number"}},
      {std::string(100000, '['), {"f.jsonl", "no JSON"}},
  };
  for (const auto& c : cases) {
    const Result<std::vector<Sample>> samples = ParseSamples(c.text, "f.jsonl");
    ASSERT_FALSE(samples.ok()) << c.text.substr(0, 100);
    EXPECT_EQ(samples.error().kind, ErrorKind::kWorld);
    EXPECT_EQ(samples.error().message.find('\n'), std::string::npos);
    for (const std::string& words : c.says) {
      EXPECT_NE(samples.error().message.find(words), std::string::npos) << samples.error().message;
    }
  }
}

}  // namespace
}  // namespace aster::eval
