// Facts about a model's layers that llama.h does not give. Reads llama.cpp's internal headers, in
// this one file, because a wrong window is a silent wrong answer; forward_pass checks what it says
// against the masks that llama.cpp builds.
#pragma once

#include <string>

#include "attention/attend.h"

struct llama_model;

namespace aster {

// The sliding window of one layer; size 0 when it sees everything.
Window LayerWindow(const llama_model* model, int layer);

// Layers that have attention: all but those that an architecture leaves out.
int AttentionLayers(const llama_model* model);

// Why this model's attention cannot be served, as half a sentence; empty when it can, as far as its
// hyperparameters tell.
std::string WhyNotServed(const llama_model* model);

// Positions are looked up in a table of n_ctx_train rows: nothing lies beyond.
bool HasPositionTable(const llama_model* model);

}  // namespace aster
