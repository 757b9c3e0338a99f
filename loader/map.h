// Typed access to BPF maps: Map<K, V> for hashes, tries and arrays, PerCpuMap<K, V>, and
// MappedArray<V> for arrays that user space writes as memory. Errors name the map and the call.
// Nothing here knows what a map means.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/result.h"

namespace ptrig {

/// A file descriptor that closes itself.
class Fd {
public:
	Fd() = default;
	explicit Fd(int fd) : fd_(fd) {}
	Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
	Fd &operator=(Fd &&other) noexcept {
		std::swap(fd_, other.fd_);
		return *this;
	}
	~Fd() {
		if (fd_ >= 0)
			::close(fd_);
	}
	int get() const { return fd_; }
	explicit operator bool() const { return fd_ >= 0; }

private:
	int fd_ = -1;
};

/// What the holder of a pinned map may do with it.
enum class Access { kRead, kWrite };

/// The object pinned at `path`. kRead: no call through this descriptor can change the map.
inline Result<Fd> open_pin(const std::string &path, Access access) {
	LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = access == Access::kRead ? std::uint32_t{BPF_F_RDONLY} : 0U);
	const int fd = bpf_obj_get_opts(path.c_str(), &opts);
	if (fd < 0)
		return system_error("open " + path, -fd);
	return Fd(fd);
}

/// Done if the map behind `fd` has keys and values of these sizes: the kernel copies by its own idea of them.
inline Result<bpf_map_info> check_sizes(int fd, const std::string &name, std::size_t key, std::size_t value) {
	bpf_map_info info{};
	std::uint32_t size = sizeof(info);
	if (const int rc = bpf_obj_get_info_by_fd(fd, &info, &size); rc < 0)
		return system_error("ask for the size of " + name, -rc);
	if (info.key_size != key || info.value_size != value)
		return fail(name + " is laid out by another version of ptrig");
	return info;
}

template <typename K, typename V> class Map {
	static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);

public:
	Map() = default;
	Map(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
	static Result<Map> open(const std::string &dir, const char *name, Access access = Access::kWrite) {
		auto fd = open_pin(dir + "/" + name, access);
		if (!fd)
			return tl::unexpected(std::move(fd.error()));
		if (auto fits = check_sizes(fd->get(), name, sizeof(K), sizeof(V)); !fits)
			return tl::unexpected(std::move(fits.error()));
		return Map(std::move(*fd), name);
	}

	int fd() const { return fd_.get(); }

	Result<std::optional<V>> lookup(const K &key) const {
		V value{};
		const int rc = bpf_map_lookup_elem(fd_.get(), &key, &value);
		if (rc == -ENOENT)
			return std::nullopt;
		if (rc < 0)
			return system_error("read " + name_, -rc);
		return value;
	}
	Done update(const K &key, const V &value, std::uint64_t flags = BPF_ANY) {
		const int rc = bpf_map_update_elem(fd_.get(), &key, &value, flags);
		if (rc < 0)
			return system_error("write " + name_, -rc);
		return {};
	}
	/// All of them, in as few calls as may be.
	Done update_all(const std::vector<K> &keys, const std::vector<V> &values) {
		auto count = static_cast<std::uint32_t>(keys.size());
		LIBBPF_OPTS(bpf_map_batch_opts, opts);
		const int rc =
			keys.empty() ? 0 : bpf_map_update_batch(fd_.get(), keys.data(), values.data(), &count, &opts);
		if (rc < 0)
			return system_error("write " + name_, -rc);
		return {};
	}
	/// Done too if there is no such key.
	Done erase(const K &key) {
		const int rc = bpf_map_delete_elem(fd_.get(), &key);
		if (rc < 0 && rc != -ENOENT)
			return system_error("delete from " + name_, -rc);
		return {};
	}
	/// Calls `each(key, value)` for every entry of a hash in bounded memory, a bucket at a time:
	/// entries that come and go meanwhile may be seen or not, none is seen twice.
	template <typename F> Done each(F &&each) const {
		LIBBPF_OPTS(bpf_map_batch_opts, opts);
		std::vector<K> keys(kBatch);
		std::vector<V> values(kBatch);
		std::uint32_t in = 0, out = 0;
		bool first = true;
		for (;;) {
			auto count = static_cast<std::uint32_t>(keys.size());
			const int rc = bpf_map_lookup_batch(fd_.get(), first ? nullptr : &in, &out, keys.data(),
							    values.data(), &count, &opts);
			if (rc == -ENOSPC) { // a bucket that holds more than fits
				keys.resize(keys.size() * 2);
				values.resize(values.size() * 2);
				continue;
			}
			if (rc < 0 && rc != -ENOENT)
				return system_error("list " + name_, -rc);
			for (std::uint32_t i = 0; i < count; i++)
				each(std::as_const(keys[i]), std::as_const(values[i]));
			if (rc == -ENOENT)
				return {};
			in = out;
			first = false;
		}
	}
	/// Every key, of any map type that can walk its keys (tries too).
	Result<std::vector<K>> keys() const {
		std::vector<K> all;
		K next{};
		const K *last = nullptr;
		int rc = 0;
		while ((rc = bpf_map_get_next_key(fd_.get(), last, &next)) == 0) {
			all.push_back(next);
			last = &all.back();
		}
		if (rc != -ENOENT)
			return system_error("list " + name_, -rc);
		return all;
	}

private:
	static constexpr std::size_t kBatch = 1024;
	Fd fd_;
	std::string name_;
};

