#include "kvstore/kv_store.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/check.h"
#include "base/system.h"

namespace aster {
namespace {

constexpr std::size_t kSystemPageElements = 4096 / sizeof(std::uint16_t);

std::size_t ElementsK(const LayerShape& layer) { return kPageTokens * PaddedDimK(layer.head_dim); }
std::size_t ElementsV(const LayerShape& layer) {
  return kPageTokens * PaddedDimV(layer.head_dim_v);
}

// Elements of one page: all layers, rounded up to the pages that the system gives.
std::size_t PageElements(std::span<const LayerShape> layers) {
  std::size_t elements = 0;
  for (const LayerShape& layer : layers) {
    elements += static_cast<std::size_t>(layer.n_kv_heads) * (ElementsK(layer) + ElementsV(layer));
  }
  return (elements + kSystemPageElements - 1) / kSystemPageElements * kSystemPageElements;
}

std::int64_t PagesFor(std::int64_t n_tokens) {
  const auto page = static_cast<std::int64_t>(kPageTokens);
  return n_tokens / page + (n_tokens % page != 0);
}

// The largest number where there is none.
std::int64_t BytesOf(std::int64_t n_pages, std::size_t page_elements) {
  const auto page_bytes = static_cast<std::int64_t>(page_elements * sizeof(std::uint16_t));
  std::int64_t bytes = 0;
  const bool overflow = __builtin_mul_overflow(n_pages, page_bytes, &bytes);
  return overflow ? std::numeric_limits<std::int64_t>::max() : bytes;
}

Error NoMemory(std::int64_t n_tokens, std::int64_t wanted) {
  return WorldError("KV memory for " + std::to_string(n_tokens) + " tokens: needs " +
                    FormatBytes(wanted) + " more, the machine has " +
                    FormatBytes(AvailableMemory()) + " left");
}

// One head's rows of K or V, token by token.
struct HeadRows {
  const std::uint16_t* data;
  std::size_t stride;

