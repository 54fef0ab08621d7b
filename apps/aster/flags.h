// The flags that commands share, each declared once: names, help, range, and where its value goes.
#pragma once

#include <CLI/App.hpp>
#include <functional>
#include <string>

#include "command_line.h"

namespace aster::cli {

// Takes a value, or refuses it with false.
using Setter = std::function<bool(const std::string&)>;

// An option with one value; given twice, the last one counts, as in llama.cpp. A refused value is
// the error "--name value: expected <expected>".
CLI::Option* AddValue(CLI::App& app, const std::string& names, const std::string& value_name,
                      const std::string& help, const std::string& expected, Setter set);
// An option that may be given several times; the values keep their order.
CLI::Option* AddList(CLI::App& app, const std::string& names, const std::string& value_name,
                     const std::string& help, std::vector<std::string>& values);

// Each adds one group of the help.
void AddModelFlags(CLI::App& app, Options& options);
void AddComputeFlags(CLI::App& app, Options& options);  // threads, ubatch, linear layers
void AddAttentionFlags(CLI::App& app, Options& options);
void AddServeAttentionFlags(CLI::App& app, Options& options);  // of one host, and ours
void AddHostFlags(CLI::App& app, Options& options);
void AddBenchFlags(CLI::App& app, Options& options);        // measure_flags.cc
void AddBenchHostsFlags(CLI::App& app, Options& options);   // measure_flags.cc
void AddEvalFlags(CLI::App& app, Options& options);         // measure_flags.cc
void AddServeFlags(CLI::App& app, Options& options);        // serve_flags.cc
void AddServeAnswerFlags(CLI::App& app, Options& options);  // serve_flags.cc
void AddSamplingFlags(CLI::App& app, SamplingOptions& sampling);
void AddAnswerFlags(CLI::App& app, Options& options);
void AddOutputFlags(CLI::App& app, Options& options);
void AddJsonFlag(CLI::App& app, Options& options, const std::string& help);
void AddVerboseFlag(CLI::App& app, Options& options);
// Parts of a group.
void AddAnchorAndLengthFlags(CLI::App& app, Options& options);
void AddWindowFlag(CLI::App& app, Options& options);  // and the overlap's
void AddProgressFlag(CLI::App& app, Options& options);

}  // namespace aster::cli
