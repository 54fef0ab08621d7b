#include "session.h"

#include <algorithm>

#include "catalogue.h"
#include "document.h"
#include "numbers.h"
#include "progress_view.h"
#include "report.h"
#include "text.h"

namespace aster::cli {
Result<LoadedModel> LoadModel(const Options& options) {
  const Result<std::string> path = FindModelFile(options.model);
  if (!path) return path.error();
  ProgressView view(options.progress);
  view.Say("loading " + *path);
  ModelOptions model_options = options.model_options;
  if (!options.chat_template_file.empty()) {
    Result<std::string> text = ReadDocument(options.chat_template_file);
    if (!text) return text.error();
    model_options.chat_template = std::move(*text);
  }
  Result<Model> model = Model::Load(*path, model_options);
  if (!model) return model.error();
  return LoadedModel{std::move(*model), *path, std::move(model_options.chat_template)};
}

Result<LoadedModel> LoadModel(const Options& options, Hosts& hosts) {
  Result<LoadedModel> loaded = LoadModel(options);
  if (loaded) hosts.Share(loaded->model);
  return loaded;
}

std::vector<Message> FirstTurn(const Options& options, const std::string& document,
                               const std::string& question) {
  std::vector<Message> messages;
  if (options.system) messages.push_back({"system", *options.system});
  messages.push_back({"user", document + "\n\n" + question});
  return messages;
}

void WarnAboutSpecialTokens(const Model& model, const std::string& document) {
  const auto as_special = model.Tokenize(document, false, true);
  const auto as_text = model.Tokenize(document, false, false);
  if (!as_special || !as_text || *as_special == *as_text) return;
  const auto [special, text] =
      std::mismatch(as_special->begin(), as_special->end(), as_text->begin(), as_text->end());
  const std::string token = special == as_special->end() ? "" : model.TokenText(*special);
  Note("the document holds the text of special tokens, such as " + Shown(token) +
       ": the model reads them as such");
}

Status Session::ShowPlan(std::int64_t n_context, std::int64_t n_reserved) {
  PlanOptions plan_options = ForHosts(options_.plan, hosts_.size());
  plan_options.ubatch_size = model_.ubatch_size();
  // With auto the plan would take dense; but who names a block size means it.
  const bool is_auto = plan_options.attention == Attention::kAuto;
  if (is_auto && plan_options.block_size > n_context) plan_options.attention = Attention::kStar;
  const Result<Plan> plan = MakePlan(n_context, plan_options);
  if (!plan) return plan.error();
  SpreadChoice choice;
  std::int64_t n_own = n_context;
  if (hosts_.size() > 1) {
    Result<SpreadChoice> made = hosts_.Choose(model_, *plan);
    if (!made) return made.error();
    choice = std::move(*made);
    n_own = choice.shares.front().n_held();
  }
  const std::int64_t kv_bytes = PredictKvBytes(model_, n_own + n_reserved);
  const std::int64_t available = AvailableMemoryBytes();
  if (available > 0 && kv_bytes > available) return Ok();  // Encode refuses; it has the last word
  Note(PlanLine(*plan));
  if (hosts_.size() > 1) Note(HostsLine(*plan, choice));
  Note(MemoryLine(kv_bytes, available));
  return Ok();
}

std::int64_t AnswerRoom(const Options& options) {
  constexpr std::int64_t kGuess = 1024;
  return options.max_tokens > 0 ? options.max_tokens : kGuess;
}

Result<Context> Session::Encode(std::span<const Token> tokens, Room room, Interruptible& work) {
  const auto n_context = static_cast<std::int64_t>(tokens.size());
  const std::int64_t n_reserved = room.n_query + room.n_answer;
  // Encode checks the context alone; that the question fits too is better known before than after.
  Status fits = model_.CheckLength(n_context + room.n_query, options_.allow_long);
  if (!fits) return InvalidArgument("document and question are " + fits.error().message);
  fits = ShowPlan(n_context, n_reserved);
  if (!fits) return fits.error();

  ProgressView view(options_.progress);
  Progress last{.n_total = n_context};
  EncodeOptions encode;
  encode.plan = options_.plan;
  encode.stop = work.token();
  encode.allow_long = options_.allow_long;
  encode.reserve_tokens = n_reserved;
  encode.on_progress = [&](const Progress& progress) {
    last = progress;
    view.Update(progress);
    if (output_.Closed()) work.Stop();
  };
  view.Update(last);
  Result<Context> context = Context::Encode(model_, tokens, encode);
  view.Clear();
  if (context || context.error().kind != ErrorKind::kCancelled) return context;
  if (Status written = output_.status(); !written) return written.error();
  return Cancelled("stopped while encoding: " + FormatCount(last.n_done) + " of " +
                   FormatCount(last.n_total) + " tokens were done");
}

AskOptions Session::MakeAskOptions(bool keep_turn, Interruptible& work) {
  AskOptions ask;
  ask.max_tokens = options_.max_tokens;
  ask.sampling = options_.sampling;
  ask.stop_strings = options_.stop_strings;
  ask.allow_long = options_.allow_long;
  ask.keep_turn = keep_turn;
  ask.stop = work.token();
  if (!options_.json) {
    ask.on_text = [this, &work](std::string_view text) {
      if (!output_.WriteText(text)) work.Stop();
    };
  }
  return ask;
}

Result<Answer> Session::Ask(Context& context, std::span<const Token> prompt, double encode_seconds,
                            bool keep_turn, Interruptible& work) {
  const auto n_prompt = static_cast<std::int64_t>(prompt.size());
  // The last token is asked again even if it is there: its logits are what the answer starts from.
  const std::int64_t n_context = std::min(context.CommonPrefix(prompt), n_prompt - 1);
  if (Status rewound = context.Rewind(n_context); !rewound) return rewound.error();
  Result<Answer> answer = context.Ask(prompt.subspan(static_cast<std::size_t>(n_context)),
                                      MakeAskOptions(keep_turn, work));
  if (!answer) return answer;
  const Report report{model_, path_, context, *answer, n_context, encode_seconds};
  output_.Write(options_.json ? JsonLine(report) : "\n");
  if (Status written = output_.status(); !written) return written.error();
  Note(SummaryLine(report));
  return answer;
}

}  // namespace aster::cli
