// A conversation: its turns as they are shown, and as they are sent again with the next question.

import { events, request } from "./api.js";
import { count, counted, duration, line, rate } from "./format.js";
import { announce, element } from "./page.js";

export class Conversation {
  constructor() {
    this.contextId = "";
    this.messages = [];
    this.element = element("ol", "turns");
    this.running = null;   // the AbortController of the answer that runs
    this.failed = null;    // the turn that got no answer: gone when the next one is asked
    this.document = null;  // title and tokens of the context that it is about
    this.unsent = null;    // question and message of a failure that was out of sight
  }

  stop() {
    this.running?.abort();
  }

  clear() {
    this.stop();
    this.messages = [];
    this.element.replaceChildren();
  }

  // Asks and streams the answer into the page. options: fields of the request. onChange is called when
  // the answer begins or ends, onText when it grows. Returns null, or the Failure. What was answered
  // before a stop or a failure is part of the conversation; a question without any answer is not.
  async ask(question, options, { onChange, onText }) {
    const messages = this.messages;
    const asked = { role: "user", content: question };
    const body = {
      ...options,
      ...(this.contextId ? { context_id: this.contextId } : {}),
      messages: [...messages, asked],
      stream: true, stream_options: { include_usage: true }, return_progress: true,
    };
    this.failed?.remove();
    const turn = new Turn(question);
    this.element.append(turn.element);
    this.running = new AbortController();
    onChange();
    announce("Waiting for the answer");
    let failure = null;
    try {
      await turn.receive(body, this.running.signal, onText);
    } catch (error) {
      if (!this.running.signal.aborted) failure = error;
      turn.end(!failure ? "stopped" : turn.text ? "not finished" : "no answer");
    }
    if (turn.text) messages.push(asked, { role: "assistant", content: turn.text });
    this.failed = turn.text ? null : turn.element;
    const stopped = this.running.signal.aborted;
    this.running = null;
    announce(failure ? "" : stopped ? "Stopped" : turn.text ? "The answer is complete" : "No answer");
    onChange();
    return failure;
  }
}

class Turn {
  constructor(question) {
    this.text = "";
    this.thoughts = null;  // the text of the thinking, where the model thinks before it answers
    this.ttft = "";
    this.node = document.createTextNode("");
    this.element = element("li", "turn");
    this.answer = element("div", "answer running");
    this.answer.append(this.node);
    this.figures = element("p", "figures soft", "Waiting for the server");
    const asked = element("p", "question");
    asked.append(element("span", "hidden", "You asked: "), question);
    this.element.append(asked, this.answer, this.figures);
  }

  async receive(body, signal, onText) {
    const begun = performance.now();
    const seen = {};
    const response = await request("v1/chat/completions", { method: "POST", body, signal });
    this.figures.textContent = "Reading the question";
    for await (const event of events(response, signal)) {
      const choice = event.choices?.[0];
      const { content: text, reasoning_content: thought } = choice?.delta ?? {};
      if (text || thought) {
        this.ttft ||= `TTFT ${duration(performance.now() - begun)}`;
        if (thought) this.think(thought);
        if (text) this.say(text);
        onText();
      } else if (event.prompt_progress && !this.ttft) {
        this.showReading(event.prompt_progress);
      }
      if (choice?.finish_reason) seen.finish = choice.finish_reason;
      if (event.usage) seen.usage = event.usage;
      if (event.timings) seen.timings = event.timings;
    }
    this.end(this.text ? "" : this.thoughts ? "No answer: all of it was thinking" : "An empty answer", seen);
  }

  // Thinking stands folded above the answer and is not sent again.
  think(thought) {
    if (!this.thoughts) {
      this.thoughts = document.createTextNode("");
      const text = element("div", "thoughts");
      text.append(this.thoughts);
      const fold = element("details", "thinking soft");
      fold.append(element("summary", "", "Thinking"), text);
      this.element.insertBefore(fold, this.answer);
      this.figures.textContent = line(this.ttft, "thinking");
    }
    this.thoughts.appendData(thought);
  }

  say(text) {
    if (!this.text) this.figures.textContent = this.ttft;
    this.text += text;
    this.node.appendData(text);
  }

  showReading({ total, processed }) {
    this.figures.textContent = `Reading: ${count(processed)} of ${count(total)} tokens`;
  }

  // What is known at the end.
  end(said, { usage, timings, finish } = {}) {
    this.answer.classList.remove("running");
    const cached = usage?.prompt_tokens_details?.cached_tokens;
    this.figures.textContent = line(this.ttft, said,
      cached !== undefined && `${count(cached)} of ${counted(usage.prompt_tokens, "token")} cached`,
      timings?.predicted_per_second > 0 && rate(timings.predicted_per_second),
      usage && `${counted(usage.completion_tokens, "token")} of answer`,
      finish === "length" && "cut at the limit");
  }
}
