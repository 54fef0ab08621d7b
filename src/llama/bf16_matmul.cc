#include "llama/bf16_matmul.h"

#include <omp.h>

#include <dnnl.hpp>
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
};

struct Bf16Matmul::Impl {
  dnnl::engine cpu{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{cpu};
  std::map<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>, Product> products;
  dnnl::memory packed;  // the largest panel so far, in the layout that the product asks for
};

bool Bf16Matmul::CpuHasIt() {
  const unsigned bf16 = dnnl_cpu_isa_avx512_core_bf16;
  return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & bf16) == bf16;
}

Bf16Matmul::Bf16Matmul() : impl_(std::make_unique<Impl>()) {}
Bf16Matmul::~Bf16Matmul() = default;

void Bf16Matmul::Release() { impl_->packed = {}; }

Bf16Matmul::Product& Bf16Matmul::Find(std::int64_t n, std::int64_t count, std::int64_t k,
                                      std::int64_t out_stride) {
  using dnnl::memory;
  const auto key = std::tuple(n, count, k, out_stride);
  if (const auto at = impl_->products.find(key); at != impl_->products.end()) return at->second;
  if (impl_->products.size() == kMostProducts) impl_->products.clear();

  constexpr auto bf16 = memory::data_type::bf16;
  Product product;
  product.rows = {{n, k}, bf16, memory::format_tag::ab};
  product.panel = {{k, count}, bf16, memory::format_tag::ba};
  product.out = {{n, count}, memory::data_type::f32, memory::dims{out_stride, 1}};
  const memory::desc any({k, count}, bf16, memory::format_tag::any);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc matmul(impl_->cpu, product.rows, any, product.out);
#else
  const dnnl::matmul::primitive_desc matmul({product.rows, any, product.out}, impl_->cpu);
#endif
  product.packed = matmul.weights_desc();
  product.matmul = dnnl::matmul(matmul);
  product.pack = dnnl::reorder(
      dnnl::reorder::primitive_desc(impl_->cpu, product.panel, impl_->cpu, product.packed));
  return impl_->products[key] = std::move(product);
}

void Bf16Matmul::Multiply(const std::uint16_t* rows, std::int64_t n, const std::uint16_t* panel,
                          std::int64_t count, std::int64_t k, float* out, std::int64_t out_stride) {
  using dnnl::memory;
  const KeptTiles tiles;
  const dnnl::engine& cpu = impl_->cpu;
  Product& product = Find(n, count, k, out_stride);
  memory& store = impl_->packed;
  if (!store || store.get_desc().get_size() < product.packed.get_size()) {
    store = {};
    store = memory(product.packed, cpu);
  }
  // oneDNN's memory objects take pointers to what they only read.
  const memory from(product.panel, cpu, const_cast<std::uint16_t*>(panel));
  const memory packed(product.packed, cpu, store.get_data_handle());
  product.pack.execute(impl_->stream, {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, packed}});
  product.matmul.execute(impl_->stream,
                         {{DNNL_ARG_SRC, {product.rows, cpu, const_cast<std::uint16_t*>(rows)}},
                          {DNNL_ARG_WEIGHTS, packed},
                          {DNNL_ARG_DST, {product.out, cpu, out}}});
  impl_->stream.wait();
}

}  // namespace aster
