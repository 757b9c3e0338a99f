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
constexpr bpf_insn store(std::uint8_t to, std::uint8_t from, std::size_t offset) {
	return {BPF_STX | BPF_MEM | BPF_W, to, from, static_cast<std::int16_t>(offset), 0};
}
constexpr bpf_insn skip_if(std::uint8_t reg, std::int32_t value, std::int16_t count) {
	return {BPF_JMP | BPF_JEQ | BPF_K, reg, 0, count, value};
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
constexpr std::size_t kCb = offsetof(__sk_buff, cb), kTcIndex = offsetof(__sk_buff, tc_index);

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

TailCall TailCall::with_tc_index(int target) {
	TailCall shim;
	shim.targets_ = target_map(target);
	const bpf_insn code[] = {
		copy(6, 1),
		set(2, kPacketHost),
		call(BPF_FUNC_skb_change_type),
		load(2, 6, kCb),
		store(6, 2, kTcIndex),
		set(2, 0),
		store(6, 2, kCb),
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

TailCall TailCall::then_tc_index(int target) {
	TailCall shim;
	shim.targets_ = target_map(target);
	const bpf_insn code[] = {
		copy(6, 1),
		load(2, 6, kCb),
		skip_if(2, 1, 11),
		set(2, 1),
		store(6, 2, kCb),
		set(2, kPacketHost),
		call(BPF_FUNC_skb_change_type),
		copy(1, 6),
		map_address(2, shim.targets_.get()),
		{},
		set(3, 0),
		call(BPF_FUNC_tail_call),
		set(0, -1),
		leave(),
		load(0, 6, kTcIndex),
		leave(),
	};
	shim.program_ = new_program(BPF_PROG_TYPE_SCHED_CLS, code);
	return shim;
}

Fd xdp_pass() {
	const bpf_insn code[] = {set(0, XDP_PASS), leave()};
	return new_program(BPF_PROG_TYPE_XDP, code);
}

} // namespace ptrig::test
