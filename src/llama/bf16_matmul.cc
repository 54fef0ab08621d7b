#include "llama/bf16_matmul.h"

#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>
#include <string_view>
#include <vector>

#include "base/amx.h"

namespace aster {
namespace {

// Shapes that are kept: a model has about five, each with a full and a last panel, and steps come
// in two or three lengths.
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
};

struct Bf16Matmul::Impl {
  dnnl::engine cpu{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{cpu};
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>, Product> products;
  dnnl::memory packed;       // the largest panel so far, in the layout that the product asks for
  std::vector<float> dense;  // a result whose rows could not be written where they belong

  Product Make(std::int64_t n, std::int64_t count, std::int64_t k, std::int64_t out_stride) const;
  void Run(const Product& product, const std::uint16_t* rows, const std::uint16_t* panel,
           float* out);
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
  product.is_plain_loop = std::string_view(matmul.impl_info_str()).starts_with("ref");
  return product;
}

void Bf16Matmul::Impl::Run(const Product& product, const std::uint16_t* rows,
                           const std::uint16_t* panel, float* out) {
  using dnnl::memory;
  if (!packed || packed.get_desc().get_size() < product.packed.get_size()) {
    packed = {};
    packed = memory(product.packed, cpu);
  }
  // oneDNN's memory objects take pointers to what they only read.
  const memory from(product.panel, cpu, const_cast<std::uint16_t*>(panel));
  const memory weights(product.packed, cpu, packed.get_data_handle());
  product.pack.execute(stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, weights}});
  product.matmul.execute(stream,
                         {{DNNL_ARG_SRC, {product.rows, cpu, const_cast<std::uint16_t*>(rows)}},
                          {DNNL_ARG_WEIGHTS, weights},
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

const Bf16Matmul::Product& Bf16Matmul::Find(std::int64_t n, std::int64_t count, std::int64_t k,
                                            std::int64_t out_stride) {
  const auto key = std::tuple(n, count, k, out_stride);
  if (const auto at = impl_->products.find(key); at != impl_->products.end()) return at->second;
  if (impl_->products.size() == kMostProducts) impl_->products.clear();
  return impl_->products[key] = impl_->Make(n, count, k, out_stride);
}

void Bf16Matmul::Multiply(const std::uint16_t* rows, std::int64_t n, const std::uint16_t* panel,
                          std::int64_t count, std::int64_t k, float* out, std::int64_t out_stride) {
  const KeptTiles tiles;
  const Product& product = Find(n, count, k, out_stride);
  if (!product.is_plain_loop || out_stride == count) {
    impl_->Run(product, rows, panel, out);
    return;
  }
  // Not every version has a fast product whose rows lie apart.
  std::vector<float>& dense = impl_->dense;
  dense.resize(std::max(dense.size(), static_cast<std::size_t>(n * count)));
  impl_->Run(Find(n, count, k, count), rows, panel, dense.data());
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < n; ++row) {
    std::copy_n(dense.data() + row * count, count, out + row * out_stride);
  }
}

}  // namespace aster
