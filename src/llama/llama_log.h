// llama.cpp's log: silent unless asked for, its last error kept for our own message.
#pragma once

#include <string>

namespace aster {

// Sends llama.cpp's log to standard error (verbose) or nowhere. Process-wide, like llama.cpp's own.
void SetLlamaLog(bool verbose);

// The last error line llama.cpp wrote on this thread since the last call, without its function
// name; empty when there was none.
std::string TakeLlamaError();

}  // namespace aster
