#include "command_line.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

#include "flags.h"
#include "help.h"
#include "help_texts.h"
#include "text.h"

namespace aster::cli {
namespace {

// llama.cpp's options that people may try, and what to do instead.
constexpr std::array<std::pair<std::string_view, std::string_view>, 10> kForeign{{
    {"-p", "the document is -f FILE and the question -q TEXT"},
    {"--prompt", "the document is -f FILE and the question -q TEXT"},
    {"-c", "not needed: the context is as long as the document"},
    {"--ctx-size", "not needed: the context is as long as the document"},
    {"-b", "see --ubatch-size"},
    {"--batch-size", "see --ubatch-size"},
    {"-ngl", "Aster computes on the CPU"},
    {"-fa", "see --attention"},
    {"-sys", "see --system"},
    {"-hf", "download the GGUF and pass it as -m FILE"},
}};

struct Parser {
  CLI::App app{kTopHelp, "aster"};
  std::vector<std::pair<const CLI::App*, Command>> commands;

  CLI::App& Add(CLI::App& parent, const char* name, Command command, const char* help,
                const char* footer) {
    CLI::App& added = *parent.add_subcommand(name, help);
    added.footer(footer);
    added.allow_extras();
    commands.emplace_back(&added, command);
    return added;
  }
};

void AddDocumentFlags(CLI::App& app, Options& options, const char* file_help) {
  AddList(app, "-f,--file", "FILE", file_help, options.files)->group("Document");
}

void AddSystemFlag(CLI::App& app, Options& options) {
  AddValue(app, "--system", "TEXT", "System message. Default: what the model's chat template puts.",
           "text",
           [&options](const std::string& text) {
             options.system = text;
             return true;
           })
      ->group("Document");
}

void AddAsk(Parser& parser, Options& options) {
  CLI::App& app = parser.Add(parser.app, "ask", Command::kAsk, kAskHelp, kAskFooter);
  AddDocumentFlags(app, options,
                   "The document, UTF-8 text; - is standard input. Repeated: one\n"
                   "after the other, with a blank line between.\n"
                   "Default: standard input, when it is no terminal.");
  AddList(app, "-q,--query", "TEXT",
          "The question. Repeated: the document is encoded once and\n"
          "each question answered on its own.",
          options.queries)
      ->group("Document");
  AddSystemFlag(app, options);
  AddModelFlags(app, options);
  AddComputeFlags(app, options);
  AddAttentionFlags(app, options);
  AddHostFlags(app, options);
  AddAnswerFlags(app, options);
  AddOutputFlags(app, options);
}

void AddChat(Parser& parser, Options& options) {
  CLI::App& app = parser.Add(parser.app, "chat", Command::kChat, kChatHelp, kChatFooter);
  AddDocumentFlags(app, options,
                   "The document, UTF-8 text. Repeated: one after the other,\n"
                   "with a blank line between.");
  AddSystemFlag(app, options);
  AddModelFlags(app, options);
  AddComputeFlags(app, options);
  AddAttentionFlags(app, options);
  AddHostFlags(app, options);
  AddAnswerFlags(app, options);
  AddOutputFlags(app, options);
}

void AddBench(Parser& parser, Options& options) {
  CLI::App& app = parser.Add(parser.app, "bench", Command::kBench, kBenchHelp, kBenchFooter);
  AddModelFlags(app, options);
  AddComputeFlags(app, options);
  AddHostFlags(app, options);
  AddBenchFlags(app, options);
  CLI::App& hosts =
      parser.Add(app, "hosts", Command::kBenchHosts, kBenchHostsHelp, kBenchHostsFooter);
  AddModelFlags(hosts, options);
  AddComputeFlags(hosts, options);
  AddBenchHostsFlags(hosts, options);
}

void AddServe(Parser& parser, Options& options) {
  CLI::App& app = parser.Add(parser.app, "serve", Command::kServe, kServeHelp, kServeFooter);
  AddModelFlags(app, options);
  AddComputeFlags(app, options);
  AddServeFlags(app, options);
  AddServeAttentionFlags(app, options);
  AddServeAnswerFlags(app, options);
}

void AddEval(Parser& parser, Options& options) {
  CLI::App& app = parser.Add(parser.app, "eval", Command::kEval, kEvalHelp, kEvalFooter);
  AddModelFlags(app, options);
  AddComputeFlags(app, options);
  AddHostFlags(app, options);
  AddEvalFlags(app, options);
}

void AddTokenize(Parser& parser, Options& options) {
  CLI::App& app =
      parser.Add(parser.app, "tokenize", Command::kTokenize, kTokenizeHelp, kTokenizeFooter);
  app.add_option("TEXT", options.text, "The text.")->type_name("TEXT")->group("Text");
  AddList(app, "-f,--file", "FILE", "Read the text from this file; - is standard input.",
          options.files)
      ->group("Text");
  app.add_flag("-0,--null", options.each_text,
               "Texts on standard input, each up to a NUL byte; a line of\n"
               "output for each, at once.")
      ->group("Text");
  AddModelFlags(app, options);
  app.option_defaults()->group("Output");
  AddJsonFlag(app, options, "One JSON object; see below.");
  app.add_flag("--count", options.count_only, "Print only the number of tokens.");
  app.add_flag("--chat", options.as_chat,
               "The text as a user's message, in the model's chat template,\n"
               "ready for the answer.");
  app.add_flag_callback(
      "--no-bos", [&options] { options.add_special = false; },
      "Without the model's begin-of-text token.");
  app.add_flag_callback(
      "--no-parse-special", [&options] { options.parse_special = false; },
      "Read the text of special tokens, such as <|im_end|>, as plain text.");
  AddVerboseFlag(app, options);
}

void AddModel(Parser& parser, Options& options) {
  CLI::App& app = *parser.app.add_subcommand("model", kModelHelp);
  app.allow_extras();
  CLI::App& list = parser.Add(app, "list", Command::kModelList, kListHelp, "");
  AddJsonFlag(list, options,
              "A JSON array of name, aliases, bytes, n_ctx, licence, description,\n"
              "path and fetched.");
  CLI::App& fetch = parser.Add(app, "fetch", Command::kModelFetch, kFetchHelp, "");
  fetch.add_option("NAME", options.model, "A name from `aster model list`.")
      ->type_name("NAME")
      ->group("Model");
  CLI::App& info = parser.Add(app, "info", Command::kModelInfo, kInfoHelp, "");
  AddModelFlags(info, options);
  AddJsonFlag(info, options, "The same as one JSON object.");
  AddVerboseFlag(info, options);
}

std::unique_ptr<Parser> MakeParser(Options& options) {
  auto parser = std::make_unique<Parser>();
  CLI::App& app = parser->app;
  app.formatter(std::make_shared<HelpFormatter>());
  app.footer(kTopFooter);
  app.set_help_flag("-h,--help", "This text.")->group("Options");
  app.add_flag_callback(
         "--version", [&options] { options.command = Command::kVersion; }, "Aster's version.")
      ->group("Options");
  app.allow_extras();
  app.require_subcommand(0, 1);
  app.option_defaults()->group("Options");
  AddAsk(*parser, options);
  AddChat(*parser, options);
  AddBench(*parser, options);
  AddServe(*parser, options);
  AddEval(*parser, options);
  AddTokenize(*parser, options);
  AddModel(*parser, options);
  return parser;
}

// What CLI11 cannot take: "-ub", a short name of two letters as llama.cpp has it, and "--name="
// with an empty value, which it would take from the next argument.
std::vector<std::string> Normalised(std::span<const std::string> arguments) {
  std::vector<std::string> out;
  bool options_ended = false;
  for (const std::string& argument : arguments) {
    options_ended = options_ended || argument == "--";
    if (!options_ended && (argument == "-ub" || argument.starts_with("-ub="))) {
      out.push_back("--ubatch-size" + argument.substr(3));
    } else {
      out.push_back(argument);
    }
    const std::string& last = out.back();
    if (!options_ended && last.starts_with("--") && last.find('=') == last.size() - 1) {
      out.back().pop_back();
      out.emplace_back();
    }
  }
  return out;
}

std::optional<Error> ForeignOption(std::span<const std::string> arguments) {
  if (!arguments.empty() && arguments.front() == "bench") return std::nullopt;  // has a -p itself
  const bool is_eval = !arguments.empty() && arguments.front() == "eval";
  for (const std::string& argument : arguments) {
    for (const auto& [name, hint] : kForeign) {
      if (is_eval && name == "--prompt") continue;  // a kind of prompt
      if (argument == name) {
        return InvalidArgument(argument + ": not an option of Aster: " + std::string(hint));
      }
    }
  }
  return std::nullopt;
}

// The command chosen, and the one whose --help to point to.
struct Chosen {
  std::optional<Command> command;
  std::string path = "aster";
  const CLI::App* app = nullptr;
};

Chosen FindCommand(const Parser& parser) {
  Chosen chosen;
  chosen.app = &parser.app;
  while (!chosen.app->get_subcommands().empty()) {
    chosen.app = chosen.app->get_subcommands().front();
    chosen.path += " " + chosen.app->get_name();
  }
  for (const auto& [app, command] : parser.commands) {
    if (app == chosen.app) chosen.command = command;
  }
  return chosen;
}

Error Unexpected(const std::string& argument, const Chosen& chosen) {
  const bool is_option = argument.size() > 1 && argument.front() == '-';
  const char* const what = is_option ? ": no such option" : ": unexpected argument";
  return InvalidArgument(Shown(argument) + what + "; see " + chosen.path + " --help");
}

Error UnknownCommand(const std::vector<std::string>& rest, const Chosen& chosen) {
  const bool of_model = chosen.path == "aster model";
  const std::string expected =
      of_model ? "list, fetch or info" : "ask, chat, bench, serve, eval, tokenize or model";
  const std::string see = "; see " + chosen.path + " --help";
  if (rest.empty()) return InvalidArgument("no command: expected " + expected + see);
  if (rest.front().starts_with('-')) return Unexpected(rest.front(), chosen);
  return InvalidArgument(Shown(rest.front()) + ": no such command: expected " + expected + see);
}

std::string Reason(const CLI::ParseError& error) {
  const std::string reason = error.what();
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) == nullptr) return reason;
  return reason.substr(0, reason.find(": ")) + ": expected a value after it";
}