  const std::uint16_t* Row(std::size_t i) const { return data + i * stride; }
};

// Keys [first, first + n) of one tile of 16, from rows [0, n). Each pair of dims is one 64-byte row
// of the tile, written whole before the next; source rows stay in L1 meanwhile.
// REQUIRES: first + n <= kTileWidth.
void PackKTile(std::uint16_t* tile, std::size_t head_dim, std::size_t first, std::size_t n,
               const HeadRows& rows) {
  for (std::size_t dim = 0; dim + 1 < head_dim; dim += 2) {
    std::uint16_t* out = tile + dim * kTileWidth + first * 2;
    for (std::size_t i = 0; i < n; ++i) std::memcpy(out + i * 2, rows.Row(i) + dim, 4);
  }
  if (head_dim % 2 == 0) return;
  std::uint16_t* out = tile + (head_dim - 1) * kTileWidth + first * 2;
  for (std::size_t i = 0; i < n; ++i) out[i * 2] = rows.Row(i)[head_dim - 1];
}

// K of tokens [first, first + n) of one page.
void PackK(std::uint16_t* page_k, std::size_t head_dim, std::size_t first, std::size_t n,
           HeadRows rows) {
  while (n > 0) {
    const std::size_t key = first % kTileWidth;
    const std::size_t count = std::min(n, kTileWidth - key);
    std::uint16_t* tile = page_k + OffsetK(head_dim, first - key, 0);
    if (count == kTileWidth) {
      PackKTile(tile, head_dim, 0, kTileWidth, rows);  // The usual case, unrolled.
    } else {
      PackKTile(tile, head_dim, key, count, rows);
    }
    rows.data += count * rows.stride;
    first += count;
    n -= count;
  }
}

// Interleaves two tokens' dims: one 64-byte row per 16 dims. `out` is the pair's first row.
void PackVPair(std::uint16_t* out, std::size_t head_dim_v, const std::uint16_t* even,
               const std::uint16_t* odd) {
  std::size_t dim = 0;
  for (; dim + kTileWidth <= head_dim_v; dim += kTileWidth) {
    std::uint16_t* row = out + dim * kKeysPerVGroup;
    for (std::size_t d = 0; d < kTileWidth; ++d) {
      row[d * 2] = even[dim + d];
      row[d * 2 + 1] = odd[dim + d];
    }
  }
  for (std::size_t d = 0; dim + d < head_dim_v; ++d) {
    out[dim * kKeysPerVGroup + d * 2] = even[dim + d];
    out[dim * kKeysPerVGroup + d * 2 + 1] = odd[dim + d];
  }
}

// One token of a pair; the other keeps what it holds.
void PackVSingle(std::uint16_t* out, std::size_t head_dim_v, const std::uint16_t* row) {
  for (std::size_t dim = 0; dim < head_dim_v; ++dim) out[OffsetV(head_dim_v, 0, dim)] = row[dim];
}

// V of tokens [first, first + n) of one page.
void PackV(std::uint16_t* page_v, std::size_t head_dim_v, std::size_t first, std::size_t n,
           const HeadRows& rows) {
  for (std::size_t i = 0; i < n;) {
    std::uint16_t* out = page_v + OffsetV(head_dim_v, first + i, 0);
    if ((first + i) % 2 == 0 && i + 1 < n) {
      PackVPair(out, head_dim_v, rows.Row(i), rows.Row(i + 1));
      i += 2;
    } else {
      PackVSingle(out, head_dim_v, rows.Row(i));
      i += 1;
    }
  }
}

}  // namespace

class KvStore::Page {
 public:
  // Null when the system has none.
  static std::shared_ptr<Page> Take(std::size_t n_bytes) {
    void* data = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    return std::make_shared<Page>(static_cast<std::uint16_t*>(data), n_bytes);
  }
  Page(std::uint16_t* elements, std::size_t n_bytes) : elements_(elements), n_bytes_(n_bytes) {
    bytes_in_use += static_cast<std::int64_t>(n_bytes_);
  }
  ~Page() {
    munmap(elements_, n_bytes_);
    bytes_in_use -= static_cast<std::int64_t>(n_bytes_);
  }
  Page(const Page&) = delete;
  Page& operator=(const Page&) = delete;

  std::uint16_t* elements() const { return elements_; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(n_bytes_); }
  static inline std::atomic<std::int64_t> bytes_in_use = 0;

