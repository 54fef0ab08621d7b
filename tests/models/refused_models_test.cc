// Models whose attention Aster cannot serve are refused when loaded, with the reason.

#include <gtest/gtest.h>

#include "aster/model.h"
#include "support/tiny_gguf.h"

namespace aster {
namespace {

struct Case {
  const char* name;
  TinyModel model;
  const char* architecture;
  const char* reason;
};

TinyModel Of(TinyArchitecture architecture, int head_dim = 64) {
  TinyModel model;
  model.architecture = architecture;
  model.head_dim = head_dim;
  return model;
}

const Case kCases[] = {
    {"ALiBi", Of(TinyArchitecture::kBloom), "bloom", "ALiBi"},
    {"recurrent", Of(TinyArchitecture::kMamba), "mamba", "recurrent"},
    {"encoder", Of(TinyArchitecture::kT5), "t5", "encoder"},
    {"not causal", Of(TinyArchitecture::kBert), "bert", "causal"},
    {"diffusion", Of(TinyArchitecture::kDream), "dream", "diffusion"},
    {"longrope", Of(TinyArchitecture::kLongRope), "llama", "longrope"},
    {"an indexer", Of(TinyArchitecture::kMiniMaxM3), "minimax-m3", "indexer"},
    {"a head of 288", Of(TinyArchitecture::kLlama, 288), "llama", "288"},
};

TEST(RefusedModels, AreNamedWithTheReasonInOneLine) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    const TinyGgufFile file(c.model);
    const Result<Model> model = Model::Load(file.path(), {});
    ASSERT_FALSE(model.ok());
    const Error& error = model.error();
    EXPECT_EQ(error.kind, ErrorKind::kWorld);
    for (const std::string& words :
         {std::string(c.architecture), std::string(c.reason), file.path()}) {
      EXPECT_NE(error.message.find(words), std::string::npos) << error.message;
    }
    EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
  }
}

}  // namespace
}  // namespace aster