Status CheckIsText(const std::string& what, const std::string& text) {
  if (IsBlank(text)) return InvalidArgument(what + " " + Shown(text) + ": empty; expected text");
  if (FindInvalidUtf8(text)) return InvalidArgument(what + ": not UTF-8; expected UTF-8 text");
  return Ok();
}

Status CheckFiles(const Options& options) {
  if (std::count(options.files.begin(), options.files.end(), "-") > 1) {
    return InvalidArgument("-f -: given twice; standard input can be read once");
  }
  for (const std::string& file : options.files) {
    if (file.empty()) return InvalidArgument("-f '': expected a file, or - for standard input");
  }
  return Ok();
}

Status CheckTexts(const Options& options) {
  for (const std::string& query : options.queries) {
    if (Status ok = CheckIsText("-q", query); !ok) return ok;
  }
  for (const std::string& stop : options.stop_strings) {
    if (stop.empty()) return InvalidArgument("--stop '': expected text");
    if (FindInvalidUtf8(stop)) return InvalidArgument("--stop: not UTF-8; expected UTF-8 text");
  }
  if (options.system && FindInvalidUtf8(*options.system)) {
    return InvalidArgument("--system: not UTF-8; expected UTF-8 text");
  }
  return Ok();
}

Status CheckChat(const Options& options) {
  if (options.files.empty()) return InvalidArgument("no document: expected -f FILE");
  if (std::count(options.files.begin(), options.files.end(), "-") > 0) {
    return InvalidArgument("-f -: chat reads its questions from standard input; expected a file");
  }
  return Ok();
}

