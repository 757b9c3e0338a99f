// See shim.h. The programs are a dozen instructions, written out so that the tests need no further object file.
#include "tests/bpf/shim.h"

#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>

namespace ptrig::test {

namespace {

constexpr bpf_insn set(std::uint8_t to, std::int32_t value) {
	return {BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value};
}
constexpr bpf_insn copy(std::uint8_t to, std::uint8_t from) {
	return {BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0};
}
constexpr bpf_insn load(std::uint8_t to, std::uint8_t from, std::size_t offset) {
	return {BPF_LDX | BPF_MEM | BPF_W, to, from, static_cast<std::int16_t>(offset), 0};
}
constexpr bpf_insn add(std::uint8_t to, std::int32_t value) {
	return {BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value};
}
constexpr bpf_insn skip_if_above(std::uint8_t reg, std::uint8_t other, std::int16_t count) {
	return {BPF_JMP | BPF_JGT | BPF_X, reg, other, count, 0};
}
constexpr bpf_insn map_address(std::uint8_t to, int fd) {
	return {BPF_LD | BPF_DW | BPF_IMM, to, BPF_PSEUDO_MAP_FD, 0, fd}; // takes two instructions
}
constexpr bpf_insn call(std::int32_t helper) {
	return {BPF_JMP | BPF_CALL, 0, 0, 0, helper};
}
constexpr bpf_insn leave() {
	return {BPF_JMP | BPF_EXIT, 0, 0, 0, 0};
}

constexpr std::int32_t kPacketHost = 0; // PACKET_HOST

int checked(int fd, const char *what) {
	if (fd < 0)
		throw std::runtime_error(std::string(what) + ": " + std::strerror(-fd));
	return fd;
}

Fd target_map(int target) {
	Fd map(checked(bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "shim", 4, 4, 1, nullptr), "map of the shim"));
	const std::uint32_t first = 0;
	checked(bpf_map_update_elem(map.get(), &first, &target, BPF_ANY), "tail call of the shim");
	return map;
}

template <std::size_t N> Fd new_program(bpf_prog_type type, const bpf_insn (&code)[N]) {
	return Fd(checked(bpf_prog_load(type, "shim", "GPL", code, N, nullptr), "program of the shim"));
}

} // namespace

TailCall TailCall::for_this_machine(int target) {
	TailCall shim;
	shim.targets_ = target_map(target);
	const bpf_insn code[] = {
		copy(6, 1),
		set(2, kPacketHost),
		call(BPF_FUNC_skb_change_type),
		copy(1, 6),
		map_address(2, shim.targets_.get()),
		{},
		set(3, 0),
		call(BPF_FUNC_tail_call),
		set(0, kNoTailCall),
		leave(),
	};
	shim.program_ = new_program(BPF_PROG_TYPE_SCHED_CLS, code);
	return shim;
}

TailCall TailCall::over_and_over(bpf_prog_type type, const std::vector<std::uint8_t> &header, int target) {
	const bool xdp = type == BPF_PROG_TYPE_XDP;
	const auto length = static_cast<std::int32_t>(header.size());
	TailCall shim;
	shim.targets_ = target_map(target);
	std::vector<bpf_insn> code{copy(6, 1)};
	code.insert(code.end(),
		    {load(2, 6, xdp ? offsetof(xdp_md, data) : offsetof(__sk_buff, data)),
		     load(3, 6, xdp ? offsetof(xdp_md, data_end) : offsetof(__sk_buff, data_end)), copy(4, 2),
		     add(4, length), skip_if_above(4, 3, static_cast<std::int16_t>(length / 2 + 5))});
	for (std::int16_t at = 0; at + 1 < length; at = static_cast<std::int16_t>(at + 2)) {
		std::uint16_t word;
		std::memcpy(&word, header.data() + at, sizeof(word));
		code.push_back({BPF_ST | BPF_MEM | BPF_H, 2, 0, at, word});
	}
	code.insert(code.end(), {copy(1, 6),
				 map_address(2, shim.targets_.get()),
				 {},
				 set(3, 0),
				 call(BPF_FUNC_tail_call),
				 set(0, kNoTailCall),
				 leave()});
	// A tail call wants both to be of one kind; libbpf gives XDP programs this one.
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	if (xdp)
		opts.expected_attach_type = BPF_XDP;
	shim.program_ =
		Fd(checked(bpf_prog_load(type, "shim", "GPL", code.data(), code.size(), &opts), "program of the shim"));
	return shim;
}

Fd xdp_pass() {
	const bpf_insn code[] = {set(0, XDP_PASS), leave()};
	return new_program(BPF_PROG_TYPE_XDP, code);
}

} // namespace ptrig::test