 private:
  std::uint16_t* elements_;
  std::size_t n_bytes_;
};

std::int64_t KvStore::BytesInUse() { return Page::bytes_in_use; }

std::int64_t KvStore::BytesOnlyIn(std::span<const KvStore* const> stores) {
  std::unordered_map<const Page*, long> n_held;
  std::int64_t bytes = 0;
  for (const KvStore* store : stores) {
    for (const std::shared_ptr<Page>& page : store->held_) {
      if (page != nullptr && ++n_held[page.get()] == page.use_count()) bytes += page->bytes();
    }
  }
  return bytes;
}

KvStore::KvStore(std::vector<LayerShape> layers)
    : layers_(std::move(layers)), page_elements_(PageElements(layers_)) {
  ASTER_CHECK(page_elements_ > 0, "%zu layers without K or V", layers_.size());
  std::size_t offset = 0;
  for (const LayerShape& layer : layers_) {
    const bool has_keys = layer.n_kv_heads > 0 && layer.head_dim > 0 && layer.head_dim_v > 0;
    ASTER_CHECK(
        has_keys || layer.n_kv_heads == 0,  // a layer that reads another's, or attends to none
        "n_kv_heads %d, head_dim %d, head_dim_v %d", layer.n_kv_heads, layer.head_dim,
        layer.head_dim_v);
    std::vector<Place>& heads = places_.emplace_back();
    for (int head = 0; head < layer.n_kv_heads; ++head) {
      heads.push_back({offset, offset + ElementsK(layer)});
      offset += ElementsK(layer) + ElementsV(layer);
    }
  }
}

KvStore::~KvStore() { Truncate(0); }

std::int64_t KvStore::PredictBytes(std::span<const LayerShape> layers, std::int64_t n_tokens) {
  return BytesOf(PagesFor(n_tokens), PageElements(layers));
}

Status KvStore::Reserve(std::int64_t n_tokens) {
  const std::size_t n_before = pages_.size();
  const auto n_wanted = static_cast<std::size_t>(PagesFor(n_tokens));
  // What comes after size() is held, was skipped, or lies behind the last page.
  const std::size_t first = static_cast<std::size_t>(size_) / kPageTokens;
  const std::size_t n_old = std::min(n_before, n_wanted);
  std::size_t n_missing = n_wanted - n_old;
  for (std::size_t i = first; i < n_old; ++i) n_missing += pages_[i] == nullptr ? 1 : 0;
  if (n_missing == 0) return Ok();

  const std::int64_t more = BytesOf(static_cast<std::int64_t>(n_missing), page_elements_);
  // Memory is promised here and taken when it is written; too large a promise would end the
  // process.
  const std::int64_t available = AvailableMemory();
  if (available > 0 && more > available) return NoMemory(n_tokens, more);

  pages_.resize(std::max(n_before, n_wanted), nullptr);
  held_.resize(pages_.size());
  for (std::size_t i = first; i < n_wanted; ++i) {
    if (pages_[i] != nullptr) continue;
    held_[i] = Page::Take(page_elements_ * sizeof(std::uint16_t));
    if (held_[i] == nullptr) {
      ReleasePages(n_before);
      return NoMemory(n_tokens, more);
    }
    pages_[i] = held_[i]->elements();
    ++n_held_;
  }
  return Ok();
}

Result<std::unique_ptr<KvStore>> KvStore::Fork(std::int64_t n_tokens) const {
  ASTER_CHECK(n_tokens >= 0 && n_tokens <= size_, "fork of %lld tokens of %lld",
              static_cast<long long>(n_tokens), static_cast<long long>(size_));
  auto fork = std::make_unique<KvStore>(layers_);
  const std::size_t n_whole = static_cast<std::size_t>(n_tokens) / kPageTokens;
  fork->held_.assign(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(n_whole));
  fork->pages_.assign(pages_.begin(), pages_.begin() + static_cast<std::ptrdiff_t>(n_whole));
  fork->n_held_ = n_whole;
  fork->size_ = n_tokens;
  fork->written_ = n_tokens;
  if (n_tokens == static_cast<std::int64_t>(n_whole * kPageTokens)) return fork;
  if (Status status = fork->Reserve(n_tokens); !status) return status.error();
  std::memcpy(fork->pages_.back(), pages_[n_whole], page_elements_ * sizeof(std::uint16_t));
  fork->written_ = std::min(written_, static_cast<std::int64_t>((n_whole + 1) * kPageTokens));
  fork->Truncate(n_tokens);  // forgets what comes after them in that page
  return fork;
}

void KvStore::OwnPage(std::size_t page) {
  if (held_[page].use_count() == 1) return;
  std::shared_ptr<Page> copy = Page::Take(page_elements_ * sizeof(std::uint16_t));
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy->elements(), pages_[page], page_elements_ * sizeof(std::uint16_t));
  held_[page] = std::move(copy);
  pages_[page] = held_[page]->elements();
}

void KvStore::Skip(std::int64_t n_tokens) {
  ASTER_CHECK(n_tokens >= size_, "skip to %lld of %lld", static_cast<long long>(n_tokens),
              static_cast<long long>(size_));
  const std::size_t n_whole = static_cast<std::size_t>(n_tokens) / kPageTokens;
  if (n_whole > pages_.size()) {
    pages_.resize(n_whole, nullptr);
    held_.resize(n_whole);
  }
  size_ = n_tokens;
}