Status CheckTokenize(const Options& options) {
  if (!options.files.empty() && !options.text.empty()) {
    return InvalidArgument(Shown(options.text) + ": unexpected beside -f; expected one of them");
  }
  if (options.each_text && !(options.files.empty() && options.text.empty())) {
    return InvalidArgument(
        "--null: unexpected beside TEXT and -f; its texts are on standard input");
  }
  if (!options.files.empty() || options.each_text) return Ok();
  if (options.text.empty()) return InvalidArgument("no text: expected TEXT, -f FILE or --null");
  if (FindInvalidUtf8(options.text)) return InvalidArgument("TEXT: not UTF-8; expected UTF-8 text");
  return Ok();
}

Status CheckServe(const Options& options) {
  const ServeOptions& serve = options.serve;
  const Attention attention = options.plan.attention;
  if (attention == Attention::kRing || attention == Attention::kLlama) {
    return InvalidArgument("--attention " + std::string(AttentionName(attention)) +
                           ": serve takes auto, dense or star");
  }
  if (attention == Attention::kDense) {  // with sizes, which are star's, no request would be taken
    if (const Result<Plan> plan = MakePlan(kMinBlockSize, options.plan); !plan) return plan.error();
  }
  if (serve.tls_cert.empty() != serve.tls_key.empty()) {
    return InvalidArgument("--tls-cert and --tls-key: expected both or none");
  }
  for (const std::string& key : serve.api_keys) {
    if (IsBlank(key) || FindInvalidUtf8(key)) {
      return InvalidArgument("--api-key: expected UTF-8 text that is not empty");
    }
  }
  return Ok();
}

