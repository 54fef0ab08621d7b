// Hosts that are cancelled, asked for what does not fit, or fail: the query host says so by name,
// and every rank ends.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "aster/context.h"
#include "engine/host_messages.h"
#include "engine/hosts.h"
#include "engine/hosts_fixture.h"
#include "engine/model_state.h"

namespace aster {
namespace {

using HostFaultsTest = HostsTest;

TEST_F(HostFaultsTest, ACancelStopsAllAndTheyStayOfUse) {
  for (const Way& way : Ways()) {
    SCOPED_TRACE(way.name);
    ContextHosts others(file_.path(), 3, way.anchor);
    Model model = others.QueryHost(file_.path());
    const std::vector<Token> tokens = SomeTokens(430);
    for (const int calls : {1, 2, 3, 6}) {
      std::stop_source source;
      EncodeOptions options = way.options;
      options.stop = source.get_token();
      int n = 0;
      options.on_progress = [&](const Progress& progress) {
        if (++n == calls || progress.n_done > 400) source.request_stop();
      };
      const Result<Context> context = Context::Encode(model, tokens, options);
      ASSERT_FALSE(context.ok()) << calls;
      if (context.error().kind != ErrorKind::kCancelled) {
        for (const std::string& why : others.End()) EXPECT_EQ(why, "");
        FAIL() << context.error().message;
      }
    }
    Result<Context> context = Context::Encode(model, tokens, way.options);
    ASSERT_TRUE(context.ok()) << context.error().message;
    EXPECT_EQ(context->Ask(std::vector<Token>{20, 30}, Greedy(8))->tokens.size(), 8u);
    context = Cancelled("");
    for (const std::string& why : others.End()) EXPECT_EQ(why, "");
  }
}

TEST_F(HostFaultsTest, AHostWithAnotherModelIsNamed) {
  // One of another shape, and one that differs in its weights alone.
  for (const TinyModel& kind : {TinyModel{.n_layers = 3}, TinyModel{.seed = 2}}) {
    const TinyGgufFile other(kind);
    ContextHosts others(other.path(), 2);
    Model model = others.QueryHost(file_.path());
    const Result<Context> context = Context::Encode(model, SomeTokens(300), Star(50));
    ASSERT_FALSE(context.ok());
    EXPECT_EQ(context.error().message,
              "rank 1: the query host has another model than " + other.path());
  }
}

TEST_F(HostFaultsTest, AWindowAnOverlapAndALargerAnchorAreOfOneHost) {
  ContextHosts others(file_.path(), 2);
  Model model = others.QueryHost(file_.path());
  EncodeOptions window = Star(50);
  window.plan.window = 1;
  EncodeOptions overlap = Star(50);
  overlap.plan.overlap = 1;
  for (const EncodeOptions& options : {window, overlap, Star(50, 51)}) {
    const Result<Context> context = Context::Encode(model, SomeTokens(300), options);
    ASSERT_FALSE(context.ok());
    EXPECT_EQ(context.error().kind, ErrorKind::kInvalidArgument);
    EXPECT_NE(context.error().message.find("on several hosts"), std::string::npos);
  }
  EXPECT_TRUE(Context::Encode(model, SomeTokens(300), Star(50, 50)).ok());
}

// On one host auto sizes bring a window of one block; it must not be refused where nobody named it.
TEST_F(HostFaultsTest, AutoHasNoWindowOnSeveralHosts) {
  const std::vector<Token> tokens = SomeTokens(1100);
  const Model alone = MustLoadTiny(file_.path());
  const Result<Context> on_one = Context::Encode(alone, tokens, Star(0));
  ASSERT_TRUE(on_one.ok()) << on_one.error().message;
  EXPECT_EQ(on_one->plan().window, 1);
  ContextHosts others(file_.path(), 2);
  Model model = others.QueryHost(file_.path());
  const Result<Context> on_two = Context::Encode(model, tokens, Star(0));
  ASSERT_TRUE(on_two.ok()) << on_two.error().message;
  EXPECT_EQ(on_two->plan().window, 0);
  EXPECT_EQ(on_two->plan().attention, Attention::kStar);
}

// One context host, which is told what a query host would tell it.
class ToldHost {
 public:
  explicit ToldHost(const std::string& path) : groups_(MakeLocalGroup(2)) {
    host_ = std::jthread([this, path] {
      Model model = MustLoadTiny(path);
      const Status status = internal::ServeHost(model, *groups_[1], kPatience);
      ended_ = status.ok() ? "" : status.error().message;
      groups_[1].reset();
    });
  }

