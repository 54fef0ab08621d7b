// The program: the command line in, the exit code out.
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

Result<int> Run(const Options& options, Hosts& hosts) {
  if (hosts.rank() > 0) return RunContextHost(options, hosts);
  switch (options.command) {
    case Command::kHelp:
      return Print(options.help);
    case Command::kVersion:
      return Print("aster " ASTER_VERSION "\n");
    case Command::kAsk:
      return RunAsk(options, hosts);
    case Command::kChat:
      return RunChat(options, hosts);
    case Command::kBench:
      return RunBench(options, hosts);
    case Command::kBenchHosts:
      return RunBenchHosts(options);
    case Command::kServe:
      if (hosts.size() > 1)
        return InvalidArgument("serve: runs on one host; start it without mpirun");
      return RunServe(options);
    case Command::kEval:
      return RunEval(options, hosts);
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
  Result<Hosts> hosts = Hosts::FromEnvironment(options ? options->hosts : HostOptions());
  if (hosts && hosts->rank() > 0) NoteRank(hosts->rank());
  if (hosts && hosts->rank() > 0 && !options) return ExitCode(options.error());  // rank 0 says why
  const Result<int> code = !options ? Result<int>(options.error())
                           : !hosts ? Result<int>(hosts.error())
                                    : Run(*options, *hosts);
  if (code) return *code;
  Note(code.error().message);
  return ExitCode(code.error());
}

}  // namespace
}  // namespace aster::cli

int main(int argc, char** argv) {
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
