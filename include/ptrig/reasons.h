/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one list of reasons: why the datapath did what it did with a packet, or why a lease began,
 * was refused or ended. Enum, counters, event and CLI text and the README's table come from here.
 * X(NAME, kind, text); the JSON name is NAME in lower case.
 *
 * kind: PASS      the packet goes on to the kernel as if ptrig were not there
 *       UP        translated, then handed to the kernel's own forwarding
 *       AGAIN     the packet arrives once more, as it is
 *       REDIRECT  rewritten and sent out by ptrig
 *       DROP      half translated and not to be finished
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
	X(NOT_WAN_ADDRESS, PASS, "to an open port, but not of an address of this WAN")                                 \
	X(NO_LEASE, PASS, "no live lease on this port")                                                                \
	X(REMOTE_DENIED, PASS, "this remote may not come in")                                                          \
	X(NOT_SYN, PASS, "a TCP packet of no session that is not a plain SYN")                                         \
	X(FLOW_KNOWN, PASS, "the kernel already has a flow with these addresses and ports")                            \
	X(LOCAL_SOCKET, PASS, "a socket of the gateway itself is there")                                               \
	X(RATE_LIMITED, PASS, "too many new sessions a second on this lease")                                          \
	X(SESSION_LIMIT, PASS, "the lease has all the sessions its rule allows")                                       \
	X(HOST_SESSIONS, PASS, "the host has all the sessions it may have")                                            \
	X(SESSIONS_FULL, PASS, "the session table is full")                                                            \
	X(HALFOPEN_FULL, PASS, "no room left for half-open sessions of this host")                                     \
	X(NO_ROUTE, PASS, "no route to the host or the remote")                                                        \
	X(SESSION_ENDED, PASS, "the session has ended")                                                                \
	X(TTL_EXPIRED, PASS, "the time to live is used up; the kernel answers")                                        \
	X(TOO_BIG, PASS, "too big for the way on; the kernel answers or fragments")                                    \
	X(FRAGMENT_PASSED, PASS, "of a session, left to the kernel to translate: fragmented, or too big without DF")   \
	X(FRAGMENT_AGAIN, AGAIN, "of a session, put together before it came: once more, with its translation there")   \
	X(TO_TC, PASS, "left by XDP to TC")                                                                            \
	X(TTL_EXPIRED_UP, UP, "translated; the time to live is used up and the kernel answers")                        \
	X(TOO_BIG_UP, UP, "translated; too big for the way on, the kernel answers or fragments")                       \
	X(ICMP_QUOTED, UP, "the gateway's own ICMP error about a session; it quotes the WAN side now")                 \
	X(FORWARDED, REDIRECT, "rewritten and sent on by an established session")                                      \
	X(OPENED, REDIRECT, "opened a new session")                                                                    \
	X(HALF_OPEN, REDIRECT, "rewritten and sent on by a half-open session")                                         \
	X(ESTABLISHED, REDIRECT, "the host's first answer: the session is established")                                \
	X(ICMP_FORWARDED, REDIRECT, "an ICMP error about a session's packet, translated and sent on")                  \
	X(FAILED, DROP, "the packet could not be rewritten, or in a hairpin not be sent on")                           \
	X(CANDIDATE, PASS, "may trigger a rule once it has left by the WAN")                                           \
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