void KvStore::LetGo(std::int64_t begin, std::int64_t end) {
  ASTER_CHECK(0 <= begin && begin <= end && end <= size_, "let go of [%lld, %lld) of %lld",
              static_cast<long long>(begin), static_cast<long long>(end),
              static_cast<long long>(size_));
  const auto first = static_cast<std::size_t>(PagesFor(begin));
  for (std::size_t page = first; page < static_cast<std::size_t>(end) / kPageTokens; ++page) {
    n_held_ -= pages_[page] != nullptr ? 1 : 0;
    pages_[page] = nullptr;
    held_[page].reset();
  }
}

void KvStore::Append(int layer, std::int64_t first, std::int64_t n, const Bf16Rows& k,
                     const Bf16Rows& v) noexcept {
  ASTER_CHECK(0 <= first && 0 <= n && PagesFor(first + n) <= std::ssize(pages_),
              "tokens [%lld, +%lld) of %zu pages", static_cast<long long>(first),
              static_cast<long long>(n), pages_.size());
  written_ = std::max(written_, first + n);
  const LayerShape& shape = layers_[layer];
  const auto end = static_cast<std::size_t>(first + n);
  for (auto token = static_cast<std::size_t>(first); token < end;) {
    std::uint16_t* page = pages_[token / kPageTokens];
    ASTER_CHECK(page != nullptr, "token %zu was skipped", token);
    const std::size_t in_page = token % kPageTokens;
    const std::size_t count = std::min(end - token, kPageTokens - in_page);
    const std::size_t done = token - static_cast<std::size_t>(first);
    for (std::size_t head = 0; head < places_[layer].size(); ++head) {
      const Place& place = places_[layer][head];
      PackK(page + place.k_offset, shape.head_dim, in_page, count,
            {k.data + done * k.token_stride + head * k.head_stride, k.token_stride});
      PackV(page + place.v_offset, shape.head_dim_v, in_page, count,
            {v.data + done * v.token_stride + head * v.head_stride, v.token_stride});
    }
    token += count;
  }
}

std::size_t KvStore::LayerElements(int layer) const {
  const LayerShape& shape = layers_[layer];
  return static_cast<std::size_t>(shape.n_kv_heads) * (ElementsK(shape) + ElementsV(shape));
}

std::size_t KvStore::CopyBytes(int layer, KeyRange range) const {
  const auto page = static_cast<std::int64_t>(kPageTokens);
  const std::int64_t n_pages = range.size() > 0 ? PagesFor(range.end) - range.begin / page : 0;
  return static_cast<std::size_t>(n_pages) * LayerElements(layer) * sizeof(std::uint16_t);
}

void KvStore::CopyOut(int layer, KeyRange range, std::span<std::byte> to) const {
  ASTER_CHECK(to.size() == CopyBytes(layer, range), "%zu bytes", to.size());
  const std::size_t n_bytes = LayerElements(layer) * sizeof(std::uint16_t);
  if (n_bytes == 0) return;  // a layer without a cache of its own
  auto page = static_cast<std::size_t>(range.begin) / kPageTokens;
  for (; !to.empty(); to = to.subspan(n_bytes), ++page) {
    ASTER_CHECK(pages_[page] != nullptr, "page %zu was skipped", page);
    std::memcpy(to.data(), pages_[page] + places_[layer].front().k_offset, n_bytes);
  }
}

// Tokens [begin, end) of one page, element by element: its other tokens stay.
void KvStore::CopyInPart(int layer, std::size_t begin, std::size_t end,
                         std::span<const std::byte> from, std::uint16_t* page) {
  const LayerShape& shape = layers_[layer];
  const std::size_t first_place = places_[layer].front().k_offset;
  std::vector<std::uint16_t> packed(LayerElements(layer));
  std::memcpy(packed.data(), from.data(), from.size());
  const auto copy = [&](std::size_t at) { page[at] = packed[at - first_place]; };
  for (const Place& place : places_[layer]) {
    for (std::size_t token = begin; token < end; ++token) {
      for (int dim = 0; dim < shape.head_dim; ++dim) {
        copy(place.k_offset + OffsetK(shape.head_dim, token, dim));
      }
      for (int dim = 0; dim < shape.head_dim_v; ++dim) {
        copy(place.v_offset + OffsetV(shape.head_dim_v, token, dim));
      }
    }
  }
}

