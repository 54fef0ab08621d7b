// Asks one document two questions; it is read once.
//   ask_document MODEL.gguf DOCUMENT.txt QUESTION QUESTION
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "aster/context.h"
#include "aster/model.h"

int Fail(const aster::Error& error) {
  std::cerr << "ask_document: " << error.message << "\n";
  return 1;
}

int main(int argc, char** argv) {
  if (argc != 5) return Fail(aster::InvalidArgument("expected a model, a document, two questions"));
  auto model = aster::Model::Load(argv[1], {});
  if (!model) return Fail(model.error());
  std::ifstream file(argv[2]);
  const std::string document{std::istreambuf_iterator<char>(file), {}};

  aster::EncodeOptions encoding;
  encoding.on_progress = [](const aster::Progress& p) {
    std::fprintf(stderr, "%lld of %lld tokens\n", static_cast<long long>(p.n_done),
                 static_cast<long long>(p.n_total));
  };
  aster::AskOptions asking;
  asking.max_tokens = 64;
  asking.sampling.temperature = 0;
  asking.on_text = [](std::string_view text) { std::cout << text << std::flush; };

  std::optional<aster::Context> context;
  for (const std::string question : {argv[3], argv[4]}) {
    const std::vector<aster::Message> messages = {{"user", document + "\n\n" + question}};
    auto prompt = model->BuildPrompt(messages, question);
    if (!prompt) return Fail(prompt.error());
    const std::span<const aster::Token> tokens = prompt->tokens;
    if (!context) {
      auto encoded = aster::Context::Encode(*model, tokens.first(prompt->n_context), encoding);
      if (!encoded) return Fail(encoded.error());
      context = std::move(*encoded);
    }
    context->Rewind(context->CommonPrefix(tokens));  // another question may share less of the seam
    auto answer = context->Ask(tokens.subspan(context->tokens().size()), asking);
    if (!answer) return Fail(answer.error());
    std::cout << "\n";
  }
}
