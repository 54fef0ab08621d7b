// The commands, each in the file of its name. They return the exit code, or the error that main
// prints as one line.
#pragma once

#include "aster/hosts.h"
#include "aster/status.h"
#include "command_line.h"

namespace aster::cli {

// These run on rank 0 of the hosts.
Result<int> RunAsk(const Options& options, Hosts& hosts);
Result<int> RunChat(const Options& options, Hosts& hosts);
Result<int> RunBench(const Options& options, Hosts& hosts);
Result<int> RunBenchHosts(const Options& options);
// What the other ranks do meanwhile: they print nothing but errors.
Result<int> RunContextHost(const Options& options, Hosts& hosts);
Result<int> RunEval(const Options& options, Hosts& hosts);
Result<int> RunServe(const Options& options);
Result<int> RunTokenize(const Options& options);
Result<int> RunModelList(const Options& options);
Result<int> RunModelFetch(const Options& options);
Result<int> RunModelInfo(const Options& options);

}  // namespace aster::cli
