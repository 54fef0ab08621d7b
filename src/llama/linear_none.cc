#include "llama/linear.h"

namespace aster {

std::unique_ptr<LinearLayers> LinearLayers::Make(int) { return nullptr; }
bool LinearLayers::PaysHere() { return false; }

}  // namespace aster
