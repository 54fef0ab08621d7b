#include "support/tiny_gguf.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/check.h"
#include "support/gguf_writer.h"

namespace aster {
namespace {

constexpr int kEmbd = 128;  // where it need not be n_heads * head_dim
constexpr int kFf = 256;
constexpr int kExpertFf = 64;
constexpr int kExperts = 4;
constexpr int kExpertsUsed = 2;

// Queries and keys each this large give scores of standard deviation 2 after 1 / sqrt(head_dim).
constexpr float kQkGain = 1.414f;
// Rounding can flip the choice of the second-best expert. Sure routers and quiet experts keep that
// from drowning what a test looks for: a bf16 cache costs a KL divergence of 6e-4 at most (with 4
// and 2 it was 2e-2).
constexpr float kRouterGain = 8.0f;
constexpr float kExpertGain = 0.5f;
constexpr float kQkvBias = 0.3f;
constexpr float kEmbeddingDeviation = 0.4f;  // small beside what the layers add to it
constexpr float kLogitDeviation = 3.0f;

// How the common decoder layer differs from llama's.
struct Traits {
  TinyArchitecture architecture;
  std::string_view name;
  bool heads_fill_embedding = false;  // n_embd = n_heads * head_dim
  bool qkv_bias = false;
  bool qk_norm = false;
  bool post_norms = false;  // after attention and feed-forward: Gemma
  bool tied = false;        // output = token_embd
  bool experts = false;
  int sliding_pattern = 0;  // of so many layers all but the last slide; 0 = none
};

using enum TinyArchitecture;
constexpr Traits kTraits[] = {
    {.architecture = kLlama, .name = "llama"},
    {.architecture = kQwen2, .name = "qwen2", .heads_fill_embedding = true, .qkv_bias = true},
    {.architecture = kQwen3, .name = "qwen3", .qk_norm = true},
    {.architecture = kQwen3Moe, .name = "qwen3moe", .qk_norm = true, .experts = true},
    {.architecture = kGemma2,
     .name = "gemma2",
     .post_norms = true,
     .tied = true,
     .sliding_pattern = 2},
    {.architecture = kGemma3,
     .name = "gemma3",
     .qk_norm = true,
     .post_norms = true,
     .sliding_pattern = 3},
    {.architecture = kGptOss,
     .name = "gpt-oss",
     .qkv_bias = true,
     .experts = true,
     .sliding_pattern = 2},
    {.architecture = kGpt2, .name = "gpt2", .heads_fill_embedding = true},
    {.architecture = kBloom, .name = "bloom", .heads_fill_embedding = true},
    {.architecture = kMamba, .name = "mamba"},
    {.architecture = kT5, .name = "t5"},
    {.architecture = kBert, .name = "bert", .heads_fill_embedding = true},
    {.architecture = kDream, .name = "dream", .heads_fill_embedding = true},
    {.architecture = kLongRope, .name = "llama"},
    {.architecture = kMiniMaxM3, .name = "minimax-m3", .qk_norm = true},
};

const Traits& TraitsOf(TinyArchitecture architecture) {
  for (const Traits& traits : kTraits) {
    if (traits.architecture == architecture) return traits;
  }
  ASTER_CHECK(false, "architecture %d", static_cast<int>(architecture));
  std::abort();
}

// The sizes that the layers below share.
struct Sizes {
  int n_embd;
  int q;   // n_heads * head_dim
  int kv;  // n_kv_heads * head_dim
};

Sizes SizesOf(const TinyModel& model, const Traits& traits) {
  const int q = model.n_heads * model.head_dim;
  return {traits.heads_fill_embedding ? q : kEmbd, q, model.n_kv_heads * model.head_dim};
}

std::string Block(int layer) { return "blk." + std::to_string(layer) + "."; }

void AddCommonKeys(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  w.Key("context_length", m.n_ctx_train);
  w.Key("embedding_length", SizesOf(m, traits).n_embd);
  w.Key("block_count", m.n_layers);
  w.Key("feed_forward_length", kFf);
  w.Key("attention.head_count", m.n_heads);
  w.Key("attention.head_count_kv", m.n_kv_heads);
  w.Key("attention.key_length", m.head_dim);
  w.Key("attention.value_length", m.head_dim);
  w.Key("rope.dimension_count", m.head_dim);
  w.KeyFloat("attention.layer_norm_rms_epsilon", 1e-6f);
  w.KeyFloat("attention.layer_norm_epsilon", 1e-5f);
  if (traits.experts) {
    w.Key("expert_count", kExperts);
    w.Key("expert_used_count", kExpertsUsed);
    w.Key("expert_feed_forward_length", kExpertFf);
  }
  if (traits.sliding_pattern > 0) {
    w.Key("attention.sliding_window", m.sliding_window);
    w.Key("attention.sliding_window_pattern", traits.sliding_pattern);
  }
}

// Token embeddings, the output norm and, unless tied, the output.
void AddEnds(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  const int n_embd = SizesOf(m, traits).n_embd;
  const float output_deviation = kLogitDeviation / std::sqrt(static_cast<float>(n_embd));
  w.Embedding("token_embd", n_embd, m.n_vocab,
              traits.tied ? output_deviation : kEmbeddingDeviation);
  w.Norm("output_norm", n_embd);
  if (!traits.tied) w.Embedding("output", n_embd, m.n_vocab, output_deviation);
}

void AddAttention(GgufWriter& w, const TinyModel& m, const Traits& traits, int layer) {
  const Sizes s = SizesOf(m, traits);
  const float gain = traits.qk_norm ? 1.0f : kQkGain;
  const std::string attn = Block(layer) + "attn_";
  w.Norm(attn + "norm", s.n_embd);
  w.Matrix(attn + "q", {s.n_embd, s.q}, gain);
  w.Matrix(attn + "k", {s.n_embd, s.kv}, gain);
  w.Matrix(attn + "v", {s.n_embd, s.kv});
  if (traits.qkv_bias) {
    w.Bias(attn + "q", {s.q}, kQkvBias);
    w.Bias(attn + "k", {s.kv}, kQkvBias);
    w.Bias(attn + "v", {s.kv}, kQkvBias);
  }
  if (traits.qk_norm) {
    w.Norm(attn + "q_norm", m.head_dim, kQkGain);
    w.Norm(attn + "k_norm", m.head_dim, kQkGain);
  }
  w.Matrix(attn + "output", {s.q, s.n_embd}, 2.0f);
  if (m.architecture == kGptOss) {
    w.Bias(attn + "output", {s.n_embd});
    w.Normal(attn + "sinks.weight", {m.n_heads}, 2.0f, 1.0f);
  }
}

void AddFeedForward(GgufWriter& w, const std::string& block, int n_embd) {
  w.Matrix(block + "ffn_gate", {n_embd, kFf});
  w.Matrix(block + "ffn_up", {n_embd, kFf});
  w.Matrix(block + "ffn_down", {kFf, n_embd}, 2.0f);
}

void AddExperts(GgufWriter& w, const TinyModel& m, const std::string& block, int n_embd) {
  w.Matrix(block + "ffn_gate_inp", {n_embd, kExperts}, kRouterGain);
  w.Matrix(block + "ffn_gate_exps", {n_embd, kExpertFf, kExperts});
  w.Matrix(block + "ffn_up_exps", {n_embd, kExpertFf, kExperts});
  w.Matrix(block + "ffn_down_exps", {kExpertFf, n_embd, kExperts}, kExpertGain);
  if (m.architecture != kGptOss) return;
  w.Bias(block + "ffn_gate_inp", {kExperts});
  w.Bias(block + "ffn_gate_exps", {kExpertFf, kExperts});
  w.Bias(block + "ffn_up_exps", {kExpertFf, kExperts});
  w.Bias(block + "ffn_down_exps", {n_embd, kExperts});
}

// llama and its relatives: what the traits say.
void AddDecoder(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  const int n_embd = SizesOf(m, traits).n_embd;
  // Gemma's residual starts at the size of kLogitDeviation; outputs must outweigh it, or the tied
  // output would answer every token with itself.
  constexpr float kPostNorm = 12.0f;
  AddEnds(w, m, traits);
  for (int layer = 0; layer < m.n_layers; ++layer) {
    const std::string block = Block(layer);
    AddAttention(w, m, traits, layer);
    if (traits.post_norms) w.Norm(block + "post_attention_norm", n_embd, kPostNorm);
    w.Norm(block + (m.architecture == kGptOss ? "post_attention_norm" : "ffn_norm"), n_embd);
    if (traits.experts) {
      AddExperts(w, m, block, n_embd);
    } else {
      AddFeedForward(w, block, n_embd);
    }
    if (traits.post_norms) w.Norm(block + "post_ffw_norm", n_embd, kPostNorm);
  }
  if (m.architecture == kGemma2) {  // a cap low enough to bend scores of deviation 2
    w.KeyFloat("attn_logit_softcapping", 5.0f);
    w.KeyFloat("final_logit_softcapping", 20.0f);
  }
  if (m.architecture == kGemma3) w.KeyFloat("rope.freq_base", 1e6f);  // sliding layers: 1e4
  if (m.architecture == kLongRope) {
    w.KeyText("rope.scaling.type", "longrope");
    w.Normal("rope_factors_long.weight", {m.head_dim / 2}, 4.0f, 0.1f);
    w.Normal("rope_factors_short.weight", {m.head_dim / 2}, 1.0f, 0.1f);
  }
}

void AddMiniMaxM3(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  w.Key("leading_dense_block_count", m.n_layers);
  w.Key("expert_feed_forward_length", kExpertFf);
  w.Key("expert_shared_count", 1);
  w.Key("expert_gating_func", 2);  // a sigmoid
  w.Key("attention.indexer.head_count", m.n_kv_heads);
  w.Key("attention.indexer.key_length", m.head_dim);
  w.Key("attention.indexer.top_k", 4);  // blocks
  w.Key("attention.indexer.block_size", 64);
  w.Key("attention.indexer.local_blocks", 1);
  AddDecoder(w, m, traits);
}

// GPT-2 and BLOOM: fused q, k and v, layer norms and a bias everywhere.
void AddFusedDecoder(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  const int n_embd = SizesOf(m, traits).n_embd;
  AddEnds(w, m, traits);
  w.Bias("output_norm", {n_embd});
  if (m.architecture == kBloom) w.NormWithBias("token_embd_norm", n_embd);
  if (m.architecture == kGpt2) {
    w.Normal("position_embd.weight", {n_embd, m.n_ctx_train}, 0.0f, 0.2f);
  }
  for (int layer = 0; layer < m.n_layers; ++layer) {
    const std::string block = Block(layer);
    w.NormWithBias(block + "attn_norm", n_embd);
    w.Matrix(block + "attn_qkv", {n_embd, 3 * n_embd}, kQkGain);
    w.Bias(block + "attn_qkv", {3 * n_embd});
    w.Matrix(block + "attn_output", {n_embd, n_embd}, 2.0f);
    w.Bias(block + "attn_output", {n_embd});
    w.NormWithBias(block + "ffn_norm", n_embd);
    w.Matrix(block + "ffn_up", {n_embd, kFf});
    w.Bias(block + "ffn_up", {kFf});
    w.Matrix(block + "ffn_down", {kFf, n_embd}, 2.0f);
    w.Bias(block + "ffn_down", {n_embd});
  }
}

void AddMamba(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  constexpr int kInner = 2 * kEmbd;
  constexpr int kConv = 4;
  constexpr int kState = 16;
  constexpr int kRank = 8;
  w.Key("attention.head_count", 0);
  w.Key("attention.head_count_kv", 0);
  w.Key("ssm.conv_kernel", kConv);
  w.Key("ssm.inner_size", kInner);
  w.Key("ssm.state_size", kState);
  w.Key("ssm.time_step_rank", kRank);
  AddEnds(w, m, traits);
  for (int layer = 0; layer < m.n_layers; ++layer) {
    const std::string block = Block(layer);
    w.Norm(block + "attn_norm", kEmbd);
    w.Matrix(block + "ssm_in", {kEmbd, 2 * kInner});
    w.Normal(block + "ssm_conv1d.weight", {kConv, kInner}, 0.0f, 0.5f);
    w.Bias(block + "ssm_conv1d", {kInner});
    w.Matrix(block + "ssm_x", {kInner, kRank + 2 * kState});
    w.Matrix(block + "ssm_dt", {kRank, kInner});
    w.Bias(block + "ssm_dt", {kInner});
    w.Normal(block + "ssm_a", {kState, kInner}, -1.0f, 0.1f);
    w.Normal(block + "ssm_d", {kInner}, 1.0f, 0.1f);
    w.Matrix(block + "ssm_out", {kInner, kEmbd});
  }
}

void AddT5(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  constexpr int kBuckets = 32;
  const Sizes s = SizesOf(m, traits);
  const auto attention = [&](const std::string& name) {
    w.Norm(name + "_norm", s.n_embd);
    w.Matrix(name + "_q", {s.n_embd, s.kv});
    w.Matrix(name + "_k", {s.n_embd, s.kv});
    w.Matrix(name + "_v", {s.n_embd, s.kv});
    w.Matrix(name + "_o", {s.kv, s.n_embd});
  };
  w.Key("attention.relative_buckets_count", kBuckets);
  w.Key("decoder_start_token_id", 0);
  w.Embedding("token_embd", s.n_embd, m.n_vocab, 1.0f);
  w.Embedding("output", s.n_embd, m.n_vocab, 1.0f);
  for (const std::string part : {"enc.", "dec."}) {
    w.Norm(part + "output_norm", s.n_embd);
    for (int layer = 0; layer < m.n_layers; ++layer) {
      const std::string block = part + Block(layer);
      attention(block + "attn");
      w.Matrix(block + "attn_rel_b", {m.n_heads, kBuckets});
      if (part == "dec.") attention(block + "cross_attn");
      w.Norm(block + "ffn_norm", s.n_embd);
      AddFeedForward(w, block, s.n_embd);
    }
  }
}

void AddBert(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  const int n_embd = SizesOf(m, traits).n_embd;
  w.KeyBool("attention.causal", false);
  w.Embedding("token_embd", n_embd, m.n_vocab, 1.0f);
  w.Normal("position_embd.weight", {n_embd, m.n_ctx_train}, 0.0f, 0.2f);
  w.Normal("token_types.weight", {n_embd, 2}, 0.0f, 0.5f);
  w.NormWithBias("token_embd_norm", n_embd);
  for (int layer = 0; layer < m.n_layers; ++layer) {
    const std::string block = Block(layer);
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      w.Matrix(block + name, {n_embd, n_embd});
      w.Bias(block + name, {n_embd});
    }
    w.NormWithBias(block + "attn_output_norm", n_embd);
    w.Matrix(block + "ffn_up", {n_embd, kFf});
    w.Bias(block + "ffn_up", {kFf});
    w.Matrix(block + "ffn_down", {kFf, n_embd});
    w.Bias(block + "ffn_down", {n_embd});
    w.NormWithBias(block + "layer_output_norm", n_embd);
  }
}

void AddModel(GgufWriter& w, const TinyModel& m, const Traits& traits) {
  switch (m.architecture) {
    case kGpt2:
    case kBloom:
      return AddFusedDecoder(w, m, traits);
    case kMamba:
      return AddMamba(w, m, traits);
    case kT5:
      return AddT5(w, m, traits);
    case kBert:
      return AddBert(w, m, traits);
    case kMiniMaxM3:
      return AddMiniMaxM3(w, m, traits);
    default:
      return AddDecoder(w, m, traits);
  }
}

// q, k and v of one size where the architecture has it so.
TinyModel Settled(TinyModel model) {
  if (model.architecture == kGpt2 || model.architecture == kBloom || model.architecture == kBert ||
      model.architecture == kT5) {
    model.n_kv_heads = model.n_heads;
  }
  return model;
}

}  // namespace

