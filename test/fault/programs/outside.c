// SPDX-License-Identifier: Apache-2.0
// outside PORT: is connected to a TCP port outside the job, listens at another,
// and says what the connection says to it: once before the file "go" is there,
// and after that.
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const char *name, const char *text)
{
	FILE *f = fopen("tmp", "w");

	fprintf(f, "%s\n", text);
	fclose(f);
	rename("tmp", name);
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) }, own;
	int s = socket(AF_INET, SOCK_STREAM, 0), l = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof own;
	struct pollfd p = { .fd = s, .events = POLLIN };
	char text[64];

	to.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
	if (connect(s, (struct sockaddr *)&to, sizeof to) != 0 || listen(l, 1) != 0 || getsockname(l, (struct sockaddr *)&own, &len) != 0)
		return 2;
	snprintf(text, sizeof text, "%d", ntohs(own.sin_port));
	say("ready", text);
	while (access("go", F_OK) != 0)
		usleep(20000);
	for (int i = 0; i < 3; i++) {
		char b[16];
		ssize_t n;

		poll(&p, 1, 10000);
		n = recv(s, b, sizeof b, MSG_DONTWAIT);
		printf("%s%s%s ", n < 0 ? strerrorname_np(errno) : n == 0 ? "end" : "data", p.revents & POLLERR ? "+ERR" : "", p.revents & POLLHUP ? "+HUP" : "");
	}
	printf("%s\n", send(s, "x", 1, MSG_NOSIGNAL) < 0 ? strerrorname_np(errno) : "sent");
	return 0;
}