void KvStore::CopyIn(int layer, KeyRange range, std::span<const std::byte> from) {
  ASTER_CHECK(from.size() == CopyBytes(layer, range), "%zu bytes", from.size());
  const std::size_t n_bytes = LayerElements(layer) * sizeof(std::uint16_t);
  if (n_bytes == 0) return;
  for (std::int64_t begin = range.begin; begin < range.end; from = from.subspan(n_bytes)) {
    const std::int64_t page = begin / static_cast<std::int64_t>(kPageTokens);
    const std::int64_t page_begin = page * static_cast<std::int64_t>(kPageTokens);
    const auto in_page = static_cast<std::size_t>(begin - page_begin);
    const auto end =
        std::min<std::size_t>(static_cast<std::size_t>(range.end - page_begin), kPageTokens);
    std::uint16_t* to = pages_[static_cast<std::size_t>(page)];
    ASTER_CHECK(to != nullptr, "page %lld was skipped", static_cast<long long>(page));
    if (in_page == 0 && end == kPageTokens) {
      std::memcpy(to + places_[layer].front().k_offset, from.data(), n_bytes);
    } else {
      CopyInPart(layer, in_page, end, from.first(n_bytes), to);
    }
    begin = page_begin + static_cast<std::int64_t>(end);
  }
  written_ = std::max(written_, range.end);
}

void KvStore::Truncate(std::int64_t n_tokens) {
  ASTER_CHECK(n_tokens >= 0, "%lld tokens", static_cast<long long>(n_tokens));
  const std::int64_t n_pages = PagesFor(n_tokens);
  if (n_pages > std::ssize(pages_)) {
    size_ = std::min(size_, n_tokens);
    return;
  }
  // What remains of the forgotten: one zero row, appended for every token that was ever written.
  // Beyond, the page is as the system gave it, zero and without memory behind it.
  const auto last = static_cast<std::size_t>(std::max<std::int64_t>(n_pages - 1, 0));
  std::int64_t end = std::min(written_, n_pages * static_cast<std::int64_t>(kPageTokens));
  if (n_pages > 0 && pages_[last] == nullptr) end = n_tokens;
  std::vector<std::uint16_t> zeros;
  if (n_tokens < end) {  // may find no memory: nothing is changed yet
    int most = 0;
    for (const LayerShape& shape : layers_)
      most = std::max({most, shape.head_dim, shape.head_dim_v});
    zeros.assign(static_cast<std::size_t>(most), 0);
    OwnPage(last);
  }
  size_ = std::min(size_, n_tokens);
  ReleasePages(static_cast<std::size_t>(n_pages));
  for (int layer = 0; layer < static_cast<int>(layers_.size()) && n_tokens < end; ++layer) {
    const Bf16Rows rows{zeros.data(), 0, 0};
    Append(layer, n_tokens, end - n_tokens, rows, rows);
  }
  written_ = std::min(written_, n_tokens);
}

void KvStore::ReleasePages(std::size_t n_keep) {
  while (pages_.size() > n_keep) {
    n_held_ -= pages_.back() != nullptr ? 1 : 0;
    pages_.pop_back();
    held_.pop_back();
  }
}

KvView KvStore::View(int layer, int kv_head) const {
  const Place& place = places_[layer][kv_head];
  return {pages_.data(), place.k_offset, place.v_offset};
}

std::vector<KvView> KvStore::Views(int layer) const {
  std::vector<KvView> views;
  for (int head = 0; head < layers_[layer].n_kv_heads; ++head) views.push_back(View(layer, head));
  return views;
}

std::int64_t KvStore::bytes() const {
  return static_cast<std::int64_t>(n_held_ * page_elements_ * sizeof(std::uint16_t));
}

}  // namespace aster
