// What the query host and the context hosts say to each other: a kind, then its values, one behind
// the other, in the byte order of the machine.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "cluster/group.h"
#include "engine/model_state.h"

namespace aster::internal {

enum class Kind : std::uint32_t {
  kEncode = 1,    // query host: EncodeRequest, then the tokens
  kProgress = 2,  // context host: Progress
  kDone = 3,      // context host: Progress, all encoded
  kFailed = 4,    // context host: text
  kStop = 5,      // query host: ContextId; answered by kStopped, kDone or kFailed
  kAttend = 6,    // query host: AttendRequest, then q [n_tokens, n_heads, head_dim]
  // context host: out [n_tokens, n_heads, head_dim_v] in f32 or bf16, lse [n_tokens, n_heads] in
  // f32
  kAttended = 7,
  kForget = 8,  // query host: ContextId
  kEnd = 9,     // query host: nothing
  kPing = 10,   // query host: anything
  kPong = 11,   // context host: nothing
  // context host: Progress, not all encoded: it was told to stop, or the host was that its keys
  // come from
  kStopped = 12,
};

// Another number after every change of a message; read before anything else of a request.
constexpr std::uint32_t kProtocol = 0x41530003;

// What must be alike on all hosts.
struct ModelFacts {
  std::int64_t n_parameters, n_bytes, n_layers, n_vocab, n_ctx_train, kv_bytes_per_token;
  std::uint64_t fingerprint;
  bool operator==(const ModelFacts&) const = default;
};

struct EncodeRequest {
  std::uint32_t protocol = kProtocol;
  std::uint32_t is_big_endian = std::endian::native == std::endian::big;
  std::uint64_t context = 0;
  ModelFacts model = {};
  std::int64_t n_tokens = 0;
  std::int64_t block_size = 0, anchor_size = 0;  // of star
  std::int64_t first_block = 0, last_block = 0;  // of star: half-open
  std::int32_t spread = 0;                       // as Spread
  std::int32_t place = 0, n_places = 0;          // among the hosts that have a share
  std::int32_t previous = -1, next = -1;         // ranks that keys come from and go to; -1: none
};
struct ContextId {
  std::uint64_t context = 0;
};
struct HostProgress {
  std::uint64_t context = 0;
  std::int64_t n_done = 0;
};
struct AttendRequest {
  std::uint64_t context = 0;
  std::int64_t n_tokens = 0, first_position = 0;
  std::int64_t end = 0;  // keys from here on are hidden
  std::int32_t layer = 0, n_heads = 0, head_dim = 0, head_dim_v = 0;
  float scale = 0, softcap = 0;
  std::uint32_t bf16 = 0;  // whether `out` comes back in bf16
};

// Values one behind the other.
class Writer {
 public:
  Writer(Kind kind, Bytes* to) : to_(*to) {
    to_.clear();
    Put(kind);
  }
  template <class T>
  void Put(const T& value) {
    PutAll(std::span(&value, 1));
  }
  template <class T>
  void PutAll(std::span<const T> values) {
    const auto bytes = std::as_bytes(values);
    const std::size_t at = to_.size();
    to_.resize(at + bytes.size());
    if (!bytes.empty()) std::memcpy(to_.data() + at, bytes.data(), bytes.size());
  }

 private:
  Bytes& to_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> message) : left_(message) {}
  // False when fewer bytes are left.
  template <class T>
  bool Take(T* value) {
    return TakeAll(std::span(value, 1));
  }
  template <class T>
  bool TakeAll(std::span<T> values) {
    if (left_.size() < values.size_bytes()) return false;
    std::memcpy(values.data(), left_.data(), values.size_bytes());
    left_ = left_.subspan(values.size_bytes());
    return true;
  }
  std::size_t left() const { return left_.size(); }
  // Whether what is left is n values, no more and no less. To ask before room is made for them.
  template <class T>
  bool Holds(std::int64_t n) const {
    return n >= 0 && left_.size() % sizeof(T) == 0 &&
           left_.size() / sizeof(T) == static_cast<std::uint64_t>(n);
  }
  std::string Text() {
    std::string text(reinterpret_cast<const char*>(left_.data()), left_.size());
    left_ = {};
    return text;
  }

 private:
  std::span<const std::byte> left_;
};

// bf16, rounded to nearest even. Of a NaN it is one.
std::uint16_t ToBf16(float value);
float FromBf16(std::uint16_t value);

ModelFacts FactsOf(const ModelState& model);

// Of a message whose kind can't be read it is none of them.
Kind KindOf(Reader* reader);

// That rank sent what does not fit; or told why it cannot go on.
Error Garbled(int rank, const std::string& what);
Error Failed(int rank, const std::string& why);

}  // namespace aster::internal
