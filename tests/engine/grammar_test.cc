// Grammars that an answer can't be held to, or not to its end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "aster/context.h"
#include "support/tiny_engine.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

class GrammarTest : public testing::Test {
 protected:
  Result<Answer> Ask(const std::string& grammar, float temperature = 0.8f) {
    AskOptions options;
    options.max_tokens = 5;
    options.sampling.temperature = temperature;
    options.sampling.grammar.text = grammar;
    return context_.Ask(SomeTokens(5, 3), options);
  }

  const TinyGgufFile file_{TinyModel{}};
  const Model model_ = MustLoadTiny(file_.path());
  Context context_ = *Context::Encode(model_, SomeTokens(40), {});
};

TEST_F(GrammarTest, ThatCannotBeReadIsRefused) {
  const Result<Answer> answer = Ask("root ::= (");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind, ErrorKind::kInvalidArgument);
}

// llama.cpp would count from the one bound down to the other, for ever.
TEST_F(GrammarTest, ThatRepeatsLessOftenThanAtLeastIsRefused) {
  for (const char* grammar :
       {"root ::= \"a\"{5,3}", "root ::= [a\\]]{ 5 , 3 }", "# {1,2}\nroot ::= (\"a\"){2,1}",
        "root ::= # x\r \"a\"{5,3}", "root ::= (\"a\"{5,#c\n3})", "root ::= (\"a\"{5#c\n,3})"}) {
    const Result<Answer> answer = Ask(grammar);
    ASSERT_FALSE(answer.ok()) << grammar;
    EXPECT_EQ(answer.error().kind, ErrorKind::kInvalidArgument);
    EXPECT_THAT(answer.error().message, testing::HasSubstr("at least more than at most"))
        << grammar;
  }
  for (const char* grammar :
       {"root ::= \"{5,3}\" \"a\"", "root ::= [{5,3}]", "# {5,3}\nroot ::= \"a\"{2,2}",
        "root ::= \"a\"{2,}", "root ::= \"a\\\"{5,3}\""}) {
    EXPECT_TRUE(Ask(grammar).ok()) << grammar;
  }
}

// llama.cpp ends the process when a token is taken that its grammar does not have.
TEST_F(GrammarTest, ThatLeavesNoTokenEndsTheAnswer) {
  for (const float temperature : {0.0f, 1.0f}) {
    const Result<Answer> answer = Ask("root ::= \"a\" [z-a] \"b\"", temperature);
    ASSERT_TRUE(answer.ok()) << answer.error().message;
    EXPECT_EQ(answer->text, "a");
    EXPECT_EQ(answer->finish, Finish::kEndOfText);
  }
}

}  // namespace
}  // namespace aster
