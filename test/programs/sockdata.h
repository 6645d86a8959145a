// SPDX-License-Identifier: Apache-2.0
// Data that is sent through a socket at once, and looked for at the other end.
#include <sys/socket.h>

static char buf[65536];

static void put_data(int s, size_t n, uint64_t seed)
{
	pattern(buf, n, seed);
	EQ("send", send(s, buf, n, MSG_NOSIGNAL), n);
}

static void get_data(const char *what, int s, size_t n, uint64_t seed)
{
	EQ(what, recv(s, buf, sizeof buf, MSG_DONTWAIT), n);
	SAME(what, buf, n, seed);
}

static void nothing(int s)
{
	EQ("more than there was", recv(s, buf, 1, MSG_DONTWAIT), -1);
	EQ("error", errno, EAGAIN);
}
