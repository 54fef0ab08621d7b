#include "eval/samples.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <tuple>

#include "eval/fingerprint.h"

namespace aster::eval {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kMaxTokens = std::int64_t{1} << 31;
constexpr std::uintmax_t kMaxFileBytes = std::uintmax_t{4} << 30;

// Where RULER's questions start: a line of its templates. The last one in the text counts, since
// two tasks show an example first.
constexpr std::array<std::string_view, 4> kQuestions = {
    "\nWhat are all the special magic ",
    "\nWhat is the special magic ",
    "\nQuestion: ",
    "\n\nAnswer the question based on the given documents.",
};

// BABILong gives facts and a question without instructions; these words are ours.
constexpr std::string_view kFactsFollow =
    "The following text holds facts among other sentences. Remember the facts; of two that "
    "contradict each other the latest one counts.\n\n";
constexpr std::string_view kAnswerWith = "\n\nAnswer from the facts of the text above, with ";

Error Refuse(const std::string& where, const std::string& what) {
  return WorldError(where + ": " + what);
}

// "4096", "4k" or "1M" as a number of tokens; nothing for another name, and 0 for "0k".
std::optional<std::int64_t> LengthOf(const std::string& name) {
  std::int64_t n = 0;
  const char* const end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data(), end, n);
  if (error != std::errc() || n < 0 || n > kMaxTokens) return std::nullopt;
  constexpr std::int64_t kUnit = 1024;
  if (rest == end) return n > 0 && n % kUnit == 0 ? std::optional(n) : std::nullopt;
  const std::string_view unit(rest, static_cast<std::size_t>(end - rest));
  if (unit == "k" || unit == "K") return n * kUnit;
  if (unit == "m" || unit == "M") return n * kUnit * kUnit;
  return std::nullopt;
}

// What a file's name and its next two folders tell.
struct Place {
  std::string task;
  std::int64_t length = 0;
};

Place PlaceOf(const std::string& path) {
  const std::filesystem::path file(path);
  const std::string stem = file.stem().string();
  const std::filesystem::path folder = file.parent_path();
  Place place;
  for (const std::string& name :
       {stem, folder.filename().string(), folder.parent_path().filename().string()}) {
    const std::optional<std::int64_t> length = LengthOf(name);
    if (length && place.length == 0) place.length = *length;
    const bool names_task = !length && name != "validation" && name != "test" && !name.empty();
    if (names_task && place.task.empty()) place.task = name;
  }
  if (place.task.empty()) place.task = stem;
  return place;
}

// Reads the fields of one row; the first thing wrong is kept.
class Row {
 public:
  Row(const Json& json, std::string where) : json_(json), where_(std::move(where)) {}

  bool Has(const char* field) const { return json_.contains(field); }

  std::string Text(const char* field) {
    const auto found = json_.find(field);
    if (found == json_.end())
      return Wrong(std::string("no \"") + field + "\"; expected a text"), "";
    if (!found->is_string()) return Wrong(std::string("\"") + field + "\": expected a text"), "";
    return found->get<std::string>();
  }

  std::int64_t Number(const char* field, std::int64_t least, std::int64_t most,
                      std::int64_t otherwise) {
    const auto found = json_.find(field);
    if (found == json_.end()) return otherwise;
    if (found->is_number_integer()) {
      const auto n = found->get<std::int64_t>();
      if (n >= least && n <= most) return n;
    }
    Wrong(std::string("\"") + field + "\" is " + found->dump(-1, ' ', true).substr(0, 40) +
          "; expected a whole number from " + std::to_string(least) + " to " +
          std::to_string(most));
    return otherwise;
  }

  std::vector<std::string> References() {
    const auto found = json_.find("outputs");
    if (found == json_.end()) return {Text("output")};
    std::vector<std::string> references;
    if (found->is_array()) {
      for (const Json& one : *found) {
        if (one.is_string()) references.push_back(one.get<std::string>());
      }
    }
    if (references.empty() || references.size() != found->size()) {
      Wrong("\"outputs\": expected a list of at least one text");
    }
    return references;
  }

  void Wrong(const std::string& what) {
    if (!error_) error_ = Refuse(where_, what);
  }
  const std::optional<Error>& error() const { return error_; }

