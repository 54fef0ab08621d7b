#include "eval/predictions.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>

#include "eval/score.h"
#include "eval/tasks.h"

namespace aster::eval {
namespace {

using Json = nlohmann::ordered_json;

// Both directions of a prediction's fields: `visit(name, member)` for each.
template <class P, class Visit>
void VisitFields(P& p, Visit visit) {
  visit("model", p.model);
  visit("prompt", p.prompt);
  visit("run", p.run);
  visit("task", p.task);
  visit("index", p.index);
  visit("sample", p.sample);
  visit("length", p.length);
  visit("setting", p.setting);
  visit("attention", p.attention);
  visit("block_size", p.block_size);
  visit("anchor_size", p.anchor_size);
  visit("window", p.window);
  visit("n_context", p.n_context);
  visit("n_query", p.n_query);
  visit("reference_at", p.reference_at);
  visit("outputs", p.references);
  visit("question", p.question);
  visit("pred", p.text);
  visit("finish", p.finish);
  visit("encode_s", p.encode_seconds);
  visit("query_s", p.query_seconds);
  visit("decode_s", p.decode_seconds);
}

// Those that older files lack.
template <class P, class Visit>
void VisitLater(P& p, Visit visit) {
  visit("model_file", p.model_file);
  visit("chat_template", p.chat_template);
  visit("cpu", p.machine.cpu);
  visit("isa", p.machine.isa);
  visit("linear", p.machine.linear);
  visit("threads", p.machine.threads);
  visit("overlap", p.overlap);
  visit("n_taken_over", p.n_taken_over);
}

}  // namespace

std::string Prediction::Key() const {
  return task + '\n' + std::to_string(index) + '\n' + sample + '\n' + std::to_string(length) +
         '\n' + setting + '\n' + prompt;
}

std::string Prediction::Place() const {
  return task + '\n' + std::to_string(index) + '\n' + std::to_string(length);
}

double Prediction::Score() const { return eval::Score(FindTask(task), text, references, question); }

std::string JsonLine(const Prediction& prediction) {
  Json json;
  const auto write = [&json](const char* name, const auto& value) { json[name] = value; };
  VisitFields(prediction, write);
  VisitLater(prediction, write);
  json["score"] = prediction.Score();
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<Prediction> ParsePrediction(std::string_view line, const std::string& where) {
  Prediction prediction;
  std::string field = "a JSON object";
  try {
    const Json json = Json::parse(line);
    VisitFields(prediction, [&](const char* name, auto& value) {
      field = std::string("\"") + name + "\"";
      json.at(name).get_to(value);
    });
    VisitLater(prediction, [&](const char* name, auto& value) {
      field = std::string("\"") + name + "\"";
      if (json.contains(name)) json[name].get_to(value);
    });
  } catch (const Json::exception&) {
    return WorldError(where + ": " + field +
                      " is missing or of another type; expected a line that " + "aster eval wrote");
  }
  if (prediction.references.empty()) return WorldError(where + ": \"outputs\" is empty");
  return prediction;
}

Result<std::vector<Prediction>> ReadPredictions(const std::string& path,
                                                std::int64_t* n_whole_bytes) {
  *n_whole_bytes = 0;
  std::vector<Prediction> predictions;
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return predictions;
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (file.bad() || !file) return WorldError(path + ": cannot be read");
  for (std::size_t at = 0, line = 1;; ++line) {
    const std::size_t end = text.find('\n', at);
    if (end == std::string::npos) break;
    Result<Prediction> prediction = ParsePrediction(std::string_view(text).substr(at, end - at),
                                                    path + ", line " + std::to_string(line));
    if (!prediction) return prediction.error();
    predictions.push_back(std::move(*prediction));
    at = end + 1;
    *n_whole_bytes = static_cast<std::int64_t>(at);
  }
  return predictions;
}

}  // namespace aster::eval
