// The weights of a GGUF model as they lie in its files, whatever llama.cpp made of them in memory:
// some CPUs' weights are repacked for decode (AMX and others), and can't be read as rows any more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct ggml_tensor;
struct gguf_context;

namespace aster {

class WeightFile {
 public:
  // Of the model's file and, where it is split, of all its parts. A file that can't be read has no
  // weights.
  explicit WeightFile(const std::string& path);
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  // Whether a tensor of that name, type and size is there.
  bool Has(const ggml_tensor* weight) const;
  // Reads rows [first, first + n) of a 2-d weight. False when the file ends or fails: it was cut or
  // replaced since. REQUIRES: Has(weight). Any thread may call.
  bool ReadRows(const ggml_tensor* weight, std::int64_t first, std::int64_t n, void* to) const;

 private:
  struct Place {
    int file = -1;  // descriptor
    std::int64_t offset = 0;
    std::int64_t n_bytes = 0;
    int type = 0;
  };
  void AddPart(const gguf_context* head, const std::string& path);

  std::vector<int> files_;
  std::unordered_map<std::string, Place> places_;
};

}  // namespace aster
