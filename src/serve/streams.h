// A request's answer as server-sent events, made of what its ticket says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "aster/chat.h"
#include "aster/model.h"
#include "serve/answer_json.h"
#include "serve/ticket.h"

namespace aster::serve {

// Makes events of a ticket's states; one object a request.
class EventMaker {
 public:
  virtual ~EventMaker() = default;
  // The events between the last state and this one, and at its end the last ones.
  virtual std::string Events(const TicketState& state) = 0;
};

struct StreamOptions {
  std::string id;
  std::string model_name;
  std::int64_t created = 0;
  bool include_usage = false;
  bool return_progress = false;
};

std::unique_ptr<EventMaker> MakeChatEvents(const Model& model, StreamOptions options,
                                           ChatReader reader);
std::unique_ptr<EventMaker> MakeCompletionEvents(const Model& model, StreamOptions options);
std::unique_ptr<EventMaker> MakeContextEvents();

// The answers of a finished request, whole.
Json ChatAnswerJson(const Model& model, const StreamOptions& options, const ChatReader& reader,
                    const TicketState& state);
Json CompletionJson(const Model& model, const StreamOptions& options, const TicketState& state);

}  // namespace aster::serve