std::string_view ArchitectureName(TinyArchitecture architecture) {
  return TraitsOf(architecture).name;
}

Status WriteTinyGguf(const TinyModel& model, const std::string& path) {
  ASTER_CHECK(model.n_vocab >= TinyModel::kMinVocab && model.head_dim % 2 == 0 &&
                  model.n_heads % model.n_kv_heads == 0,
              "n_vocab %d, head_dim %d, n_heads %d, n_kv_heads %d", model.n_vocab, model.head_dim,
              model.n_heads, model.n_kv_heads);
  const TinyModel settled = Settled(model);
  const Traits& traits = TraitsOf(model.architecture);
  GgufWriter writer(traits.name, model.f16, model.seed);
  if (model.bpe) {
    writer.BpeTokenizer(model.n_vocab, model.add_bos, model.add_eos);
  } else {
    writer.Tokenizer(model.n_vocab, model.add_bos, model.add_eos);
  }
  AddCommonKeys(writer, settled, traits);
  AddModel(writer, settled, traits);
  if (!writer.Write(path)) return WorldError(path + ": cannot be written");
  return Ok();
}

TinyGgufFile::TinyGgufFile(const TinyModel& model)
    : path_((std::filesystem::temp_directory_path() / "aster-tiny-XXXXXX").string()) {
  const int file = mkstemp(path_.data());
  ASTER_CHECK(file >= 0, "%s", path_.c_str());
  close(file);
  const Status status = WriteTinyGguf(model, path_);
  ASTER_CHECK(status.ok(), "%s", path_.c_str());
}

TinyGgufFile::~TinyGgufFile() { std::filesystem::remove(path_); }

}  // namespace aster
