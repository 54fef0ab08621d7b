// What the fuzz driver of requests starts from, and the words it puts in.
#pragma once

// clang-format off
#define kSeeds \
  R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":5,"temperature":0.5,"top_p":1,"n":2,"seed":-1})", \
  R"({"messages":[{"role":"system","content":[{"type":"text","text":"a"}]},{"role":"user","content":"b"}],"stream":true,"stream_options":{"include_usage":true},"stop":["a","b"]})", \
  R"({"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"x","tool_call_id":"1"}]})", \
  R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}}})", \
  R"({"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","properties":{"a":{"type":"integer"}}}}},"logprobs":true,"top_logprobs":3})", \
  R"({"prompt":"a","context":"b","logprobs":5,"max_completion_tokens":3,"presence_penalty":-2,"frequency_penalty":2})", \
  R"({"text":"a document","name":"n","attention":"star","block_size":64,"anchor_size":0,"allow_long":true})", \
  R"({"files":[{"name":"a","text":"b"}],"stream":false})", R"({"messages":[{"role":"user","content":"a b"}],"question":"b","context_id":"ctx_1"})"

#define kWords \
  "null", "true", "-1", "0", "1e999", "1e308", "-0", "9223372036854775808", "18446744073709551616", "NaN", "{}", "[]", \
  "\"\"", "[[[[", "{\"a\":", "\\u0000", "\\ud800", "\\", "\xff", "\xC3", "\xF0\x9F\x98\x80", "\"role\"", "\"content\"", \
  "\"tool_calls\"", "\"text\"", "\"stop\"", "\"n\"", "\"seed\"", ",", ":", "1.5", "\"star\"", "\"dense\"", "\0"
// clang-format on
