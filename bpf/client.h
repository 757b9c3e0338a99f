/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hairpin: a LAN host, the client, talks to an open port of the gateway's own WAN address. The lease's host sees
 * the WAN address and a port that stands for the client, so for it this is an ordinary session with that remote:
 *
 *   host:hport <- WAN:nport (pt_sessions, pt_halfopen)     and     client:cport -> WAN:oport as WAN:nport (pt_hairpins)
 *
 * A packet goes through both, as if it had left by the WAN and come back. The session is what is counted, limited,
 * timed, listed and ended; the client's half, a pair of entries, is made before it and deleted with it.
 */
#ifndef PT_CLIENT_H
#define PT_CLIENT_H

#include "maps.h"

/* The client's half, as what the host's answer is when it comes back from the WAN. `key` and `lan` are the session's
 * LAN side. */
static __always_inline struct ptrig_session_key pt_client_key(const struct ptrig_session_key *key,
							      const struct ptrig_session *lan) {
	struct ptrig_session_key back = {
		.saddr = lan->addr,
		.daddr = key->daddr,
		.sport = lan->port,
		.dport = key->dport,
		.proto = key->proto,
		.side = PTRIG_SIDE_WAN,
	};

	return back;
}
/* The other entry of the pair: what the client's packets are. */
static __always_inline struct ptrig_session_key pt_client_mirror(const struct ptrig_session_key *back,
								 const struct ptrig_hairpin *client) {
	struct ptrig_session_key out = {
		.saddr = client->addr,
		.daddr = back->saddr,
		.sport = client->port,
		.dport = back->sport,
		.proto = back->proto,
		.side = PTRIG_SIDE_LAN,
	};

	return out;
}

/* Both entries or neither; 0 or a negative errno. `back` is the key of `client`; `via`: what may send its packets. */
static __always_inline int pt_client_insert(const struct ptrig_session_key *back, const struct ptrig_hairpin *client,
					    __u32 via) {
	struct ptrig_session_key out = pt_client_mirror(back, client);
	struct ptrig_hairpin source = {.addr = back->daddr, .via = via, .port = back->dport};
	int err = bpf_map_update_elem(&pt_hairpins, back, client, BPF_NOEXIST);

	if (err)
		return err;
	err = bpf_map_update_elem(&pt_hairpins, &out, &source, BPF_NOEXIST);
	if (err)
		bpf_map_delete_elem(&pt_hairpins, back);
	return err;
}
static __always_inline void pt_client_delete(const struct ptrig_session_key *back) {
	struct ptrig_hairpin *client = bpf_map_lookup_elem(&pt_hairpins, back);

	if (!client)
		return;
	struct ptrig_session_key out = pt_client_mirror(back, client);

	bpf_map_delete_elem(&pt_hairpins, &out);
	bpf_map_delete_elem(&pt_hairpins, back);
}
/* The session is over. */
static __noinline void pt_client_forget(const struct ptrig_session_key *key, const struct ptrig_session *lan) {
	struct ptrig_session_key back = pt_client_key(key, lan);

	pt_client_delete(&back);
}

#endif