 private:
  const Json& json_;
  const std::string where_;
  std::optional<Error> error_;
};

void ReadBabilong(Row& row, Sample& sample) {
  const Task task = FindTask(sample.task);
  if (task.scorer != Scorer::kLabel) {
    row.Wrong("\"question\" and \"target\" are BABILong's, and " + sample.task +
              " is none of its tasks; expected qa1 to qa20, as \"task\", the file's name or the "
              "folder's");
  }
  sample.question = row.Text("question");
  sample.context = std::string(kFactsFollow) + row.Text("input");
  sample.query =
      std::string(kAnswerWith) + std::string(task.answer_form) + ".\nQuestion: " + sample.question;
  sample.references = {row.Text("target")};
}

// RULER's `input`: with the answer prefix at its end, or beside it.
void ReadRuler(Row& row, Sample& sample) {
  const std::string input = row.Text("input");
  std::size_t cut = std::string::npos;
  for (const std::string_view question : kQuestions) {
    const std::size_t at = input.rfind(question);
    if (at != std::string::npos && (cut == std::string::npos || at > cut)) cut = at;
  }
  // The question of a document task is its instruction's last line.
  if (const std::size_t documents = input.rfind(kQuestions.back());
      documents != std::string::npos && documents > 0) {
    cut = documents;
  }
  if (cut == std::string::npos || cut == 0) {
    if (!row.error()) {
      row.Wrong(
          "no question of RULER's in \"input\"; expected \"input_context\" and \"input_query\"");
    }
    return;
  }
  sample.context = input.substr(0, cut);
  sample.query = input.substr(cut);
  sample.references = row.References();
}

void ReadReference(Row& row, Sample& sample) {
  sample.context = row.Text("input_context");
  sample.query = row.Text("input_query");
  sample.references = row.References();
}

Result<Sample> ReadSample(const Json& json, const std::string& path, const std::string& where,
                          std::int64_t place) {
  if (!json.is_object()) return Refuse(where, "expected a JSON object");
  Row row(json, where);
  Sample sample;
  Place of_path = PlaceOf(path);
  sample.task = row.Has("task") ? row.Text("task") : std::move(of_path.task);
  sample.index = row.Number("index", 0, kMaxTokens, place);
  sample.length = row.Number("max_seq_length", 1, kMaxTokens, of_path.length);
  if (row.Has("answer_prefix")) sample.answer_prefix = row.Text("answer_prefix");
  if (row.Has("input_context")) {
    ReadReference(row, sample);
  } else if (row.Has("question") && row.Has("target")) {
    ReadBabilong(row, sample);
  } else {
    ReadRuler(row, sample);
  }
  const Task task = FindTask(sample.task);
  sample.max_new_tokens =
      static_cast<int>(row.Number("tokens_to_generate", 1, 1 << 20, task.max_new_tokens));
  if (row.error()) return *row.error();
  if (sample.context.empty()) return Refuse(where, "the context is empty");
  if (sample.query.find_first_not_of(" \t\r\n") == std::string::npos) {
    return Refuse(where, "the question is empty");
  }
  return sample;
}

// nlohmann's message without its own prefix and on one line.
std::string JsonReason(const Json::exception& error) {
  std::string reason = error.what();
  reason = reason.substr(reason.find("] ") == std::string::npos ? 0 : reason.find("] ") + 2);
  std::replace(reason.begin(), reason.end(), '\n', ' ');
  return reason.substr(0, 200);
}

Result<std::vector<Sample>> ParseArray(std::string_view text, const std::string& path) {
  Json rows;
  try {
    rows = Json::parse(text);
  } catch (const Json::exception& error) {
    return Refuse(path, "no JSON: " + JsonReason(error));
  }
  std::vector<Sample> samples;
  for (const Json& json : rows) {
    const std::int64_t place = std::ssize(samples);
    Result<Sample> sample =
        ReadSample(json, path, path + ", row " + std::to_string(place + 1), place);
    if (!sample) return sample.error();
    samples.push_back(std::move(*sample));
  }
  return samples;
}

