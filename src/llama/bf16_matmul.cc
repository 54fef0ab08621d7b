#include "llama/bf16_matmul.h"

#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>
#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/amx.h"

namespace aster {
namespace {

// Rows of one product. oneDNN compiles a product for each number of rows and keeps it, up to
// 0.45 MB for each new length of a prompt; with these there are five for each shape of panel.
constexpr std::int64_t kRowsAtOnce = 256;
constexpr std::int64_t kRowStep = 64;
static_assert(kRowsAtOnce % kRowStep == 0, "only the last run is padded");
// Products that are kept: a model has about seven shapes of panels.
constexpr std::size_t kMostProducts = 64;

// The tiles of every thread of the team, put back when this goes. oneDNN sets up its own.
class KeptTiles {
 public:
  KeptTiles() {
    if (!MayUseAmx()) return;
    setups_.resize(static_cast<std::size_t>(omp_get_max_threads()));
#pragma omp parallel
    setups_[static_cast<std::size_t>(omp_get_thread_num())] = ReadTileSetup();
  }
  ~KeptTiles() {
    if (setups_.empty()) return;
#pragma omp parallel
    WriteTileSetup(setups_[static_cast<std::size_t>(omp_get_thread_num())]);
  }
  KeptTiles(const KeptTiles&) = delete;
  KeptTiles& operator=(const KeptTiles&) = delete;

 private:
  std::vector<TileSetup> setups_;
};

}  // namespace

struct Bf16Matmul::Product {
  dnnl::memory::desc rows, panel, packed, out;
  dnnl::matmul matmul;
  dnnl::reorder pack;
  bool is_plain_loop = false;  // oneDNN has nothing fast for it
  bool is_brgemm = false;      // it has its fastest
};

struct Bf16Matmul::Impl {
  dnnl::engine cpu{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{cpu};
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>, Product> products;
  dnnl::memory packed;       // the largest panel so far, in the layout that the product asks for
  std::vector<float> dense;  // a result whose rows could not be written where they belong

  Product Make(std::int64_t n, std::int64_t count, std::int64_t k, std::int64_t out_stride) const;
  const Product& Find(std::int64_t n, std::int64_t count, std::int64_t k, std::int64_t out_stride);
  void Pack(const Product& product, const std::uint16_t* panel);
  void Run(const Product& product, const std::uint16_t* rows, float* out);
};

Bf16Matmul::Product Bf16Matmul::Impl::Make(std::int64_t n, std::int64_t count, std::int64_t k,
                                           std::int64_t out_stride) const {
  using dnnl::memory;
  constexpr auto bf16 = memory::data_type::bf16;
  Product product;
  product.rows = {{n, k}, bf16, memory::format_tag::ab};
  product.panel = {{k, count}, bf16, memory::format_tag::ba};
  product.out = {{n, count}, memory::data_type::f32, memory::dims{out_stride, 1}};
  const memory::desc any({k, count}, bf16, memory::format_tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc matmul(cpu, product.rows, any, product.out);
#else
  const dnnl::matmul::primitive_desc matmul({product.rows, any, product.out}, cpu);
#endif
  product.packed = matmul.weights_desc();
  product.matmul = dnnl::matmul(matmul);
  product.pack =
      dnnl::reorder(dnnl::reorder::primitive_desc(cpu, product.panel, cpu, product.packed));
  const std::string_view name = matmul.impl_info_str();
  product.is_plain_loop = name.starts_with("ref");
  product.is_brgemm = name.starts_with("brg");
  return product;
}

const Bf16Matmul::Product& Bf16Matmul::Impl::Find(std::int64_t n, std::int64_t count,
                                                  std::int64_t k, std::int64_t out_stride) {
  const auto key = std::tuple(n, count, k, out_stride);
  if (const auto at = products.find(key); at != products.end()) return at->second;
  if (products.size() == kMostProducts) products.clear();
  return products[key] = Make(n, count, k, out_stride);
}

// oneDNN's memory objects take pointers to what they only read, here and below.
void Bf16Matmul::Impl::Pack(const Product& product, const std::uint16_t* panel) {
  if (!packed || packed.get_desc().get_size() < product.packed.get_size()) {
    packed = {};
    packed = {product.packed, cpu};
  }
  const dnnl::memory from(product.panel, cpu, const_cast<std::uint16_t*>(panel));
  const dnnl::memory to(product.packed, cpu, packed.get_data_handle());
  product.pack.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
}

void Bf16Matmul::Impl::Run(const Product& product, const std::uint16_t* rows, float* out) {
  product.matmul.execute(stream,
                         {{DNNL_ARG_SRC, {product.rows, cpu, const_cast<std::uint16_t*>(rows)}},
                          {DNNL_ARG_WEIGHTS, {product.packed, cpu, packed.get_data_handle()}},
                          {DNNL_ARG_DST, {product.out, cpu, out}}});
  stream.wait();
}

bool Bf16Matmul::CpuHasIt() {
  static const bool has = [] {
    const unsigned bf16 = dnnl_cpu_isa_avx512_core_bf16;
    if ((static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & bf16) != bf16) return false;
    try {
      return !Impl().Make(64, 64, 64, 64).is_plain_loop;
    } catch (const dnnl::error&) {
      return false;
    }
  }();
  return has;
}

Bf16Matmul::Bf16Matmul() : impl_(std::make_unique<Impl>()) {}
Bf16Matmul::~Bf16Matmul() = default;

void Bf16Matmul::Release() {
  impl_->packed = {};
  impl_->dense = {};
}

std::int64_t Bf16Matmul::PaddedRows(std::int64_t n) {
  return (n + kRowStep - 1) / kRowStep * kRowStep;
}

void Bf16Matmul::Multiply(const std::uint16_t* rows, std::int64_t n, const std::uint16_t* panel,
                          std::int64_t count, std::int64_t k, float* out, std::int64_t out_stride) {
  const KeptTiles tiles;
  dnnl::memory::desc packed;
  for (std::int64_t first = 0; first < n; first += kRowsAtOnce) {
    const std::int64_t some = std::min(kRowsAtOnce, n - first);
    const std::int64_t padded = PaddedRows(some);
    // Only whole runs are written in place: padding would fall on other rows, and not every
    // version of oneDNN has a fast product whose rows lie apart.
    bool in_place = some == kRowsAtOnce;
    const Product* product = &impl_->Find(padded, count, k, in_place ? out_stride : count);
    if (in_place && !product->is_brgemm && out_stride != count) {
      in_place = false;
      product = &impl_->Find(padded, count, k, count);
    }
    if (first == 0 || product->packed != packed) impl_->Pack(*product, panel);
    packed = product->packed;
    if (in_place) {
      impl_->Run(*product, rows + first * k, out + first * out_stride);
      continue;
    }
    std::vector<float>& dense = impl_->dense;
    dense.resize(std::max(dense.size(), static_cast<std::size_t>(padded * count)));
    impl_->Run(*product, rows + first * k, dense.data());
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < some; ++row) {
      std::copy_n(dense.data() + row * count, count, out + (first + row) * out_stride);
    }
  }
}

}  // namespace aster