// What no single flag can see.
Status CheckTogether(const Options& options) {
  if (Status ok = CheckFiles(options); !ok) return ok;
  if (Status ok = CheckTexts(options); !ok) return ok;
  switch (options.command) {
    case Command::kAsk:
      if (options.queries.empty()) return InvalidArgument("no question: expected -q TEXT");
      return Ok();
    case Command::kChat:
      return CheckChat(options);
    case Command::kTokenize:
      return CheckTokenize(options);
    case Command::kEval:
      if (options.eval.output.empty()) return InvalidArgument("no folder: expected -o DIR");
      return Ok();
    case Command::kServe:
      return CheckServe(options);
    case Command::kModelFetch:
      if (options.model.empty()) return InvalidArgument("no model: expected a NAME");
      return Ok();
    default:
      return Ok();
  }
}

Result<Options> Parse(Parser& parser, Options& options, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  parser.app.parse(std::move(arguments));
  if (options.command == Command::kVersion) return options;
  const Chosen chosen = FindCommand(parser);
  std::vector<std::string> rest = parser.app.remaining(true);
  std::erase(rest, "--");
  if (!chosen.command) return UnknownCommand(rest, chosen);
  if (!rest.empty()) return Unexpected(rest.front(), chosen);
  options.command = *chosen.command;
  const Status fits = CheckTogether(options);
  if (!fits) return fits.error();
  return options;
}

}  // namespace

Result<Options> ParseCommandLine(std::span<const std::string> arguments) {
  Options options;
  const std::unique_ptr<Parser> parser = MakeParser(options);
  try {
    Result<Options> parsed = Parse(*parser, options, Normalised(arguments));
    const std::optional<Error> foreign = parsed ? std::nullopt : ForeignOption(arguments);
    return foreign ? *foreign : parsed;
  } catch (const CLI::CallForHelp&) {
    options.command = Command::kHelp;
    options.help = parser->app.help();
    return options;
  } catch (const CLI::ParseError& error) {
    const std::optional<Error> foreign = ForeignOption(arguments);
    return foreign ? *foreign : InvalidArgument(Reason(error));
  }
}

}  // namespace aster::cli
