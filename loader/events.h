// The ring buffer of the datapath's events, read by one process: the daemon.
#pragma once

#include <functional>
#include <memory>

#include <bpf/libbpf.h>

#include "loader/conntrack.h"
#include "loader/gateway_impl.h"

namespace ptrig {

class EventReader {
public:
	static Result<std::unique_ptr<EventReader>> open(const Gateway::Impl &gateway);
	EventReader(const EventReader &) = delete;
	EventReader &operator=(const EventReader &) = delete;

	/// Readable when there are events, or when the live configuration may have been replaced.
	int fd() const { return epoll_.get(); }
	/// All there is, then `lost` if the ring overflowed and `config` if another process replaced the configuration.
	/// What only the kernel is to be told (a TCP session whose entry was made again) is done here.
	Done read(const Gateway::Impl &gateway, const std::function<void(const EventView &)> &each);
	/// This process has replaced the configuration itself: no event about that.
	void know_configuration(const Gateway::Impl &gateway);

private:
	EventReader() = default;
	struct RingFree {
		void operator()(ring_buffer *ring) const { ring_buffer__free(ring); }
	};
	static int on_record(void *self, void *data, std::size_t size);
	Result<std::uint64_t> lost_so_far(const std::string &dir) const;
	EventView view_of(const ptrig_event &event) const;

	Fd ring_fd_, inotify_, epoll_;
	std::unique_ptr<ring_buffer, RingFree> ring_;
	std::uint64_t lost_ = 0; ///< pt_usage.events_lost when last looked at
	std::shared_ptr<const Live> known_, previous_;
	// During read() only.
	std::shared_ptr<const Live> live_;
	const std::function<void(const EventView &)> *each_ = nullptr;
	std::vector<TcpTuple> remade_;
	double boot_epoch_ = 0; ///< CLOCK_REALTIME minus CLOCK_BOOTTIME, seconds
};

} // namespace ptrig
