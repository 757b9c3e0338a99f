// Finds keys of very many parts, before the TOML library makes tables of them.
#include "loader/toml_depth.h"

namespace ptrig {
namespace {

bool is_bare(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

/// Goes through a text by TOML's rules for strings and comments, as far as dots are concerned.
class Scanner {
public:
	explicit Scanner(std::string_view text) : text_(text) {}

	std::optional<FilePosition> run() {
		while (at_ < text_.size()) {
			const char c = text_[at_];
			if (c == '"' || c == '\'')
				skip_string(c);
			else if (c == '#')
				skip_comment();
			else if (step(c))
				return key_begin_;
		}
		return std::nullopt;
	}

private:
	/// One character outside of strings. True: the key has become too deep.
	bool step(char c) {
		if (c == '.') {
			begin_key();
			++parts_;
		} else if (is_bare(c)) {
			begin_key();
		} else if (c != ' ' && c != '\t') {
			parts_ = 0;
		}
		advance();
		return parts_ > kMostKeyParts;
	}

	void begin_key() {
		if (parts_ != 0)
			return;
		parts_ = 1;
		key_begin_ = here_;
	}

	/// A string, which may be a part of a key.
	void skip_string(char quote) {
		begin_key();
		const bool is_long = text_.substr(at_, 3) == std::string(3, quote);
		const std::string end(is_long ? 3 : 1, quote);
		for (std::size_t i = 0; i < end.size(); ++i)
			advance();
		while (at_ < text_.size() && (is_long || text_[at_] != '\n')) {
			if (text_.substr(at_, end.size()) == end) {
				for (std::size_t i = 0; i < end.size(); ++i)
					advance();
				return;
			}
			if (quote == '"' && text_[at_] == '\\')
				advance();
			advance();
		}
	}

	void skip_comment() {
		while (at_ < text_.size() && text_[at_] != '\n')
			advance();
	}

	void advance() {
		if (at_ >= text_.size())
			return;
		if (text_[at_] == '\n')
			here_ = {here_.line + 1, 1};
		else if ((static_cast<unsigned char>(text_[at_]) & 0xC0) != 0x80) // not within a character
			++here_.column;
		++at_;
	}

	std::string_view text_;
	std::size_t at_ = 0;
	FilePosition here_{1, 1};
	FilePosition key_begin_;
	unsigned parts_ = 0;
};

} // namespace

std::optional<FilePosition> find_deep_key(std::string_view text) {
	return Scanner(text).run();
}

} // namespace ptrig
