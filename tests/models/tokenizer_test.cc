// Texts in parts and on a larger stack have llama.cpp's tokens.
#include "llama/tokenizer.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "llama.h"
#include "llama/llama_model.h"
#include "models/compare.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

std::vector<Token> StockTokens(const llama_vocab* vocab, const std::string& text, bool add_special,
                               bool parse_special) {
  std::vector<Token> tokens(text.size() + 8);
  const int n =
      llama_tokenize(vocab, text.data(), static_cast<std::int32_t>(text.size()), tokens.data(),
                     static_cast<std::int32_t>(tokens.size()), add_special, parse_special);
  tokens.resize(static_cast<std::size_t>(n));
  return tokens;
}

std::string RandomText(std::mt19937& random, int n_pieces) {
  static const std::vector<std::string> kPieces = {
      "<|im_start|>", "<|im_end|>", "</s>", "<s>",  "<unk>", "<b>",   "b><",
      "<|im",         "|><|",       "></s", "\n\n", "\n",    "  ",    " ",
      "the",          "in",         "er",   "<",    "|",     ">",     "b",
      "\u00E4",       "7",          "ing",  "/s",   "im_",   "_end|>"};
  std::uniform_int_distribution<std::size_t> piece(0, kPieces.size() - 1);
  std::string text;
  for (int i = 0; i < n_pieces; ++i) text += kPieces[piece(random)];
  return text;
}

class TokenizerTest : public testing::TestWithParam<bool> {
 protected:
  TokenizerTest() : file_(TinyModel{.n_layers = 1, .add_eos = true, .bpe = GetParam()}) {
    model_ = MustLoad(file_.path());
  }
  const llama_vocab* vocab() const { return llama_model_get_vocab(model_->get()); }

  TinyGgufFile file_;
  std::unique_ptr<LlamaModel> model_;
};

TEST_P(TokenizerTest, TextsInPartsHaveTheTokensOfTheWhole) {
  const Tokenizer tokenizer(vocab(), 16);
  std::mt19937 random(5);
  const int n_texts = GetParam() ? 200 : 2000;  // a std::regex is made for each piece of text
  int n_cut = 0;
  for (int i = 0; i < n_texts; ++i) {
    const std::string text = RandomText(random, 1 + i % 60);
    const bool add_special = i % 2 == 0;
    const bool parse_special = i % 3 != 0;
    if (text.size() > 16) n_cut += tokenizer.FindCut(text, 16, parse_special) < text.size() ? 1 : 0;
    const Result<std::vector<Token>> tokens = tokenizer.Tokenize(text, add_special, parse_special);
    ASSERT_TRUE(tokens);
    ASSERT_EQ(*tokens, StockTokens(vocab(), text, add_special, parse_special)) << text;
  }
  EXPECT_GT(n_cut, n_texts / 4);
}

TEST_P(TokenizerTest, LongWordsEndNoProcess) {
  const Tokenizer tokenizer(vocab());
  for (const char c : {'a', 'A', ' ', '\n', '!', '7'}) {
    const std::string text = "the " + std::string(60000, c) + " in";
    const Result<std::vector<Token>> tokens = tokenizer.Tokenize(text, true, true);
    ASSERT_TRUE(tokens) << tokens.error().message;
    EXPECT_EQ(model_->Detokenize(*tokens, false), text);
  }
}

TEST_P(TokenizerTest, AWordThatIsTooLongIsRefusedWhereItWouldBeSplit) {
  const Tokenizer tokenizer(vocab());
  const std::string text(Tokenizer::kMaxWordBytes + 1, 'x');
  const Result<std::vector<Token>> tokens = tokenizer.Tokenize(text, false, true);
  if (!GetParam()) {
    EXPECT_TRUE(tokens);
    return;
  }
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().kind, ErrorKind::kInvalidArgument);
  EXPECT_EQ(tokens.error().message,
            "the text has 1048577 bytes that white space does not part: expected at most 1048576");
}

INSTANTIATE_TEST_SUITE_P(Each, TokenizerTest, testing::Bool(),
                         [](const auto& one) { return one.param ? "Bpe" : "SentencePiece"; });

TEST(LongestRun, CountsWhiteSpaceAndWordsAlike) {
  EXPECT_EQ(LongestRun(""), 0u);
  EXPECT_EQ(LongestRun("a"), 1u);
  EXPECT_EQ(LongestRun("ab \n\tcd"), 3u);
  EXPECT_EQ(LongestRun("  word"), 4u);
}

}  // namespace
}  // namespace aster
