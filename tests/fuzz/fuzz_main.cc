// A driver for compilers without libFuzzer: mutates the seeds for a number of seconds. Input i is a
// function of i alone, so a failure is seen again with `<program> --only <i>`.
//
//   <program> [seconds] | --only <i>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include ASTER_FUZZ_SEEDS

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

volatile std::sig_atomic_t current = 0;

void SayInput(int) {
  std::fprintf(stderr, "input %d failed; run again with --only %d\n", static_cast<int>(current),
               static_cast<int>(current));
  std::signal(SIGABRT, SIG_DFL);
}

using Random = std::mt19937;

std::size_t Below(Random& random, std::size_t n) { return n == 0 ? 0 : random() % n; }

void Mutate(Random& random, std::string& input) {
  const std::string_view words[] = {kWords};
  const std::size_t at = Below(random, input.size() + 1);
  switch (Below(random, 6)) {
    case 0:
      input.insert(at, 1, static_cast<char>(random()));
      break;
    case 1:
      input.erase(at, 1 + Below(random, 8));
      break;
    case 2:
      input.insert(at, words[Below(random, std::size(words))]);
      break;
    case 3:
      if (at < input.size()) input[at] = static_cast<char>(input[at] ^ 1 << Below(random, 8));
      break;
    case 4:
      input.insert(at, input.substr(Below(random, input.size()), Below(random, 40)));
      break;
    case 5:
      input.insert(at, "\n");
      break;
  }
}

void RunInput(int i) {
  current = i;
  const std::string_view seeds[] = {kSeeds};
  Random random(static_cast<std::uint32_t>(i));
  std::string input(seeds[static_cast<std::size_t>(i) % std::size(seeds)]);
  if (static_cast<std::size_t>(i) >= std::size(seeds)) {
    for (std::size_t n = 1 + Below(random, 12); n > 0; --n) Mutate(random, input);
  }
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGABRT, SayInput);
  if (argc == 3 && std::strcmp(argv[1], "--only") == 0) {
    RunInput(std::atoi(argv[2]));
    return 0;
  }
  const auto seconds = std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 10);
  const auto end = std::chrono::steady_clock::now() + seconds;
  int i = 0;
  while (std::chrono::steady_clock::now() < end) RunInput(i++);
  std::printf("%d inputs\n", i);
  return 0;
}
