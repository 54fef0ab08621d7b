// What the fuzz driver starts from, and the words it puts in.
#pragma once

// clang-format off
#define kSeeds \
  "ask\n-m\nm.gguf\n-f\ndoc.txt\n-q\nWhy?", \
  "ask\n-f\n-\n-q\nWhy?\n-q\nHow?\n-n\n8\n-t\n2\n-ub\n64\n-s\n7\n--temp\n0.5\n--top-k\n40\n--top-p\n0.9\n--min-p\n0.1", \
  "ask\n-qx\n--attention=star\n--block-size\n4K\n--anchor-size\n512\n--json\n--no-progress\n--system\nBe brief.", \
  "ask\n--query=x\n--stop\na\n--stop\nb\n--repeat-penalty\n1.1\n--repeat-last-n\n64\n--allow-long\n--linear\nggml", \
  "chat\n-f\na\n-f\nb\n-v", "tokenize\n--no-bos\n--no-parse-special\n--count\n--\n-x", \
  "tokenize\n-f\na\n--json", "model\nlist\n--json", "model\nfetch\nsmollm2", "model\ninfo\n-m\nx", \
  "--help", "--version", "ask\n--help", "4096", "4K", "1M", "auto", "9223372036854775807K", \
  "plain text\n", "\xEF\xBB\xBF" "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80\r\n", "a\x1b[31m\x7f\xC2\x9B\x07", \
  "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xC0\xAF", "\xE2\x82"

#define kWords \
  "-q", "--query", "-f", "-", "--", "-ub", "--block-size", "--top-p", "=", "-ub=", "--temp=", "1e308", "nan", \
  "-1", "0", "0x10", "4k", "99999999999999999999", "'", "\"", "[a,b]", "{}", "%", "\x1b[2J", "\xEF\xBB\xBF", \
  "\xC3", "\xA9", "\xF0\x9F\x98\x80", "ask", "model", "--help", "--json", "-h", "\r", "\t", " "
// clang-format on
