// kvass tokenize on a tiny model.
#include "cli/test_files.h"

namespace kvass {
namespace {

using namespace testing;  // NOLINT: helpers of the tests
using nlohmann::json;

TEST(Tokenize, TextToIdsToTextIsTheIdentity) {
  for (const std::string text :
       {"the and", "", "é ▂ 語\n\t x", "\xff\x80 broken \xe2\x96", " the", "<bos> the <eos>"}) {
    const Finished ids = kvass({"tokenize", tiny(), "--json"}, text);
    EXPECT_TRUE(parsed(ids).is_array());
    EXPECT_EQ(kvass({"tokenize", tiny(), "--decode"}, ids.out).out, text);
  }
  EXPECT_EQ(parsed(kvass({"tokenize", tiny(), "--json", "--bos", "--special"}, "<eos>"))[0], 2);
  EXPECT_EQ(parsed(kvass({"tokenize", tiny(), "--json", "--decode"}, kvass({"tokenize", tiny(), "--json"}, "the").out)),
            "the");
  EXPECT_TRUE(has(kvass({"tokenize", tiny(), "--bos"}, "the").out, "      2 \"<bos>\"\n"));
  for (const char* ids : {"", "{}", "[1", "[-1]", "[1.5]", "[\"a\"]", "[300]", "[4294967296]"}) {
    expect_refused(kvass({"tokenize", tiny(), "--decode"}, ids), 1, {"expected "});
  }
}

}  // namespace
}  // namespace kvass
