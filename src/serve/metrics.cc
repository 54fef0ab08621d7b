#include "serve/metrics.h"

#include <charconv>

namespace aster::serve {
namespace {

std::string Real(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9);
  return std::string(text, end.ptr);
}

std::string Head(const std::string& name, const std::string& help, const char* type) {
  return "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

std::string Single(const std::string& name, const std::string& help, const char* type,
                   double value) {
  return Head(name, help, type) + name + " " + Real(value) + "\n";
}

}  // namespace

void Histogram::Observe(double seconds) {
  const std::lock_guard lock(mutex_);
  for (std::size_t i = 0; i < kBounds.size(); ++i) counts_[i] += seconds <= kBounds[i] ? 1 : 0;
  ++count_;
  sum_ += seconds;
}

std::string Histogram::Text(const std::string& name, const std::string& help) const {
  const std::lock_guard lock(mutex_);
  std::string text = Head(name, help, "histogram");
  for (std::size_t i = 0; i < kBounds.size(); ++i) {
    text += name + "_bucket{le=\"" + Real(kBounds[i]) + "\"} " + std::to_string(counts_[i]) + "\n";
  }
  text += name + "_bucket{le=\"+Inf\"} " + std::to_string(count_) + "\n";
  text += name + "_sum " + Real(sum_) + "\n";
  return text + name + "_count " + std::to_string(count_) + "\n";
}

void Metrics::CountRequest(const std::string& route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status}];
}

std::string Metrics::Text(const Gauges& gauges) const {
  std::string text = Head("aster_requests_total", "Requests answered.", "counter");
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, count] : requests_) {
      text += "aster_requests_total{route=\"" + key.first + "\",status=\"" +
              std::to_string(key.second) + "\"} " + std::to_string(count) + "\n";
    }
  }
  const auto counter = [&text](const char* name, const char* help, std::uint64_t value) {
    text += Single(name, help, "counter", static_cast<double>(value));
  };
  const auto gauge = [&text](const char* name, const char* help, std::int64_t value) {
    text += Single(name, help, "gauge", static_cast<double>(value));
  };
  text += ttft.Text("aster_time_to_first_token_seconds", "From the request to its first token.");
  text += queue.Text("aster_queue_seconds", "From the request until it was let in.");
  text += prefill.Text("aster_prefill_seconds", "From there to the first token.");
  text += decode.Text("aster_decode_seconds", "From the first token to the last.");
  text += time_per_token.Text("aster_time_per_output_token_seconds", "Of decode, per token.");
  counter("aster_prompt_tokens_total", "Tokens of prompts that were encoded.", prompt_tokens);
  counter("aster_cached_tokens_total", "Tokens of prompts that were there already.", cached_tokens);
  counter("aster_answer_tokens_total", "Tokens of answers.", answer_tokens);
  counter("aster_cache_queries_total", "Prompts looked up in the store.", cache_queries);
  counter("aster_cache_hits_total", "Of them, those that found a part of theirs.", cache_hits);
  counter("aster_contexts_evicted_total", "Contexts that went to make room.", evictions);
  counter("aster_requests_cancelled_total", "Requests whose client left.", cancelled);
  gauge("aster_requests_running", "Requests let in.", gauges.n_running);
  gauge("aster_requests_waiting", "Requests that wait.", gauges.n_waiting);
  gauge("aster_contexts", "Contexts in the store.", gauges.n_contexts);
  gauge("aster_kv_bytes", "Bytes of keys and values in use.", gauges.kv_bytes);
  gauge("aster_kv_limit_bytes", "Most bytes of keys and values.", gauges.kv_limit_bytes);
  return text;
}

}  // namespace aster::serve
