#include "attention/merge.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace aster {

void Merge(AttentionState dst, ConstAttentionState src, std::size_t head_dim_v) noexcept {
  for (std::size_t row = 0; row < dst.lse.size(); ++row) {
    const float max = std::max(dst.lse[row], src.lse[row]);
    if (max == -std::numeric_limits<float>::infinity()) continue;  // both have seen nothing

    const float dst_weight = std::exp(dst.lse[row] - max);
    const float src_weight = std::exp(src.lse[row] - max);
    const float sum = dst_weight + src_weight;  // 1..2
    for (std::size_t d = row * head_dim_v; d < (row + 1) * head_dim_v; ++d) {
      dst.out[d] = (dst_weight * dst.out[d] + src_weight * src.out[d]) / sum;
    }
    dst.lse[row] = max + std::log(sum);
  }
}

}  // namespace aster