  template <class Request, class T>
  void Tell(internal::Kind kind, const Request& request, const std::vector<T>& values) {
    Bytes message;
    internal::Writer writer(kind, &message);
    writer.Put(request);
    writer.PutAll(std::span<const T>(values));
    ASSERT_TRUE(groups_[0]->Send(1, Channel::kTalk, message).ok());
  }
  // Its next message that is of this kind.
  std::string Hear(internal::Kind kind) {
    while (true) {
      const Result<Bytes> answer = groups_[0]->Receive(1, Channel::kTalk, kPatience);
      if (!answer) return "nothing: " + answer.error().message;
      internal::Reader reader(*answer);
      const internal::Kind got = internal::KindOf(&reader);
      if (got == kind) return reader.Text();
      if (got == internal::Kind::kFailed) return "failed: " + reader.Text();
    }
  }
  std::string End() {
    host_.join();
    return ended_;
  }
  // It tells why and ends.
  void ExpectRefused(const std::string& said) {
    const std::string heard = Hear(internal::Kind::kFailed);
    EXPECT_NE(heard.find(said), std::string::npos) << heard;
    const std::string ended = End();
    EXPECT_NE(ended.find(said), std::string::npos) << ended;
  }

 private:
  std::vector<std::unique_ptr<Group>> groups_;
  std::string ended_;
  std::jthread host_;
};

// What a peer sends is looked at before it is used: each of these differs from a good request in
// one thing.
class BadRequestTest : public HostFaultsTest {
 protected:
  // Of host 1 of 2, over 300 tokens in blocks of 50.
  internal::EncodeRequest GoodRequest() const {
    internal::EncodeRequest request;
    request.context = 1;
    request.model = internal::FactsOf(*internal::ModelAccess::StateOf(model_));
    request.n_tokens = 300;
    request.block_size = request.anchor_size = 50;
    request.first_block = 3;
    request.last_block = 6;
    request.place = 1;
    request.n_places = 2;
    return request;
  }
  // As the query host gives the queries of one token.
  internal::AttendRequest GoodQueries() const {
    const LayerShape& shape = internal::ModelAccess::StateOf(model_)->pass->layers()[0];
    internal::AttendRequest request;
    request.context = 1;
    request.n_tokens = 1;
    request.first_position = request.end = 300;
    request.n_heads = internal::ModelAccess::StateOf(model_)->pass->n_heads();
    request.head_dim = shape.head_dim;
    request.head_dim_v = shape.head_dim_v;
    request.scale = 0.1F;
    return request;
  }

