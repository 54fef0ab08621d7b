// The commands, each in the file of its name. They return the exit code, or the error that main
// prints as one line.
#pragma once

#include "aster/status.h"
#include "command_line.h"

namespace aster::cli {

Result<int> RunAsk(const Options& options);
Result<int> RunChat(const Options& options);
Result<int> RunBench(const Options& options);
Result<int> RunTokenize(const Options& options);
Result<int> RunModelList(const Options& options);
Result<int> RunModelFetch(const Options& options);
Result<int> RunModelInfo(const Options& options);

}  // namespace aster::cli
