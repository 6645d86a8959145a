// SPDX-License-Identifier: Apache-2.0
// Memory in huge pages that the program asks for (MAP_HUGETLB). The host must have
// some (vm.nr_hugepages): six of 2 MiB.
#include "testlib.h"

#define HUGE ((size_t)2 << 20)

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4
#endif

static void *huge(int flags, int fd, size_t pages)
{
	return SYS(mmap(NULL, pages * HUGE, PROT_READ | PROT_WRITE, flags, fd, 0));
}

// page_size is the KernelPageSize of the mapping that has an address.
static size_t page_size(void *at)
{
	unsigned long from, to, kb;
	char line[PATH_MAX + 256];
	FILE *f = fopen("/proc/self/smaps", "re");
	int in = 0;

	CHECK(f, "smaps: %s", strerror(errno));
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = (unsigned long)at >= from && (unsigned long)at < to;
		if (in && sscanf(line, "KernelPageSize: %lu kB", &kb) == 1) {
			fclose(f);
			return kb << 10;
		}
	}
	fail("no mapping at %p", at);
}

// private: written, untouched and read-only pages; a child has some of its own.
static void private(void)
{
	char *p = huge(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 3);
	pid_t pid;

	pattern(p, HUGE, 1);
	pattern(p + HUGE, HUGE / 2, 2);
	SYS(mprotect(p + HUGE, HUGE, PROT_READ));
	pid = SYS(fork());
	if (pid == 0) {
		p[0] ^= 1;
		SYS(kill(getppid(), SIGCONT));
		await();
		p[0] ^= 1;
		SAME("the child's page", p, HUGE, 1);
		_exit(3);
	}
	ready_and_await();
	SAME("first page", p, HUGE, 1);
	SAME("second page", p + HUGE, HUGE / 2, 2);
	for (size_t i = 0; i < HUGE; i++)
		if (p[2 * HUGE + i])
			fail("the third page has %d at %zu", p[2 * HUGE + i], i);
	EQ("page size", page_size(p), HUGE);
	EQ("page size of what is read-only", page_size(p + HUGE), HUGE);
	EQ("page size of what was untouched", page_size(p + 2 * HUGE), HUGE);
	reap(pid, 3);
}

// shared: with a child, and by a file without a name.
static void shared_pages(void)
{
	int fd = (int)SYS(syscall(SYS_memfd_create, "huge", MFD_HUGETLB));
	char *p = huge(MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 1), *q;
	pid_t pid;

	SYS(ftruncate(fd, (off_t)HUGE));
	q = huge(MAP_SHARED, fd, 1);
	pattern(p, HUGE, 3);
	pattern(q, HUGE, 4);
	pid = SYS(fork());
	if (pid == 0) {
		await();
		p[5] ^= 1;
		q[5] ^= 1;
		_exit(4);
	}
	ready_and_await();
	reap(pid, 4);
	p[5] ^= 1;
	q[5] ^= 1;
	SAME("anonymous", p, HUGE, 3);
	SAME("memfd", q, HUGE, 4);
	q = SYS(mmap(NULL, HUGE, PROT_READ, MAP_SHARED, fd, 0));
	SAME("memfd, mapped again", q, HUGE, 4);
}

// gone: private pages that the next host does not have.
static void gone(void)
{
	char *p = huge(MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 2);

	pattern(p, HUGE, 1);
	ready_and_await();
	SAME("first page", p, HUGE, 1);
	pattern(p + HUGE, HUGE, 2);
	SAME("second page", p + HUGE, HUGE, 2);
	CHECK(page_size(p) < HUGE, "the pages are still huge");
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = { { "private", private }, { "shared", shared_pages }, { "gone", gone }, { NULL, NULL } };

	begin(argc, argv);
	run_mode(modes);
}
