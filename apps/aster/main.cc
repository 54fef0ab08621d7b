// The program: the command line in, the exit code out.
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "command_line.h"
#include "commands.h"
#include "output.h"
#include "signals.h"

namespace aster::cli {
namespace {

Result<int> Print(const std::string& text) {
  Output output;
  output.Write(text);
  if (Status written = output.status(); !written) return written.error();
  return 0;
}

Result<int> Run(const Options& options) {
  switch (options.command) {
    case Command::kHelp:
      return Print(options.help);
    case Command::kVersion:
      return Print("aster " ASTER_VERSION "\n");
    case Command::kAsk:
      return RunAsk(options);
    case Command::kChat:
      return RunChat(options);
    case Command::kBench:
      return RunBench(options);
    case Command::kTokenize:
      return RunTokenize(options);
    case Command::kModelList:
      return RunModelList(options);
    case Command::kModelFetch:
      return RunModelFetch(options);
    case Command::kModelInfo:
      return RunModelInfo(options);
  }
  return 0;
}

int ExitCode(const Error& error) {
  switch (error.kind) {
    case ErrorKind::kInvalidArgument:
      return 2;
    case ErrorKind::kWorld:
      return 1;
    case ErrorKind::kCancelled:
      return ExitCodeOf(LastSignal());
  }
  return 1;
}

int Main(const std::vector<std::string>& arguments) {
  const Result<Options> options = ParseCommandLine(arguments);
  const Result<int> code = options ? Run(*options) : Result<int>(options.error());
  if (code) return *code;
  Note(code.error().message);
  return ExitCode(code.error());
}

// How often a thread looks before it sleeps at a barrier; see docs/design.md, "Beside other work".
constexpr const char* kSpinCount = "20000";

// libgomp's own choice is to look for milliseconds. Beside another busy process the thread that
// looks then holds the very core that the thread it waits for needs, once for each of a thousand
// barriers. libgomp reads its environment when it is loaded, so the program starts itself anew.
void LimitSpinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("GOMP_SPINCOUNT", kSpinCount, 1) != 0) return;
  execv("/proc/self/exe", argv);  // without /proc it goes on as it is
}

}  // namespace
}  // namespace aster::cli

int main(int argc, char** argv) {
  aster::cli::LimitSpinning(argv);
  aster::cli::OpenStandardDescriptors();
  aster::cli::StartSignals();
  try {
    return aster::cli::Main({argv + (argc > 0 ? 1 : 0), argv + argc});
  } catch (const std::bad_alloc&) {
    aster::cli::Note("out of memory");
  } catch (const std::exception& error) {
    aster::cli::Note(error.what());
  }
  return 1;
}
