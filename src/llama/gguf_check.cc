#include "llama/gguf_check.h"

#include <memory>
#include <string_view>
#include <unordered_set>

#include "gguf.h"

namespace aster {
namespace {

// Each token's text must be there once (GGML_ASSERT in llama-vocab.cpp).
Status CheckVocabulary(const gguf_context* gguf, const std::string& path) {
  const std::int64_t key = gguf_find_key(gguf, "tokenizer.ggml.tokens");
  if (key < 0 || gguf_get_kv_type(gguf, key) != GGUF_TYPE_ARRAY ||
      gguf_get_arr_type(gguf, key) != GGUF_TYPE_STRING) {
    return Ok();
  }
  const std::size_t n = gguf_get_arr_n(gguf, key);
  std::unordered_set<std::string_view> seen;
  seen.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    const std::string_view text = gguf_get_arr_str(gguf, key, i);
    if (seen.insert(text).second) continue;
    return WorldError(path + ": its vocabulary is damaged: token " + std::to_string(i) +
                      " is there twice");
  }
  return Ok();
}

}  // namespace

Status CheckGguf(const std::string& path) {
  gguf_init_params params = {};
  params.no_alloc = true;
  const std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf(
      gguf_init_from_file(path.c_str(), params), gguf_free);
  if (gguf == nullptr) return Ok();
  return CheckVocabulary(gguf.get(), path);
}

}  // namespace aster