  const Model model_ = MustLoadTiny(file_.path());
};

TEST_F(BadRequestTest, ToEncodeIsRefusedWithAReason) {
  using internal::EncodeRequest;
  struct Bad {
    const char* said;
    std::function<void(EncodeRequest&, std::vector<Token>&)> change;
  };
  const std::vector<Bad> cases = {
      {"another version of Aster or byte order", [](auto& r, auto&) { r.protocol += 1; }},
      {"another version of Aster or byte order", [](auto& r, auto&) { r.is_big_endian ^= 1; }},
      {"another model", [](auto& r, auto&) { r.model.n_layers += 1; }},
      {"another model", [](auto& r, auto&) { r.model.fingerprint ^= 1; }},
      {"tokens are missing", [](auto&, auto& tokens) { tokens.pop_back(); }},
      {"tokens are missing", [](auto& r, auto&) { r.n_tokens = -1; }},
      {"tokens are missing", [](auto& r, auto&) { r.n_tokens = std::int64_t{1} << 61; }},
      {"tokens are missing", [](auto& r, auto&) { r.n_tokens = (std::int64_t{1} << 62) + 300; }},
      {"a token is none", [](auto&, auto& tokens) { tokens[7] = -5; }},
      {"a token is none", [](auto&, auto& tokens) { tokens[7] = 1 << 30; }},
      {"block size 1: expected", [](auto& r, auto&) { r.block_size = 1; }},
      {"an anchor larger than a block", [](auto& r, auto&) { r.anchor_size = 200; }},
      {"anchor size -2", [](auto& r, auto&) { r.anchor_size = -2; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.last_block = 7; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.first_block = -1; }},
      {"blocks that the plan has not", [](auto& r, auto&) { r.last_block = r.first_block; }},
      {"an unknown way", [](auto& r, auto&) { r.spread = 3; }},
      {"a place among the hosts", [](auto& r, auto&) { r.place = 2; }},
      {"a place among the hosts", [](auto& r, auto&) { r.n_places = 3; }},
      {"a place among the hosts", [](auto& r, auto&) { r.previous = 2; }},
      {"a place among the hosts", [](auto& r, auto&) { r.next = 1; }},
      {"keys that come from nowhere", [](auto& r, auto&) { r.previous = 0; }},
      {"keys that come from nowhere", [](auto& r, auto&) { r.spread = 1; }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.said);
    ToldHost host(file_.path());
    std::vector<Token> tokens = SomeTokens(300);
    EncodeRequest request = GoodRequest();
    bad.change(request, tokens);
    host.Tell(internal::Kind::kEncode, request, tokens);
    host.ExpectRefused(bad.said);
  }
}

TEST_F(BadRequestTest, ToAttendIsRefusedWithAReason) {
  using internal::AttendRequest;
  struct Bad {
    const char* said;
    std::function<void(AttendRequest&, std::vector<float>&)> change;
  };
  const std::vector<Bad> cases = {
      {"", [](auto&, auto&) {}},  // is answered
      {"a context that is not here", [](auto& r, auto&) { r.context = 2; }},
      {"no such layer", [](auto& r, auto&) { r.layer = -1; }},
      {"no such layer", [](auto& r, auto&) { r.layer = 99; }},
      {"queries that do not fit", [](auto& r, auto&) { r.n_heads = 0; }},
      {"queries that do not fit", [](auto& r, auto&) { r.n_heads = 1 << 20; }},
      {"queries that do not fit", [](auto& r, auto&) { r.head_dim += 1; }},
      {"queries that do not fit", [](auto& r, auto&) { r.head_dim_v += 1; }},
      {"queries that do not fit", [](auto& r, auto&) { r.n_tokens = -1; }},
      {"queries that do not fit", [](auto& r, auto&) { r.n_tokens = std::int64_t{1} << 60; }},
      {"queries that do not fit", [](auto& r, auto&) { r.first_position = -1; }},
      {"queries that do not fit", [](auto& r, auto&) { r.end = -1; }},
      // Hundreds of gigabytes, had it made room for what was announced.
      {"queries are missing",
       [](auto& r, auto&) {
         r.n_tokens = 65536;
         r.n_heads = 4096;
       }},
      {"queries are missing", [](auto& r, auto&) { r.n_heads *= 2; }},
      {"queries are missing", [](auto&, auto& q) { q.pop_back(); }},
      {"queries are missing", [](auto&, auto& q) { q.push_back(0); }},
  };
  for (const Bad& bad : cases) {
    SCOPED_TRACE(bad.said);
    ToldHost host(file_.path());
    host.Tell(internal::Kind::kEncode, GoodRequest(), SomeTokens(300));
    EXPECT_FALSE(host.Hear(internal::Kind::kDone).starts_with("failed"));
    AttendRequest request = GoodQueries();
    std::vector<float> q(static_cast<std::size_t>(request.n_heads * request.head_dim), 1.0F);
    bad.change(request, q);
    host.Tell(internal::Kind::kAttend, request, q);
    if (*bad.said == '\0') {
      const auto n = static_cast<std::size_t>(request.n_heads) *
                     static_cast<std::size_t>(request.head_dim_v + 1);
      EXPECT_EQ(host.Hear(internal::Kind::kAttended).size(), n * sizeof(float));
      host.Tell(internal::Kind::kEnd, 0, std::vector<int>());
      EXPECT_EQ(host.End(), "");
      continue;
    }
    host.ExpectRefused(bad.said);
  }
}

// A context host that does as it is told up to its nth message, of all or of a channel, and then
// something else.
enum class Fault { kLeaves, kGarbles, kDrops, kFallsSilent, kDelays };

class FaultyGroup : public Group {
 public:
  FaultyGroup(std::unique_ptr<Group> group, Fault fault, int at, unsigned seed,
              std::optional<Channel> channel = {})
      : group_(std::move(group)), fault_(fault), channel_(channel), left_(at), random_(seed) {}

  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    if (channel_.value_or(channel) != channel) return group_->Send(to, channel, message);
    const int left = left_--;
    if (left > 0) return group_->Send(to, channel, message);
    switch (fault_) {
      case Fault::kLeaves:
        return WorldError("left");
      case Fault::kFallsSilent:
        return Ok();
      case Fault::kDrops:
        return left == 0 ? Ok() : group_->Send(to, channel, message);
      case Fault::kDelays:
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
        return group_->Send(to, channel, message);
      case Fault::kGarbles:
        break;
    }
    // Cut short, longer, or with another kind or header: nothing that could pass for an answer.
    Bytes garbled(message.begin(), message.end());
    const std::lock_guard lock(mutex_);  // a ring sends from two threads
    const unsigned way = random_() % 3;
    if (way == 0) garbled.resize(message.size() / 2);
    if (way == 1) garbled.resize(message.size() + 1 + random_() % 9);
    if (way == 2 && !garbled.empty()) garbled[0] = static_cast<std::byte>(0x80 + random_() % 64);
    return group_->Send(to, channel, garbled);
  }
  Result<Bytes> Receive(int from, Channel channel, Patience patience) override {
    return group_->Receive(from, channel, patience);
  }
  bool HasMessage(int from, Channel channel) override { return group_->HasMessage(from, channel); }

