#include "llama/weight_file.h"

#include <fcntl.h>
#include <unistd.h>

#include "ggml.h"
#include "gguf.h"
#include "llama.h"

namespace aster {
namespace {

using Gguf = std::unique_ptr<gguf_context, decltype(&gguf_free)>;

Gguf ReadHead(const std::string& path) {
  gguf_init_params params = {};
  params.no_alloc = true;
  return Gguf(gguf_init_from_file(path.c_str(), params), gguf_free);
}

// The paths of a split model's parts; empty for a model in one file.
std::vector<std::string> PartsOf(const gguf_context* head, const std::string& path) {
  const std::int64_t key = gguf_find_key(head, "split.count");
  const int count =
      key >= 0 && gguf_get_kv_type(head, key) == GGUF_TYPE_UINT16 ? gguf_get_val_u16(head, key) : 0;
  std::vector<char> text(path.size() + 64);
  if (count < 2 || llama_split_prefix(text.data(), text.size(), path.c_str(), 0, count) <= 0) {
    return {};
  }
  const std::string prefix = text.data();
  std::vector<std::string> parts;
  for (int i = 0; i < count; ++i) {
    llama_split_path(text.data(), text.size(), prefix.c_str(), i, count);
    parts.emplace_back(text.data());
  }
  return parts;
}

}  // namespace

WeightFile::WeightFile(const std::string& path) {
  const Gguf head = ReadHead(path);
  if (head == nullptr) return;
  const std::vector<std::string> parts = PartsOf(head.get(), path);
  if (parts.empty()) AddPart(head.get(), path);
  for (const std::string& part : parts) {
    if (const Gguf part_head = ReadHead(part)) AddPart(part_head.get(), part);
  }
}

WeightFile::~WeightFile() {
  for (const int file : files_) close(file);
}

void WeightFile::AddPart(const gguf_context* head, const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  files_.push_back(file);
  const auto start = static_cast<std::int64_t>(gguf_get_data_offset(head));
  for (std::int64_t i = 0; i < gguf_get_n_tensors(head); ++i) {
    places_[gguf_get_tensor_name(head, i)] = {
        file, start + static_cast<std::int64_t>(gguf_get_tensor_offset(head, i)),
        static_cast<std::int64_t>(gguf_get_tensor_size(head, i)), gguf_get_tensor_type(head, i)};
  }
}

bool WeightFile::Has(const ggml_tensor* weight) const {
  const auto at = places_.find(weight->name);
  if (at == places_.end() || at->second.type != weight->type) return false;
  const auto row_bytes = static_cast<std::int64_t>(ggml_row_size(weight->type, weight->ne[0]));
  return at->second.n_bytes == row_bytes * ggml_nrows(weight);
}

bool WeightFile::ReadRows(const ggml_tensor* weight, std::int64_t first, std::int64_t n,
                          void* to) const {
  const Place& place = places_.at(weight->name);
  const auto row_bytes = static_cast<std::int64_t>(ggml_row_size(weight->type, weight->ne[0]));
  auto* bytes = static_cast<char*>(to);
  std::int64_t offset = place.offset + first * row_bytes;
  for (std::int64_t left = n * row_bytes; left > 0;) {
    const ssize_t got = pread(place.file, bytes, static_cast<std::size_t>(left), offset);
    if (got <= 0) return false;
    bytes += got;
    offset += got;
    left -= got;
  }
  return true;
}

}  // namespace aster
