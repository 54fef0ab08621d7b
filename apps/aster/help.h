// How --help looks: usage, what the command does, its options in groups, notes and examples.
#pragma once

#include <CLI/App.hpp>
#include <string>

namespace aster::cli {

// CLI11 calls it for --help. `Usage:` lines stand in the description of each command.
class HelpFormatter : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override;
};

}  // namespace aster::cli
