// The live configuration as a pinned map: an array made anew for each generation in just the size that
// it needs, so a reader sees one whole configuration and `rm` of the pins takes it along.
#include <cstring>

#include <fmt/format.h>
#include <sys/stat.h>

#include "loader/gateway_impl.h"
#include "loader/rule_file.h"

namespace ptrig {

namespace {

constexpr char kMagic[8] = "ptlive1";
struct Page {
	std::uint8_t bytes[4096];
};

/// In this order in the map: header, TOML, path, identities (id, length of the name, name), slot counters.
struct Header {
	char magic[8];
	std::uint64_t generation;
	std::uint32_t first_set, next_set;
	std::uint32_t toml_bytes, path_bytes, identities, slots;
};

template <typename T> void put(std::string &out, const T &value) {
	out.append(reinterpret_cast<const char *>(&value), sizeof(value));
}

std::string encode(const Live &live) {
	const std::string toml = to_toml(live.config);
	Header header{};
	std::memcpy(header.magic, kMagic, sizeof(kMagic));
	header.generation = live.generation;
	header.first_set = live.first_set;
	header.next_set = live.next_set;
	header.toml_bytes = static_cast<std::uint32_t>(toml.size());
	header.path_bytes = static_cast<std::uint32_t>(live.config_path.size());
	header.identities = static_cast<std::uint32_t>(live.identities.size());
	header.slots = static_cast<std::uint32_t>(live.slot_counters.size());
	std::string out;
	put(out, header);
	out += toml;
	out += live.config_path;
	for (const auto &[name, identity] : live.identities) {
		put(out, identity.id);
		put(out, static_cast<std::uint8_t>(name.size()));
		out += name;
	}
	for (const std::uint32_t counter : live.slot_counters)
		put(out, static_cast<std::uint16_t>(counter));
	return out;
}

/// Takes values off the front of a text; `bad` once there are not enough bytes.
struct Cursor {
	std::string_view rest;
	bool bad = false;
	std::string_view take(std::size_t size) {
		bad = bad || size > rest.size();
		if (bad)
			return {};
		const auto taken = rest.substr(0, size);
		rest.remove_prefix(size);
		return taken;
	}
	template <typename T> T get() {
		T value{};
		const auto bytes = take(sizeof(T));
		if (!bad)
			std::memcpy(&value, bytes.data(), sizeof(T));
		return value;
	}
};

Result<std::shared_ptr<Live>> decode(std::string_view text, const std::string &path) {
	Cursor cursor{text};
	const auto header = cursor.get<Header>();
	if (cursor.bad || std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0)
		return fail(path + " does not hold a configuration");
	auto live = std::make_shared<Live>();
	auto parsed = parse_config(cursor.take(header.toml_bytes), path);
	if (!parsed.errors.empty())
		return fail("read the live configuration: " + parsed.errors.front().text());
	live->config = std::move(parsed.config);
	live->config_path = cursor.take(header.path_bytes);
	live->generation = header.generation;
	live->first_set = header.first_set;
	live->next_set = header.next_set;
	for (std::uint32_t i = 0; i < header.identities && !cursor.bad; i++) {
		const auto id = cursor.get<std::uint32_t>();
		const auto size = cursor.get<std::uint8_t>();
		live->identities[std::string(cursor.take(size))].id = id;
	}
	for (std::uint32_t i = 0; i < header.slots && !cursor.bad; i++)
		live->slot_counters.push_back(cursor.get<std::uint16_t>());
	if (cursor.bad)
		return fail(path + " is cut short");
	for (const Rule &rule : live->config.rules)
		if (const auto found = live->identities.find(rule.name); found != live->identities.end())
			found->second = identity_of(rule, found->second.id);
	live->index();
	return live;
}

} // namespace

std::string live_path(const std::string &dir, std::uint32_t generation) {
	return fmt::format("{}/pt_live{}", dir, generation);
}

void Live::index() {
	by_id.clear();
	for (const Rule &rule : config.rules)
		if (const auto found = identities.find(rule.name); found != identities.end())
			by_id[found->second.id] = &rule;
}

const Rule *Live::rule(std::uint32_t id) const {
	const auto found = by_id.find(id);
	return found == by_id.end() ? nullptr : found->second;
}

std::uint32_t Live::id_of(const std::string &name) const {
	const auto found = identities.find(name);
	return found == identities.end() ? 0 : found->second.id;
}

Result<std::shared_ptr<Live>> read_live(const std::string &dir, std::uint32_t generation) {
	const std::string path = live_path(dir, generation);
	auto fd = open_pin(path, Access::kRead);
	if (!fd)
		return tl::unexpected(std::move(fd.error()));
	if (auto fits = check_sizes(fd->get(), path, sizeof(std::uint32_t), sizeof(Page)); !fits)
		return tl::unexpected(std::move(fits.error()));
	const Map<std::uint32_t, Page> pages(std::move(*fd), path);
	std::string text;
	auto read = pages.each([&](std::uint32_t, const Page &page) {
		text.append(reinterpret_cast<const char *>(page.bytes), sizeof(page.bytes));
	});
	if (!read)
		return tl::unexpected(std::move(read.error()));
	return decode(text, path);
}

Done write_live(const std::string &dir, std::uint32_t generation, const Live &live) {
	const std::string text = encode(live);
	const auto count = static_cast<std::uint32_t>((text.size() + sizeof(Page) - 1) / sizeof(Page));
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	Fd fd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "pt_live", sizeof(std::uint32_t), sizeof(Page), count, &opts));
	if (!fd)
		return system_error("make a map for the configuration", -fd.get());
	auto pages = MappedArray<Page>::map(fd.get(), "pt_live");
	if (!pages)
		return tl::unexpected(std::move(pages.error()));
	std::memcpy((*pages)[0].bytes, text.data(), text.size());
	return pin_over(fd.get(), live_path(dir, generation));
}

Result<std::uint32_t> Gateway::Impl::active() const {
	auto now = state.lookup(0);
	if (!now)
		return tl::unexpected(std::move(now.error()));
	return now->value_or(ptrig_state{}).active & 1;
}

void Gateway::Impl::remember(std::uint32_t generation, std::shared_ptr<const Live> live) {
	struct stat st {};
	if (stat(live_path(dir, generation).c_str(), &st) < 0)
		return;
	cached_key_ = {generation, st.st_ino};
	cached_ = std::move(live);
}

Result<std::shared_ptr<const Live>> Gateway::Impl::live() const {
	for (;;) {
		auto generation = active();
		if (!generation)
			return tl::unexpected(std::move(generation.error()));
		const std::string path = live_path(dir, *generation);
		struct stat st {};
		if (stat(path.c_str(), &st) < 0) {
			const int code = errno;
			return system_error("read the live configuration: " + path, code);
		}
		// Each configuration is a map of its own, pinned once: the same inode is the same configuration.
		const auto key = std::pair(*generation, st.st_ino);
		if (cached_ && key == cached_key_)
			return cached_;
		auto fresh = read_live(dir, *generation);
		if (active().value_or(*generation) != *generation)
			continue;
		if (!fresh)
			return tl::unexpected(std::move(fresh.error()));
		cached_ = std::move(*fresh);
		cached_key_ = key;
		return cached_;
	}
}

} // namespace ptrig
