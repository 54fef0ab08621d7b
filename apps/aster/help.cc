#include "help.h"

#include <string_view>

namespace aster::cli {
namespace {

constexpr std::size_t kColumn = 28;  // where descriptions start

// The left part, then the description's lines in the right column.
std::string Row(std::string left, std::string_view description) {
  if (left.size() + 2 > kColumn)
    left += "\n" + std::string(kColumn, ' ');
  else
    left.resize(kColumn, ' ');
  for (const char c : description) {
    left += c;
    if (c == '\n') left += std::string(kColumn, ' ');
  }
  return left + "\n";
}

std::string OptionNames(const CLI::Option& option) {
  if (option.get_positional()) return "  " + option.get_type_name();
  std::string names;
  for (const std::string& name : option.get_snames()) names += "-" + name + ", ";
  if (option.check_lname("ubatch-size")) names = "-ub, ";  // see ParseCommandLine
  if (names.empty()) names = "    ";
  names += "--" + option.get_lnames().front();
  return "  " + names + (option.get_items_expected_max() > 0 ? " " + option.get_type_name() : "");
}

std::string Group(const CLI::App& app, const std::string& group) {
  std::string rows;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group() == group) rows += Row(OptionNames(*option), option->get_description());
  }
  return rows.empty() ? "" : "\n" + group + ":\n" + rows;
}

}  // namespace

std::string HelpFormatter::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
  std::string help = app->get_description() + "\n";
  for (const std::string& group : app->get_groups()) help += Group(*app, group);
  if (!app->get_footer().empty()) help += "\n" + app->get_footer() + "\n";
  return help;
}

}  // namespace aster::cli
