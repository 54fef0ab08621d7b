// What of a schema is taken, taken out and refused, and that what is taken ends no converter.
#include "serve/schema_limits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "aster/chat.h"

namespace aster::serve {
namespace {

using testing::HasSubstr;

TEST(SchemaLimits, MultipliesRepetitionsWithinRepetitions) {
  struct Case {
    const char* pattern;
    double n;
  };
  const Case cases[] = {{"", 1},
                        {"abc", 1},
                        {"a{3}", 3},
                        {"a{3,7}b?", 7},
                        {"(a{3}b){4}", 12},
                        {"((((a?){40}){40}){40})", 128000},
                        {"[(a{9}]{5}", 5},
                        {"\\(a{9}\\){5}", 9},
                        {"(a*)+", 4},
                        {"a{2}{3}", 6},
                        {"(a{3})(b{4})", 4},
                        {"(a{3})(b{4}){2}", 8},
                        {"(a{3}(b{4}c)){2}", 14},
                        {"(a?|b?|c?){5}", 30},
                        {"(abc|d){4}", 4},
                        {")a{2", 1},
                        {"a{99999999}", 99999999}};
  for (const Case& c : cases) EXPECT_EQ(NestedRepetitions(c.pattern), c.n) << c.pattern;
  EXPECT_EQ(TooMuchOf(Json::parse(R"({"items": {"pattern": "^[a-z]{1,64}$"}})")), "");
  EXPECT_THAT(TooMuchOf(Json::parse(R"({"items": {"pattern": "^((a{40}){40}){2}$"}})")),
              HasSubstr("1000"));
}

TEST(SchemaLimits, KnowsThePatternsThatGrammarsHoldTo) {
  for (const char* kept :
       {"^$", "^abc$", "^[A-Z]{3}-[0-9]{1,4}$", "^(a|b)*c+d?$", "^(?:ab)+$", "^a\\.b\\$$",
        "^[^\"\\]\\n]*$", "^\\x41\\u00e9$", "^a{,3}b{2,}$", "^a{3,3}$", "^.*$"}) {
    EXPECT_TRUE(IsPatternKept(kept)) << kept;
  }
  for (const char* left :
       {"",         "^",         "a",          "^a",       "a$",      "^\\d+$", "^[\\w]$",
        "^(?=a)b$", "^(?<n>a)$", "^a^b$",      "^(a$|b)$", "^a]$",    "^a}$",   "^a{$",
        "^a{x}$",   "^a{}$",     "^a{1,2,3}$", "^\\x4$",   "^[\\d]$", "^[a$",   "^a{5,3}$"}) {
    EXPECT_FALSE(IsPatternKept(left)) << left;
  }
  EXPECT_FALSE(IsPatternKept("^" + std::string(kMaxPatternBytes, 'a') + "$"));
}

TEST(SchemaLimits, TakesOutPatternsAndNotWhatIsCalledSo) {
  Json schema = Json::parse(R"({"properties": {"pattern": {"type": "string", "pattern": "\\d"},
      "a": {"pattern": "^a$"}}, "const": {"pattern": "\\d"}, "anyOf": [{"pattern": "b"}]})");
  EXPECT_EQ(LeaveOutPatterns(schema), R"("\\d")");
  EXPECT_EQ(schema, Json::parse(R"({"properties": {"pattern": {"type": "string"},
      "a": {"pattern": "^a$"}}, "const": {"pattern": "\\d"}, "anyOf": [{}]})"));
  EXPECT_EQ(LeaveOutPatterns(schema), "");

  schema = Json::parse(R"({"$defs": {"enum": {"pattern": "\\d"}},
      "properties": {"default": {"pattern": "\\w", "default": {"pattern": "\\w"}}}})");
  EXPECT_EQ(LeaveOutPatterns(schema), R"("\\d")") << "a name of a schema is no keyword";
  EXPECT_EQ(schema, Json::parse(R"({"$defs": {"enum": {}},
      "properties": {"default": {"default": {"pattern": "\\w"}}}})"));
}

// `n` times `outer` around itself, in place of its null.
Json Nested(const Json& outer, const char* at, int n) {
  Json schema = {{"type", "string"}};
  for (int i = 0; i < n; ++i) {
    Json next = outer;
    next[Json::json_pointer(at)] = schema;
    schema = next;
  }
  return schema;
}

Json WithProperties(int n) {
  Json schema = {{"type", "object"}, {"properties", Json::object()}};
  for (int i = 0; i < n; ++i) {
    schema["properties"]["p" + std::to_string(i)] = {{"type", "string"}};
  }
  return schema;
}

TEST(SchemaLimits, AreOfAllToolsOfARequest) {
  const Json schema = WithProperties(99);
  std::size_t n_parts = 0;
  for (std::size_t n = 1; n <= kMaxToolsParts / 100; ++n) {
    ASSERT_EQ(TooMuchOf(schema, n_parts), "");
    ASSERT_EQ(n_parts, 100 * n);
  }
  EXPECT_THAT(TooMuchOf(schema, n_parts), HasSubstr("at most 4000 parts in all"));
}

