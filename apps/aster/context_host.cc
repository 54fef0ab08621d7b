// A context host under mpirun: encodes and holds blocks for rank 0, and says nothing but errors.
#include "commands.h"
#include "session.h"

namespace aster::cli {

Result<int> RunContextHost(const Options& options, Hosts& hosts) {
  const bool spreads = options.command == Command::kAsk || options.command == Command::kChat ||
                       options.command == Command::kBench ||
                       (options.command == Command::kEval && !options.eval.data.empty());
  if (!spreads) return 0;
  Options quiet = options;
  quiet.progress = false;
  Result<LoadedModel> loaded = LoadModel(quiet);
  if (!loaded) {
    hosts.Refuse(loaded.error());
    return loaded.error();
  }
  if (const Status served = hosts.Serve(loaded->model); !served) return served.error();
  return 0;
}

}  // namespace aster::cli