 private:
  std::unique_ptr<Group> group_;
  const Fault fault_;
  const std::optional<Channel> channel_;
  std::atomic<int> left_;
  std::mutex mutex_;
  std::minstd_rand random_;
};

// What is not sent is missed only when patience ends; all else is seen at once, and then a host
// that is held up for a moment must not pass for one that is silent.
Patience PatienceWith(Fault fault) {
  return fault == Fault::kDrops || fault == Fault::kFallsSilent ? Patience(1) : kPatience;
}

// Three hosts of which rank 1 is faulty: what encoding and asking failed with, if they did. Every
// rank ends.
std::string WhyItFails(const std::string& model_path, const Way& way, Fault fault, int at,
                       unsigned seed, std::optional<Channel> channel = {}) {
  std::vector<std::unique_ptr<Group>> groups = MakeLocalGroup(3);
  groups[1] = std::make_unique<FaultyGroup>(std::move(groups[1]), fault, at, seed, channel);
  std::vector<std::jthread> ranks;
  for (const std::size_t rank : {1, 2}) {
    ranks.emplace_back([&, rank] {
      Model model = MustLoadTiny(model_path);
      static_cast<void>(internal::ServeHost(model, *groups[rank], PatienceWith(fault)));
      groups[rank].reset();
    });
  }
  auto hosts = std::make_shared<HostTeam>();
  hosts->group = groups[0].get();
  hosts->patience = PatienceWith(fault);
  hosts->options.anchor = way.anchor;
  if (hosts->options.anchor == AnchorFrom::kAuto) hosts->options.anchor = AnchorFrom::kRecompute;
  Model model = MustLoadTiny(model_path);
  HostTeam::Join(model, hosts);
  std::string why;
  {
    Result<Context> context = Context::Encode(model, SomeTokens(300), way.options);
    if (!context) why = context.error().message;
    for (int i = 0; context && why.empty() && i < 3; ++i) {
      const Result<Answer> answer = context->Ask(std::vector<Token>{20, 30}, Greedy(20));
      if (!answer) why = answer.error().message;
    }
  }
  static_cast<void>(hosts->End());
  groups[0].reset();
  return why;
}

TEST_F(HostFaultsTest, AHostThatFailsIsNamedAndNothingHangs) {
  const char* const again = std::getenv("ASTER_TEST_SEED");
  const unsigned seed = again != nullptr ? static_cast<unsigned>(std::strtoul(again, nullptr, 10))
                                         : std::random_device{}();
  std::printf("seed of the faults: %u; ASTER_TEST_SEED=%u repeats them\n", seed, seed);
  for (const Way& way : Ways()) {
    for (const Fault fault :
         {Fault::kLeaves, Fault::kGarbles, Fault::kDrops, Fault::kFallsSilent, Fault::kDelays}) {
      for (const int at : {0, 3, 7, 30}) {
        SCOPED_TRACE(std::string(way.name) + ", fault " + std::to_string(static_cast<int>(fault)) +
                     " at message " + std::to_string(at) + ", seed " + std::to_string(seed));
        const std::string why = WhyItFails(file_.path(), way, fault, at, seed);
        // A dropped line of progress is no harm to anybody.
        const bool may_pass = fault == Fault::kDelays || fault == Fault::kDrops;
        if (!may_pass || !why.empty()) {
          EXPECT_NE(why.find("rank 1"), std::string::npos) << why;
        }
      }
    }
  }
}

// A query host that finds no memory for the nth message that it receives from now on.
class NoMemoryGroup : public Group {
 public:
  explicit NoMemoryGroup(Group& group) : group_(group) {}

