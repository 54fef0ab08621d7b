#include "llama/hyperparameters.h"

#include "llama-model.h"
#include "llama.h"

namespace aster {

Window LayerWindow(const llama_model* model, int layer) {
  const llama_hparams& hparams = model->hparams;
  if (hparams.swa_type == LLAMA_SWA_TYPE_NONE || !hparams.is_swa(layer)) return {};
  return {hparams.n_swa, hparams.swa_type == LLAMA_SWA_TYPE_CHUNKED};
}

int AttentionLayers(const llama_model* model) {
  int n = 0;
  for (int layer = 0; layer < llama_model_n_layer(model); ++layer) {
    if (model->hparams.n_head(layer) > 0 && model->hparams.n_head_kv(layer) > 0) ++n;
  }
  return n;
}

std::string WhyNotServed(const llama_model* model) {
  const llama_hparams& hparams = model->hparams;
  if (llama_model_is_recurrent(model)) return "it is recurrent and keeps no keys to attend to";
  if (llama_model_is_hybrid(model)) return "some of its layers are recurrent";
  if (llama_model_is_diffusion(model))
    return "it is a diffusion model and does not decode in order";
  if (llama_model_has_encoder(model)) return "it has an encoder";
  if (!llama_model_has_decoder(model)) return "it has no decoder";
  if (!hparams.causal_attn) return "its attention is not causal";
  if (hparams.use_alibi || hparams.f_max_alibi_bias > 0.0f) return "it uses ALiBi position biases";
  if (hparams.swa_type == LLAMA_SWA_TYPE_SYMMETRIC) return "its sliding window looks ahead";
  if (hparams.indexer_top_k > 0) return "its attention is sparse: an indexer chooses the keys";
  for (const auto& layer : model->layers) {
    if (layer.rope_long != nullptr)
      return "its rope factors depend on the context length (longrope)";
  }
  return {};
}

// Not by the kind of rotation: llama.cpp names one for StarCoder too, which looks positions up.
bool HasPositionTable(const llama_model* model) { return model->pos_embd != nullptr; }

}  // namespace aster