Result<std::vector<Sample>> ParseLines(std::string_view text, const std::string& path) {
  std::vector<Sample> samples;
  std::int64_t n_lines = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const std::string where = path + ", line " + std::to_string(++n_lines);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    Json json;
    try {
      json = Json::parse(line);
    } catch (const Json::exception& error) {
      return Refuse(where, "no JSON: " + JsonReason(error));
    }
    Result<Sample> sample = ReadSample(json, path, where, std::ssize(samples));
    if (!sample) return sample.error();
    samples.push_back(std::move(*sample));
  }
  return samples;
}

Result<std::string> ReadFile(const std::string& path) {
  std::error_code ec;
  const std::uintmax_t size = std::filesystem::file_size(path, ec);
  if (ec) return WorldError(path + ": " + ec.message());
  if (size > kMaxFileBytes) {
    return WorldError(path + ": " + std::to_string(size) + " bytes; expected at most " +
                      std::to_string(kMaxFileBytes));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(static_cast<std::size_t>(size), '\0');
  if (!file.read(text.data(), static_cast<std::streamsize>(size))) {
    return WorldError(path + ": cannot be read");
  }
  return text;
}

Result<std::vector<std::string>> SampleFiles(const std::string& path, const std::string& except) {
  std::error_code ec;
  if (!std::filesystem::is_directory(path, ec)) return std::vector<std::string>{path};
  std::vector<std::string> files;
  std::filesystem::recursive_directory_iterator entry(path, ec);
  for (; !ec && entry != std::filesystem::recursive_directory_iterator(); entry.increment(ec)) {
    std::error_code differs;
    if (entry->is_directory() && std::filesystem::equivalent(entry->path(), except, differs)) {
      entry.disable_recursion_pending();
      continue;
    }
    const std::string ending = entry->path().extension().string();
    if (entry->is_regular_file() && (ending == ".jsonl" || ending == ".json")) {
      files.push_back(entry->path().string());
    }
  }
  if (ec) return WorldError(path + ": " + ec.message());
  if (files.empty()) return WorldError(path + ": no .jsonl or .json file below it");
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::string Sample::Fingerprint() const {
  eval::Fingerprint fingerprint;
  for (const std::string* text : {&task, &context, &query, &answer_prefix}) fingerprint.Add(*text);
  for (const std::string& reference : references) fingerprint.Add(reference);
  const bool is_usual = max_new_tokens == 0 || max_new_tokens == FindTask(task).max_new_tokens;
  if (!is_usual) fingerprint.Add(std::to_string(max_new_tokens));
  return fingerprint.Hex();
}

Result<std::vector<Sample>> ParseSamples(std::string_view text, const std::string& path) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return Refuse(path, "empty; expected JSON objects");
  return text[first] == '[' ? ParseArray(text, path) : ParseLines(text, path);
}

Result<std::vector<std::vector<Sample>>> ReadSamples(const std::string& path,
                                                     const std::string& except) {
  const Result<std::vector<std::string>> files = SampleFiles(path, except);
  if (!files) return files.error();
  std::vector<std::vector<Sample>> all;
  struct Place {
    const std::string* file;
    const Sample* sample;
  };
  std::map<std::tuple<std::string, std::int64_t, std::int64_t>, Place> places;
  for (const std::string& file : *files) {
    const Result<std::string> text = ReadFile(file);
    if (!text) return text.error();
    Result<std::vector<Sample>> samples = ParseSamples(*text, file);
    if (!samples) return samples.error();
    for (const Sample& sample : *samples) {
      const auto [at, is_new] =
          places.try_emplace({sample.task, sample.length, sample.index}, Place{&file, &sample});
      if (is_new) continue;
      const Place& other = at->second;
      const bool is_same_file = other.file == &file;
      if (is_same_file && other.sample->Fingerprint() == sample.Fingerprint()) continue;
      const std::string name = "sample " + std::to_string(sample.index) + " of " + sample.task +
                               (sample.length > 0 ? " at " + std::to_string(sample.length) : "");
      if (is_same_file) {
        return Refuse(file, name +
                                " is there twice, with different texts; expected an \"index\" "
                                "of its own for each, or none");
      }
      return Refuse(file, name + " is in " + *other.file +
                              " too; expected \"max_seq_length\" or a folder for each length, such "
                              "as 4096");
    }
    all.push_back(std::move(*samples));
  }
  return all;
}

}  // namespace aster::eval