TEST(SchemaLimits, OrdinarySchemasAreTaken) {
  for (
      const char* schema : {
          R"({})",
          R"({"type": "object", "properties": {"a": {"type": ["string", "null"]}}})",
          R"({"$defs": {"n": {"properties": {"next": {"$ref": "#/$defs/n"}}}}, "$ref": "#/$defs/n"})",
          R"({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"c": {}}}],
               "$defs": {"a": {"properties": {"b": {"type": "integer"}}}}})",
          R"({"items": [{"const": 1}, {"enum": ["a", "b"]}], "minItems": 2000})",
          R"({"$ref": "#/nowhere"})",
          R"({"$ref": 5})",
          R"({"allOf": 5, "type": [5, ["string"]]})",
      }) {
    EXPECT_EQ(TooMuchOf(Json::parse(schema)), "") << schema;
  }
  EXPECT_EQ(TooMuchOf(Nested({{"type", "array"}}, "/items", 30)), "");
  EXPECT_EQ(TooMuchOf(WithProperties(kMaxOptional)), "");
}

// Each of them ended llama.cpp's converter, or kept it busy for hours.
TEST(SchemaLimits, WhatUnfoldsWithoutEndOrIntoTooMuchIsRefused) {
  const std::string long_name(kMaxNameBytes + 1, '_');
  Json chain = {{"$ref", "#/$defs/0"}, {"$defs", Json::object()}};
  for (int i = 0; i < 200; ++i) {
    chain["$defs"][std::to_string(i)] = {{"items", {{"$ref", "#/$defs/" + std::to_string(i + 1)}}}};
  }
  Json doubling = {{"$ref", "#/$defs/0"}, {"$defs", Json::object()}};
  for (int i = 0; i < 30; ++i) {
    const Json next = {{"$ref", "#/$defs/" + std::to_string(i + 1)}};
    doubling["$defs"][std::to_string(i)]["properties"]["p"]["allOf"] = {next, next};
  }
  Json choices = {{"$ref", "#/$defs/0"}, {"$defs", Json::object()}};
  for (int i = 0; i < 40; ++i) {
    const Json next = {{"$ref", "#/$defs/" + std::to_string(i + 1)}};
    choices["$defs"][std::to_string(i)]["anyOf"] = {next, next};
  }
  Json required = WithProperties(static_cast<int>(kMaxOptional) + 1);
  const Json optional = required;
  for (const auto& [name, property] : optional["properties"].items()) {
    required["required"].push_back(name);
  }
  EXPECT_EQ(TooMuchOf(required), "");
  const std::pair<Json, const char*> cases[] = {
      {Json::parse(R"({"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]})"),
       "lead somewhere"},
      {Json::parse(R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                       "$ref": "#/$defs/a"})"),
       "lead somewhere"},
      {Json::parse(R"({"$ref": "#/$defs/a", "$defs": {"a": {"properties":
                       {"p": {"allOf": [{"$ref": "#/$defs/a"}]}}}}})"),
       "allOf that holds itself"},
      {Nested({{"type", {"array", "array"}}}, "/items", 30), "parts"},
      {Nested({{"type", {"array"}}}, "/items", 60), "within each other"},
      {chain, "within each other"},
      {doubling, "parts"},
      {choices, "alternatives"},
      {Json{{"properties", {{long_name, Json::object()}}}}, "names of at most 256"},
      {Json{{"$ref", "#/" + long_name}}, "names of at most 256"},
      {optional, "not required"},
      {Json{{"allOf", {{{"anyOf", {WithProperties(60), WithProperties(60)}}}}}}, "not required"},
      {Json{{"description", std::string(kMaxSchemaBytes, 'x')}}, "256 KiB"},
      {Json{{"items", {{"type", "string"}, {"maxLength", 2001}}}}, "maxLength of at most 2000"},
      {Json{{"items", {{"type", "string"}, {"minLength", 5}, {"maxLength", 3}}}},
       "minLength of at most maxLength"},
      {Json{{"minItems", 5}, {"maxItems", 3}}, "minItems of at most maxItems"},
      {Json{{"minimum", 5}, {"maximum", 3.5}}, "minimum of at most maximum"},
      {Json::parse(R"({"$ref": "#/examples/0", "examples": [{"pattern": "\\d"}]})"),
       "no $ref to a pattern"},
      {Json::parse(R"({"$ref": "#/examples/0", "examples": [{"minItems": 5, "maxItems": 3}]})"),
       "minItems of at most maxItems"},
      {Json{{"type", std::vector<std::string>(1990, "string")},
            {"examples", std::string(200'000, 'x')}},
       "parts"},
  };
  for (const auto& [schema, expected] : cases) {
    EXPECT_THAT(TooMuchOf(schema), HasSubstr(expected)) << schema.dump().substr(0, 200);
  }
}

// Data that only looks like a schema, and what stands beside a few types.
TEST(TooMuchOf, NothingIsRefusedForValuesOrAFewTypes) {
  const Json schemas[] = {
      Json::parse(R"({"default": {"minimum": 10, "maximum": 0, "maxLength": 5000}})"),
      Json::parse(R"({"properties": {"a": {"enum": [{"pattern": "((a{99}){99}){99}"}]}}})"),
      Json{{"type", {"string", "null"}}, {"examples", std::string(200'000, 'x')}},
      Json{{"properties", {{"default", {{"minimum", 0}, {"maximum", 10}}}}}},
  };
  for (const Json& schema : schemas)
    EXPECT_EQ(TooMuchOf(schema), "") << schema.dump().substr(0, 99);
  EXPECT_THAT(TooMuchOf(Json{{"properties", {{"default", {{"minimum", 10}, {"maximum", 0}}}}}}),
              HasSubstr("minimum"));
}

TEST(CloseLongBounds, GivesALoneBoundOf16DigitsTheOther) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"minimum": 1600000000000000})",
       R"({"minimum": 1600000000000000, "maximum": 9999999999999999})"},
      {R"({"items": {"exclusiveMaximum": -1600000000000000}})",
       R"({"items": {"exclusiveMaximum": -1600000000000000, "minimum": -9999999999999999}})"},
      {R"({"minimum": 160000000000000})", R"({"minimum": 160000000000000})"},
      {R"({"minimum": -1600000000000000})", R"({"minimum": -1600000000000000})"},
      {R"({"minimum": 10000000000000000})", R"({"minimum": 10000000000000000})"},
      {R"({"minimum": 1600000000000000, "maximum": 1600000000000001})",
       R"({"minimum": 1600000000000000, "maximum": 1600000000000001})"},
      {R"({"default": {"minimum": 1600000000000000}})",
       R"({"default": {"minimum": 1600000000000000}})"},
  };
  for (const auto& [given, expected] : cases) {
    Json schema = Json::parse(given);
    CloseLongBounds(schema);
    EXPECT_EQ(schema, Json::parse(expected));
  }
}

// Parts of every kind, many references among them, to whatever there is.
class SchemaMaker {
 public:
  explicit SchemaMaker(unsigned seed) : random_(seed) {}

  Json Make() {
    Json schema = Part(5);
    if (!schema.contains("$ref")) schema["type"] = "object";
    for (int i = 0; i < kDefinitions; ++i) schema["$defs"][Name(i)] = Part(4);
    return schema;
  }

 private:
  static constexpr int kDefinitions = 5;

  int Below(int n) { return std::uniform_int_distribution(0, n - 1)(random_); }
  static std::string Name(int i) { return std::string(1, static_cast<char>('a' + i)); }
  Json Type() {
    const char* const types[] = {"object", "array", "string", "integer", "number", "boolean"};
    return types[Below(6)];
  }
  Json Parts(int depth) {
    Json list = Json::array();
    for (int i = 1 + Below(3); i > 0; --i) list.push_back(Part(depth));
    return list;
  }

  Json Part(int depth) {
    if (depth == 0 || Below(4) == 0) {
      if (Below(3) > 0) return {{"$ref", "#/$defs/" + Name(Below(kDefinitions))}};
      return {{"type", Type()}};
    }
    Json part = Json::object();
    if (Below(2) == 0) part["type"] = Below(3) > 0 ? Type() : Json::array({Type(), Type()});
    if (Below(2) == 0) {
      for (int i = Below(4); i > 0; --i) part["properties"][Name(i)] = Part(depth - 1);
      if (Below(2) == 0) part["required"] = {Name(1), Name(3)};
    }
    const char* const keys[] = {"allOf", "anyOf", "oneOf", "items", "prefixItems"};
    for (const char* key : keys) {
      if (Below(4) == 0) part[key] = Parts(depth - 1);
    }
    if (Below(4) == 0) part["items"] = Part(depth - 1);
    if (Below(4) == 0) part["additionalProperties"] = Part(depth - 1);
    if (Below(8) == 0) part["enum"] = {"x", 1, nullptr};
    if (Below(8) == 0) part["minItems"] = Below(5);
    return part;
  }

  std::mt19937 random_;
};

TEST(SchemaLimits, WhatIsTakenEndsNoConverter) {
  int n_taken = 0, n_converted = 0;
  for (unsigned seed = 0; seed < 1000; ++seed) {
    const Json schema = SchemaMaker(seed).Make();
    if (!TooMuchOf(schema).empty()) continue;
    ++n_taken;
    n_converted += GrammarOfSchema(schema.dump()).ok();
  }
  EXPECT_GT(n_taken, 150);
  EXPECT_LT(n_taken, 1000);
  EXPECT_GT(n_converted, 100);
}

}  // namespace
}  // namespace aster::serve
