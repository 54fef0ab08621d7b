#include "llama/linear.h"

namespace aster {

std::unique_ptr<LinearLayers> LinearLayers::Make(const Options&) { return nullptr; }
bool LinearLayers::PaysHere() { return false; }
LinearLayers::Precision LinearLayers::BestPrecision() { return Precision::kF32; }

}  // namespace aster