/// A per-CPU array or hash: a value for each possible CPU, rounded to 8 bytes by the kernel.
template <typename K, typename V> class PerCpuMap {
	static_assert(std::is_trivially_copyable_v<V> && sizeof(V) % 8 == 0);

public:
	PerCpuMap() = default;
	static Result<PerCpuMap> open(const std::string &dir, const char *name, Access access = Access::kWrite) {
		auto fd = open_pin(dir + "/" + name, access);
		if (!fd)
			return tl::unexpected(std::move(fd.error()));
		if (auto fits = check_sizes(fd->get(), name, sizeof(K), sizeof(V)); !fits)
			return tl::unexpected(std::move(fits.error()));
		const int cpus = libbpf_num_possible_cpus();
		if (cpus < 0)
			return system_error("count the CPUs", -cpus);
		PerCpuMap map;
		map.fd_ = std::move(*fd);
		map.name_ = name;
		map.cpus_ = static_cast<std::size_t>(cpus);
		return map;
	}

	/// One value a CPU; empty if there is no such key.
	Result<std::vector<V>> lookup(const K &key) const {
		std::vector<V> values(cpus_);
		const int rc = bpf_map_lookup_elem(fd_.get(), &key, values.data());
		if (rc == -ENOENT)
			return std::vector<V>{};
		if (rc < 0)
			return system_error("read " + name_, -rc);
		return values;
	}
	/// The same value on every CPU.
	Done update(const K &key, const V &value) {
		const std::vector<V> values(cpus_, value);
		const int rc = bpf_map_update_elem(fd_.get(), &key, values.data(), BPF_ANY);
		if (rc < 0)
			return system_error("write " + name_, -rc);
		return {};
	}

private:
	Fd fd_;
	std::string name_;
	std::size_t cpus_ = 0;
};

/// An array made with BPF_F_MMAPABLE, as memory to write (the kernel maps no descriptor without the right to). It
/// pads each value to 8 bytes.
template <typename V> class MappedArray {
	static_assert(std::is_trivially_copyable_v<V> && alignof(V) <= 8);

public:
	MappedArray() = default;
	MappedArray(MappedArray &&other) noexcept
	    : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)),
	      entries_(std::exchange(other.entries_, 0)) {}
	MappedArray &operator=(MappedArray &&other) noexcept {
		std::swap(base_, other.base_);
		std::swap(bytes_, other.bytes_);
		std::swap(entries_, other.entries_);
		return *this;
	}
	~MappedArray() {
		if (base_)
			::munmap(base_, bytes_);
	}

	static Result<MappedArray> open(const std::string &dir, const char *name) {
		auto fd = open_pin(dir + "/" + name, Access::kWrite);
		if (!fd)
			return tl::unexpected(std::move(fd.error()));
		return map(fd->get(), name);
	}
	static Result<MappedArray> map(int fd, const std::string &name) {
		auto info = check_sizes(fd, name, sizeof(std::uint32_t), sizeof(V));
		if (!info)
			return tl::unexpected(std::move(info.error()));
		MappedArray array;
		array.bytes_ = info->max_entries * kStride;
		array.entries_ = info->max_entries;
		void *base = ::mmap(nullptr, array.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (base == MAP_FAILED)
			return system_error("map " + name + " into memory");
		array.base_ = base;
		return array;
	}

	std::size_t size() const { return entries_; }
	V &operator[](std::size_t i) { return *reinterpret_cast<V *>(static_cast<std::byte *>(base_) + i * kStride); }
	const V &operator[](std::size_t i) const {
		return *reinterpret_cast<const V *>(static_cast<const std::byte *>(base_) + i * kStride);
	}

private:
	static constexpr std::size_t kStride = (sizeof(V) + 7) / 8 * 8;
	void *base_ = nullptr;
	std::size_t bytes_ = 0;
	std::size_t entries_ = 0;
};

/// Returns once no BPF program run that began before the call is still under way. Any update of a
/// map of maps waits for that (maybe_wait_bpf_programs in kernel/bpf/syscall.c), needs CAP_BPF only,
/// and works where membarrier does not (one CPU, nohz_full).
Done wait_for_programs();

} // namespace ptrig
