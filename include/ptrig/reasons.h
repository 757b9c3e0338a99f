/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one list of reasons: why the datapath did what it did with a packet, or why a lease began,
 * was refused or ended. Enum, counters, event and CLI text and the README's table come from here.
 * X(NAME, kind, text); the JSON name is NAME in lower case.
 *
 * kind: PASS      the packet goes on to the kernel as if ptrig were not there
 *       ENTRY     the packet goes on to the kernel as it is; conntrack has the session's entry and translates it
 *       FAST      the packet is translated and sent on at once, as one before it was by the kernel
 *       AGAIN     the packet arrives once more by a LAN device, so that the kernel looks for its entry anew
 *       REWRITE   the packet leaves by the WAN, by another source port
 *       REDIRECT  sent out by another WAN than the one by which it was about to leave
 *       DROP      dropped: half changed and not to be finished, or forged
 *       GRANT     PASS, and a lease was granted, refreshed or moved by this packet
 *       REFUSE    PASS, and a lease was refused
 *       END       never a packet's reason: why a lease or a session ended
 */
#ifndef PTRIG_REASONS_H
#define PTRIG_REASONS_H

#define PTRIG_REASONS(X)                                                                                               \
	X(NOT_IPV4, PASS, "not an IPv4 TCP or UDP packet for this machine")                                            \
	X(MALFORMED, PASS, "a header is cut short or contradicts itself")                                              \
	X(FRAGMENT, PASS, "a fragment")                                                                                \
	X(ICMP, PASS, "an ICMP packet")                                                                                \
	X(NOT_TRIGGER, PASS, "from the LAN: no rule has this trigger port")                                            \
	X(NOT_OPEN, PASS, "from the WAN: no rule opens this port")                                                     \
	X(NO_CANDIDATE, PASS, "leaves by the WAN and is no trigger")                                                   \
	X(NO_ANSWER, PASS, "to the LAN and answers no trigger")                                                        \
	X(NO_LEASE, PASS, "no live lease on this port")                                                                \
	X(REMOTE_DENIED, PASS, "this remote may not come in")                                                          \
	X(NOT_SYN, PASS, "a TCP packet of no session that is not a plain SYN")                                         \
	X(IP_OPTIONS, PASS, "begins nothing: it has a source route, or IP options that contradict themselves")         \
	X(FLOW_KNOWN, PASS, "the kernel already has a flow with these addresses and ports")                            \
	X(LOCAL_SOCKET, PASS, "a socket of the gateway itself is there")                                               \
	X(RATE_LIMITED, PASS, "too many new sessions a second on this lease")                                          \
	X(SESSION_LIMIT, PASS, "the lease has all the sessions its rule allows")                                       \
	X(HOST_SESSIONS, PASS, "the host has all the sessions it may have")                                            \
	X(SESSIONS_FULL, PASS, "the session table is full")                                                            \
	X(HALFOPEN_FULL, PASS, "no room left for half-open sessions of this host")                                     \
	X(NO_ROUTE, PASS, "no route to the host or the remote")                                                        \
	X(SESSION_ENDED, PASS, "the session has ended")                                                                \
	X(FLOW_EXPECTED, PASS, "a conntrack helper expects this connection for another")                               \
	X(STRANGER, PASS, "another machine answers at the address of the lease's host")                                \
	X(ENTRY_REFUSED, PASS, "conntrack took no entry for the session")                                              \
	X(TO_TC, PASS, "left by XDP to TC")                                                                            \
	X(FORWARDED, ENTRY, "of an established session")                                                               \
	X(ACCELERATED, FAST, "of an established session, by the fast path")                                            \
	X(OPENED, ENTRY, "opened a new session")                                                                       \
	X(HALF_OPEN, ENTRY, "of a session that its host has not answered yet")                                         \
	X(ESTABLISHED, ENTRY, "the host's first answer: the session is established")                                   \
	X(REMADE, ENTRY, "of an established session whose conntrack entry was gone; it has been made again")           \
	X(REMADE_WAITS, DROP,                                                                                          \
	  "of a connection whose conntrack entry was just made again, until it lets sequence numbers be")              \
	X(HEARD, PASS, "a session's packet from its host, on its way to the firewall")                                 \
	X(HAIRPIN_OPENED, AGAIN,                                                                                       \
	  "opened a session with a host of the LAN by the WAN address; once more, with its entry there")               \
	X(SWAPPED, REWRITE, "left by another port than its lease's: the port and the entry are the lease's now")       \
	X(SWAPPED_SYN, AGAIN,                                                                                          \
	  "a SYN that would leave by another port than its lease's: once more, with its entry there")                  \
	X(NOT_SWAPPED, PASS, "left by another port than its lease's, and it could not be changed")                     \
	X(OWN_PORT, PASS, "left by its lease's own port")                                                              \
	X(UNTRANSLATED, PASS, "leaves by the WAN with its own address: no lease can be had by it")                     \
	X(OTHER_WAN, REDIRECT, "a session's packet that was about to leave by another WAN: sent by its own")           \
	X(FAILED, DROP, "the packet could not be rewritten")                                                           \
	X(OUT_OF_WINDOW, DROP,                                                                                         \
	  "a remote's RST or FIN that its host's acknowledgements do not fit, of a connection on the fast path")       \
	X(CANDIDATE, PASS, "WAN egress looks at it: it may trigger a rule, or comes from an open port")                \
	X(SPOOFED, PASS, "from the LAN with a source that is not its sender's")                                        \
	X(FRESH, GRANT, "trigger of a lease that was refreshed this second")                                           \
	X(GRANTED, GRANT, "lease granted")                                                                             \
	X(REFRESHED, GRANT, "lease refreshed")                                                                         \
	X(MOVED, GRANT, "the lease's host has a new address and takes its lease along")                                \
	X(TAKEN_OVER, GRANT, "lease taken over by another host")                                                       \
	X(PENDING, GRANT, "the lease waits for the remote's answer")                                                   \
	X(FLAGS, REFUSE, "a TCP packet whose flags grant nothing")                                                     \
	X(SOURCE, REFUSE, "the rule does not let this host trigger")                                                   \
	X(TRIGGER_REMOTE, REFUSE, "the rule does not trigger towards this remote")                                     \
	X(HELD, REFUSE, "another host holds the lease")                                                                \
	X(COOLDOWN, REFUSE, "another host's lease ended too short a time ago")                                         \
	X(HOST_LEASES, REFUSE, "the host has all the leases it may have")                                              \
	X(LEASES_FULL, REFUSE, "the lease table is full")                                                              \
	X(CONNS_FULL, REFUSE, "the table of trigger connections is full")                                              \
	X(BUSY, REFUSE, "the lease is being changed or removed this very moment")                                      \
	X(EXPIRED, END, "idle for the rule's timeout")                                                                 \
	X(LIFETIME, END, "reached the rule's max_lifetime")                                                            \
	X(CONNECTION_CLOSED, END, "the connection that triggered it has ended")                                        \
	X(HOST_CHANGED, END, "another machine has the host's address")                                                 \
	X(CLOSED, END, "closed by the administrator")                                                                  \
	X(RULE_GONE, END, "the rule was removed, disabled or has other open ports")                                    \
	X(NOT_ALLOWED, END, "the changed rule does not allow this host")                                               \
	X(WAN_CHANGED, END, "the WAN address is gone")

enum ptrig_reason {
#define PTRIG_REASON_ENUM(name, kind, text) PTRIG_##name,
	PTRIG_REASONS(PTRIG_REASON_ENUM)
#undef PTRIG_REASON_ENUM
		PTRIG_REASON_COUNT
};

#endif
