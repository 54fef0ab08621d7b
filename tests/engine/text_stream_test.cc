#include "engine/text_stream.h"

#include <gtest/gtest.h>

namespace aster {
namespace {

struct Case {
  const char* name;
  std::vector<std::string> stop_strings;
  std::vector<std::string> pieces;
  std::string shown_early;  // before Finish
  std::string text;         // after it
  bool stopped;
};

const Case kCases[] = {
    {"plain text passes through", {}, {"Hello", " world"}, "Hello world", "Hello world", false},
    {"a character split over tokens waits until it is whole",
     {},
     {"a\xC3", "\xA4"},
     "a\xC3\xA4",
     "a\xC3\xA4",
     false},
    {"four bytes one by one",
     {},
     {"\xF0", "\x9F", "\x98", "\x80!"},
     "\xF0\x9F\x98\x80!",
     "\xF0\x9F\x98\x80!",
     false},
    {"an open character at the end is kept as it is", {}, {"a\xE2\x82"}, "a", "a\xE2\x82", false},
    {"a lone continuation byte passes", {}, {"a\x80"}, "a\x80", "a\x80", false},
    {"a stop string ends the text before it", {"END"}, {"one END two"}, "", "one ", true},
    {"a stop string may span tokens", {"</s>"}, {"x<", "/", "s", ">y"}, "x", "x", true},
    {"what only began like a stop string is shown",
     {"</s>"},
     {"x<", "/b>"},
     "x</b>",
     "x</b>",
     false},
    {"the beginning of a stop string at the end is shown by Finish",
     {"</s>"},
     {"x</"},
     "x",
     "x</",
     false},
    {"the first of several stop strings counts", {"b", "a"}, {"xxab"}, "", "xx", true},
    {"a stop string that repeats its own beginning", {"aab"}, {"a", "a", "a", "b"}, "a", "a", true},
    {"an empty stop string is none", {""}, {"x"}, "x", "x", false},
};

TEST(TextStream, ShowsWholeCharactersAndNothingOfAStopString) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    std::string shown;
    TextStream stream(c.stop_strings, [&](std::string_view text) { shown += text; });
    bool stopped = false;
    for (const std::string& piece : c.pieces) {
      if (!stream.Add(piece)) {
        stopped = true;
        break;
      }
    }
    EXPECT_EQ(stopped, c.stopped);
    EXPECT_EQ(shown, c.shown_early);
    stream.Finish();
    EXPECT_EQ(stream.text(), c.text);
    EXPECT_EQ(shown, c.text) << "what was streamed is what is returned";
  }
}

}  // namespace
}  // namespace aster