  void FailAt(int n) { left_ = n; }
  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  Status Send(int to, Channel channel, std::span<const std::byte> message) override {
    return group_.Send(to, channel, message);
  }
  Result<Bytes> Receive(int from, Channel channel, Patience patience) override {
    if (left_ > 0 && --left_ == 0) throw std::bad_alloc();
    return group_.Receive(from, channel, patience);
  }
  bool HasMessage(int from, Channel channel) override { return group_.HasMessage(from, channel); }

 private:
  Group& group_;
  int left_ = 0;
};

TEST_F(HostFaultsTest, WhatAFailedStepLeftUnheardIsNoPartOfTheNext) {
  std::optional<NoMemoryGroup> no_memory;  // it is used until the hosts have ended
  const ContextHosts others(file_.path(), 3, AnchorFrom::kRecompute);
  no_memory.emplace(*others.hosts()->group);
  others.hosts()->group = &*no_memory;
  const Model model = others.QueryHost(file_.path());
  Result<Context> context = Context::Encode(model, SomeTokens(300), Star(100));
  ASSERT_TRUE(context.ok()) << context.error().message;
  const std::vector<Token> query = {20, 30};
  const Result<Answer> want = context->Ask(query, Greedy(6));
  ASSERT_TRUE(want.ok()) << want.error().message;
  for (const int at : {1, 2, 3, 8}) {  // two hosts a layer
    SCOPED_TRACE(at);
    no_memory->FailAt(at);
    const Result<Answer> failed = context->Ask(query, Greedy(6));
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().kind, ErrorKind::kWorld);
    const Result<Answer> got = context->Ask(query, Greedy(6));
    ASSERT_TRUE(got.ok()) << got.error().message;
    EXPECT_EQ(got->tokens, want->tokens);
    EXPECT_EQ(got->top_logprobs.front().logprob, want->top_logprobs.front().logprob);
  }
  no_memory->FailAt(1);  // and nothing of it is taken for a word about an encoding
  ASSERT_FALSE(context->Ask(query, Greedy(6)).ok());
  EXPECT_TRUE(Context::Encode(model, SomeTokens(300), Star(100)).ok());
}

// Of each layer, and at last the word that this was all.
TEST_F(HostFaultsTest, KeysThatGetLostAreMissedWhileEncoding) {
  for (const Way& way : Ways()) {
    if (way.anchor == AnchorFrom::kRecompute) continue;  // no keys travel
    // The last layer attends to nothing while encoding. Rank 1's anchor is sent on once a layer;
    // its own keys and those of another go around the ring.
    const int n_with_keys =
        (way.options.plan.attention == Attention::kRing ? 2 : 1) * (TinyModel{}.n_layers - 1);
    int at = 0;
    while (at <= 2 * n_with_keys) {
      SCOPED_TRACE(std::string(way.name) + ", message " + std::to_string(at));
      const std::string why = WhyItFails(file_.path(), way, Fault::kDrops, at, 0, Channel::kKeys);
      if (why.empty()) break;  // there are no more
      EXPECT_NE(why.find("rank 1"), std::string::npos) << why;
      EXPECT_EQ(why.find("answering"), std::string::npos) << why;
      EXPECT_EQ(why.find("a context that is not here"), std::string::npos) << why;
      ++at;
    }
    EXPECT_EQ(at, n_with_keys + 1) << way.name;
  }
}

}  // namespace
}  // namespace aster
