# Everything Aster is built from, in one place: read by the scripts and by cmake/dependencies.cmake.
# Plain KEY=VALUE lines only. CONTRIBUTING.md gives the reason for each.

# llama.cpp with ggml and what it vendors, out of this source archive (MIT).
LLAMA_PACKAGE=llama-cpp-python
LLAMA_VERSION=0.3.36
LLAMA_MEMBER=vendor/llama.cpp
LLAMA_SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

# Least versions, those of Debian 12.
DNNL_MINIMUM=2.6
CLI11_MINIMUM=2.1
GTEST_MINIMUM=1.12
BENCHMARK_MINIMUM=1.7
