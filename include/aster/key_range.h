#pragma once

#include <cstdint>

namespace aster {

// Half-open range of token positions, which are also places in the KV store.
struct KeyRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;

  std::int64_t size() const { return end - begin; }
  bool operator==(const KeyRange&) const = default;
};

}  // namespace aster
