// Small tools for texts: quoting, UTF-8, whole numbers, the nearest word.
#include "loader/rule_text.h"

#include <gtest/gtest.h>

namespace ptrig::text {
namespace {

TEST(Text, QuotesForOneLineOfATerminal) {
	EXPECT_EQ(text::in_quotes("plain é 漢"), "\"plain é 漢\"");
	EXPECT_EQ(text::in_quotes("a\n\x1b[31m\x7f"), "\"a\\u000a\\u001b[31m\\u007f\"");
	EXPECT_EQ(text::in_quotes("\xff\xc0\x80"), "\"\\xff\\xc0\\x80\"");
	EXPECT_EQ(text::in_quotes("\xc2\x9b"), "\"\\u009b\""); // CSI of Latin-1
	EXPECT_EQ(text::in_quotes("\xe2\x80\xae"), "\"\\u202e\"") << "turns the text around";
	const std::string cut = text::in_quotes(std::string(1000, 'x'));
	EXPECT_LT(cut.size(), 100U);
	EXPECT_NE(cut.find("..."), std::string::npos);
	// Never in the middle of a character.
	for (std::size_t lead = 0; lead < 4; ++lead) {
		std::string text(lead, 'x');
		for (int i = 0; i < 50; ++i)
			text += "漢";
		EXPECT_TRUE(is_printable(text::in_quotes(text))) << text::in_quotes(text);
	}
}

TEST(Text, KnowsValidUtf8) {
	for (const char *good : {"", "abc", "é", "漢字", "😀", "\xf4\x8f\xbf\xbf"})
		EXPECT_TRUE(is_printable(good)) << good;
	for (const char *bad :
	     {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf0\x80\x80\x80", "\xf4\x90\x80\x80",
	      "\xf5\x80\x80\x80", "\xe6\xbc", "\xc3", "a\xff", "\t", "\r\n", "\x7f"})
		EXPECT_FALSE(is_printable(bad)) << text::in_quotes(bad);
}

TEST(Text, WholeNumbersAreDigitsOnly) {
	EXPECT_EQ(whole_number("0"), 0U);
	EXPECT_EQ(whole_number("65535"), 65535U);
	EXPECT_EQ(whole_number("999999999999999999"), 999999999999999999U);
	for (const char *bad : {"", "-1", "+1", " 1", "1 ", "1.0", "0x1", "01", "1e3", "1000000000000000000"})
		EXPECT_FALSE(whole_number(bad)) << bad;
}

TEST(Text, GuessesTheNearestWord) {
	const std::vector<std::string_view> known{"timeout", "trigger", "trigger_remotes", "log", "open"};
	EXPECT_EQ(nearest("timeot", known), "timeout");
	EXPECT_EQ(nearest("tiemout", known), "timeout");
	EXPECT_EQ(nearest("triger_remote", known), "trigger_remotes");
	EXPECT_EQ(nearest("opne", known), "open");
	EXPECT_FALSE(nearest("zorglub", known));
	EXPECT_FALSE(nearest("", known));
	EXPECT_FALSE(nearest(std::string(100000, 'x'), known));
}

TEST(Text, SplitsAndTrims) {
	EXPECT_EQ(split("a,b,,c", ','), (std::vector<std::string_view>{"a", "b", "", "c"}));
	EXPECT_EQ(split("", ','), (std::vector<std::string_view>{""}));
	EXPECT_EQ(trimmed(" \t a b \n"), "a b");
	EXPECT_EQ(trimmed("  "), "");
	EXPECT_EQ(alternatives({"a"}), "a");
	EXPECT_EQ(alternatives({"a", "b", "c"}), "a, b or c");
}

} // namespace
} // namespace ptrig::text
