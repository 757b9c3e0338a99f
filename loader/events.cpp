// See events.h. Times become wall clock here, ids become names.
#include "loader/events.h"

#include <algorithm>
#include <array>

#include <sys/epoll.h>
#include <sys/inotify.h>

namespace ptrig {

namespace {

const char *event_name(std::uint32_t type) {
	switch (type) {
	case PTRIG_EVENT_GRANTED:
		return "granted";
	case PTRIG_EVENT_REFUSED:
		return "refused";
	case PTRIG_EVENT_TAKEOVER:
		return "takeover";
	case PTRIG_EVENT_MOVED:
		return "moved";
	default:
		return "ended";
	}
}

double realtime_s() {
	timespec now{};
	clock_gettime(CLOCK_REALTIME, &now);
	return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

EventView bare_event(const char *name) {
	EventView view;
	view.time = realtime_s();
	view.event = name;
	return view;
}

Done watch(int epoll, int fd) {
	epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		const int code = errno;
		return system_error("watch the events", code);
	}
	return {};
}

} // namespace

std::string reason_name(std::uint32_t reason) {
	static const std::array<std::string, PTRIG_REASON_COUNT> names = [] {
		std::array<std::string, PTRIG_REASON_COUNT> lower = {
#define PTRIG_REASON_NAME(name, kind, text) #name,
			PTRIG_REASONS(PTRIG_REASON_NAME)
#undef PTRIG_REASON_NAME
		};
		for (auto &name : lower)
			std::transform(name.begin(), name.end(), name.begin(),
				       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
		return lower;
	}();
	return reason < names.size() ? names[reason] : "unknown";
}

Result<std::unique_ptr<EventReader>> EventReader::open(const Gateway::Impl &gateway) {
	auto fd = open_pin(gateway.dir + "/pt_events", Access::kWrite); // a reader writes how far it has read
	if (!fd)
		return tl::unexpected(std::move(fd.error()));
	std::unique_ptr<EventReader> reader(new EventReader);
	reader->ring_fd_ = std::move(*fd);
	reader->ring_.reset(ring_buffer__new(reader->ring_fd_.get(), on_record, reader.get(), nullptr));
	if (!reader->ring_)
		return system_error("map the events into memory");
	reader->inotify_ = Fd(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	if (!reader->inotify_ || inotify_add_watch(reader->inotify_.get(), gateway.dir.c_str(), IN_ATTRIB) < 0) {
		const int code = errno;
		return system_error("watch " + gateway.dir, code);
	}
	reader->epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
	if (!reader->epoll_) {
		const int code = errno;
		return system_error("watch the events", code);
	}
	auto watching = watch(reader->epoll_.get(), reader->ring_fd_.get()).and_then([&] {
		return watch(reader->epoll_.get(), reader->inotify_.get());
	});
	if (!watching)
		return tl::unexpected(std::move(watching.error()));
	auto lost = reader->lost_so_far(gateway.dir);
	if (!lost)
		return tl::unexpected(std::move(lost.error()));
	reader->lost_ = *lost;
	reader->know_configuration(gateway);
	return reader;
}

void EventReader::know_configuration(const Gateway::Impl &gateway) {
	auto live = gateway.live();
	if (!live || *live == known_)
		return;
	previous_ = std::move(known_);
	known_ = std::move(*live);
}

Result<std::uint64_t> EventReader::lost_so_far(const std::string &dir) const {
	return read_usage(dir).map([](const ptrig_usage &usage) { return std::uint64_t{usage.events_lost}; });
}

EventView EventReader::view_of(const ptrig_event &event) const {
	EventView view;
	view.time = boot_epoch_ + seconds_of(event.time_ns);
	view.event = event_name(event.type);
	view.reason = reason_name(event.reason);
	if (const Rule *rule = live_->rule(event.rule)) {
		view.rule = rule->name;
		view.log = rule->log;
	} else if (const Rule *old = previous_ ? previous_->rule(event.rule) : nullptr) {
		view.rule = old->name; // removed a moment ago: its leases end now
		view.log = old->log;
	}
	const auto address = [](std::uint32_t net) { return net ? std::optional(ip_from_net(net)) : std::nullopt; };
	view.host = address(event.host);
	view.remote = address(event.remote);
	view.old_host = address(event.old_host);
	Mac mac;
	std::copy(std::begin(event.mac), std::end(event.mac), mac.bytes.begin());
	if (mac != Mac{})
		view.mac = mac;
	view.count = event.suppressed;
	return view;
}

int EventReader::on_record(void *self, void *data, std::size_t size) {
	auto *reader = static_cast<EventReader *>(self);
	if (size < sizeof(ptrig_event))
		return 0;
	const auto &event = *static_cast<const ptrig_event *>(data);
	if (event.type == PTRIG_EVENT_LIBERAL)
		reader->remade_.push_back({.source = ip_from_net(event.remote),
					   .destination = ip_from_net(event.wan),
					   .source_port = port_from_net(event.remote_port),
					   .destination_port = port_from_net(event.port)});
	else
		(*reader->each_)(reader->view_of(event));
	return 0;
}

Done EventReader::read(const Gateway::Impl &gateway, const std::function<void(const EventView &)> &each) {
	std::array<char, 4096> drained;
	while (::read(inotify_.get(), drained.data(), drained.size()) > 0)
		continue; // which file it was does not matter
	auto live = gateway.live();
	if (!live)
		return tl::unexpected(std::move(live.error()));
	const bool replaced = known_ != *live;
	know_configuration(gateway);
	live_ = std::move(*live);
	each_ = &each;
	boot_epoch_ = realtime_s() - seconds_of(boot_now_ns());
	const int rc = ring_buffer__consume(ring_.get());
	each_ = nullptr;
	if (rc < 0)
		return system_error("read the events", -rc);
	auto liberal = make_liberal(std::exchange(remade_, {}), gateway.sizes.zone);
	auto lost = lost_so_far(gateway.dir);
	if (!lost)
		return tl::unexpected(std::move(lost.error()));
	if (*lost > lost_) {
		EventView view = bare_event("lost");
		view.count = static_cast<std::uint32_t>(*lost - lost_);
		each(view);
	}
	lost_ = *lost;
	if (replaced)
		each(bare_event("config"));
	return liberal;
}

Result<int> Gateway::events_fd() {
	if (!impl_->events) {
		auto reader = EventReader::open(*impl_);
		if (!reader)
			return tl::unexpected(std::move(reader.error()));
		impl_->events = std::move(*reader);
	}
	return impl_->events->fd();
}

Done Gateway::read_events(const std::function<void(const EventView &)> &each) {
	return events_fd().and_then([&](int) { return impl_->events->read(*impl_, each); });
}

} // namespace ptrig
