// SPDX-License-Identifier: Apache-2.0
// Memory, a kind a mode.
#include "testlib.h"
#include <sys/resource.h>

#define PAGE 4096ul
#define SIZE (64 * PAGE)

static char *anon(size_t size, int flags)
{
	return SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0));
}

static int zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

// Pages that were written, that were only read, that were never touched.
static void private(void)
{
	char *p = anon(SIZE, MAP_PRIVATE);

	pattern(p, 16 * PAGE, 1);
	pattern(p + 40 * PAGE, PAGE, 2);
	CHECK(zero(p + 20 * PAGE, PAGE), "fresh memory is not zero");
	ready_and_await();
	SAME("written pages", p, 16 * PAGE, 1);
	SAME("a written page", p + 40 * PAGE, PAGE, 2);
	CHECK(zero(p + 16 * PAGE, 24 * PAGE), "pages that were never written are not zero");
	CHECK(zero(p + 41 * PAGE, SIZE - 41 * PAGE), "pages that were never touched are not zero");
	pattern(p, SIZE, 3);
	SAME("all of it, written anew", p, SIZE, 3);
}

// What is shared between processes stays shared, in both directions, also where
// only one of them has touched it.
static void shared_memory(void)
{
	uint64_t *p = (uint64_t *)anon(SIZE, MAP_SHARED);
	pid_t pid;

	pattern(p + 512, PAGE, 7);
	pid = SYS(fork());
	if (pid == 0) {
		await();
		SAME("the parent's page in the child", p + 512, PAGE, 7);
		p[0] = 0xc41d;
		for (int64_t end = ms() + 20000; p[1] != 0xfa7e; nap(5))
			CHECK(ms() < end, "the child does not see what the parent writes");
		p[5000] = 0x1a7e;
		_exit(0);
	}
	ready_and_await();
	for (int64_t end = ms() + 20000; p[0] != 0xc41d; nap(5))
		CHECK(ms() < end, "the parent does not see what the child writes");
	p[1] = 0xfa7e;
	reap(pid, 0);
	EQ("a page that none had touched before", p[5000], 0x1a7e);
	SAME("the parent's page", p + 512, PAGE, 7);
}

// After fork(2) private memory looks shared to nobody.
static void cow(void)
{
	char *p = anon(SIZE, MAP_PRIVATE);
	int *step = shared(PAGE);
	pid_t pid;

	pattern(p, SIZE, 4);
	pid = SYS(fork());
	if (pid == 0) {
		pattern(p, PAGE, 5);
		*step = 1;
		await();
		SAME("the child's own page", p, PAGE, 5);
		SAME("the rest in the child", p + PAGE, SIZE - PAGE, 4 + PAGE / 8);
		pattern(p + PAGE, PAGE, 6);
		_exit(0);
	}
	while (!*step)
		nap(5);
	ready_and_await();
	reap(pid, 0);
	SAME("the parent's memory", p, SIZE, 4);
}

static int file(const char *suffix, size_t size, uint64_t seed)
{
	int fd = SYS(open(path(suffix), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	char *p = malloc(size);

	pattern(p, size, seed);
	EQ("write", write(fd, p, size), size);
	free(p);
	return fd;
}

static void file_private(void)
{
	int fd = file(".mapped", SIZE, 1);
	char *p = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	char *q = SYS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)(3 * PAGE)));
	char *buf = malloc(SIZE);

	close(fd);
	pattern(p + PAGE, PAGE, 99);
	ready_and_await();
	SAME("first page of the file", p, PAGE, 1);
	SAME("a page that was written", p + PAGE, PAGE, 99);
	SAME("the rest of the file", p + 2 * PAGE, SIZE - 2 * PAGE, 1 + 2 * PAGE / 8);
	SAME("another mapping with an offset", q, PAGE, 1 + 3 * PAGE / 8);
	fd = SYS(open(path(".mapped"), O_RDONLY));
	EQ("size of the file", read(fd, buf, SIZE), SIZE);
	SAME("the file itself", buf, SIZE, 1);
}

// Of a file that is gone nothing but the mapping is left; another one, that may
// only be read, is still open.
static void file_gone(void)
{
	int fd = file(".gone", SIZE, 1), readonly = file(".readonly", PAGE, 2);
	char *p = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), buf[PAGE];
	struct stat st;
	pid_t pid;

	SYS(unlink(path(".gone")));
	SYS(close(fd));
	SYS(fchmod(readonly, 0400));
	SYS(unlink(path(".readonly")));
	pattern(p, PAGE, 5);
	pid = SYS(fork());
	if (pid == 0) {
		await();
		pattern(p + PAGE, PAGE, 6);
		_exit(0);
	}
	ready_and_await();
	reap(pid, 0);
	SAME("what was written", p, PAGE, 5);
	SAME("what the child writes now", p + PAGE, PAGE, 6);
	SAME("the rest", p + 2 * PAGE, SIZE - 2 * PAGE, 1 + 2 * PAGE / 8);
	SYS(fstat(readonly, &st));
	EQ("mode", st.st_mode & 07777, 0400);
	EQ("read", pread(readonly, buf, PAGE, 0), PAGE);
	SAME("the file that may only be read", buf, PAGE, 2);
}

static void file_shared(void)
{
	int fd = file(".mapped", SIZE, 1);
	char *p = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), *buf = malloc(SIZE);

	pattern(p, PAGE, 5);
	ready_and_await();
	SAME("what was written", p, PAGE, 5);
	SAME("the rest", p + PAGE, SIZE - PAGE, 1 + PAGE / 8);
	pattern(p + PAGE, PAGE, 6);
	EQ("read", pread(fd, buf, SIZE, 0), SIZE);
	SAME("what was written before, in the file", buf, PAGE, 5);
	SAME("what is written now, in the file", buf + PAGE, PAGE, 6);
}

// brk is the system call, which returns the new or, if it may not, the old
// break. malloc() is not used meanwhile.
static char *brk_to(char *p)
{
	return (char *)syscall(SYS_brk, p);
}

// The heap grows where it was.
static void heap(void)
{
	char *p = brk_to(NULL), *end;

	p = brk_to((char *)(((uintptr_t)p + PAGE - 1) & -PAGE));
	end = p + SIZE;
	CHECK(brk_to(end) == end, "brk");
	pattern(p, SIZE, 8);
	ready_and_await();
	SAME("heap", p, SIZE, 8);
	CHECK(brk_to(NULL) == end, "the break is %p, was %p", (void *)brk_to(NULL), (void *)end);
	CHECK(brk_to(end + 4 * SIZE) == end + 4 * SIZE, "the heap cannot grow");
	CHECK(zero(end, 4 * SIZE), "the heap has grown by memory that is not zero");
	pattern(end, 4 * SIZE, 9);
	SAME("heap below", p, SIZE, 8);
	CHECK(brk_to(end) == end, "the heap cannot shrink");
	SAME("heap after it has shrunk", p, SIZE, 8);
}

__attribute__((noinline)) static uint64_t deep(int n)
{
	volatile uint64_t page[512];

	for (int i = 0; i < 512; i += 64)
		page[i] = (uint64_t)n;
	return n ? deep(n - 1) + page[64] : page[0];
}

// The main stack, and a mapping that grows down, grow where they were.
static void stack(void)
{
	volatile uint64_t mark[1024];
	char *area = anon(SIZE, MAP_PRIVATE);
	char *low = area + 48 * PAGE;

	pattern((void *)mark, sizeof mark, 3);
	SYS(munmap(area, SIZE));
	CHECK(mmap(low, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0) == low, "mmap");
	pattern(low, 8 * PAGE, 4);
	ready_and_await();
	SAME("stack", (void *)mark, sizeof mark, 3);
	SAME("growing mapping", low, 8 * PAGE, 4);
	EQ("deep recursion", deep(1500), 1500 * 1501 / 2);
	for (int i = 1; i < 20; i++)
		*(volatile char *)(low - (unsigned long)i * PAGE) = (char)i;
	SAME("growing mapping, grown", low, 8 * PAGE, 4);
	EQ("its lowest page", low[-19 * (long)PAGE], 19);
}

static volatile sig_atomic_t faults;
static char *volatile fault_page;

static void on_fault(int sig)
{
	(void)sig;
	faults++;
	mprotect(fault_page, PAGE, PROT_READ | PROT_WRITE); // then the access succeeds
}

static int faults_at(char *p, int write)
{
	int before = faults;

	fault_page = p;
	if (write)
		*(volatile char *)p = *(volatile char *)p;
	else
		(void)*(volatile char *)p;
	return faults - before;
}

// Protection, with content that nobody may write or even read at the time.
static void protect(void)
{
	char *p = anon(SIZE, MAP_PRIVATE);
	static const unsigned char ret7[] = { 0xb8, 7, 0, 0, 0, 0xc3 };

	signal(SIGSEGV, on_fault);
	pattern(p, SIZE, 5);
	memcpy(p + 12 * PAGE, ret7, sizeof ret7);
	SYS(mprotect(p, 4 * PAGE, PROT_NONE));
	SYS(mprotect(p + 8 * PAGE, 4 * PAGE, PROT_READ));
	SYS(mprotect(p + 12 * PAGE, PAGE, PROT_READ | PROT_EXEC));
	ready_and_await();
	EQ("faults when PROT_NONE is read", faults_at(p, 0), 1);
	EQ("faults when PROT_NONE is read", faults_at(p + 3 * PAGE, 0), 1);
	EQ("faults when the page after is written", faults_at(p + 4 * PAGE, 1), 0);
	EQ("faults when read-only is read", faults_at(p + 8 * PAGE, 0), 0);
	EQ("faults when read-only is written", faults_at(p + 9 * PAGE, 1), 1);
#if defined(__x86_64__)
	EQ("code on a page of its own", ((int (*)(void))(void *)(p + 12 * PAGE))(), 7);
#endif
	EQ("faults when code is written", faults_at(p + 12 * PAGE, 1), 1);
	SYS(mprotect(p, SIZE, PROT_READ));
	SAME("content", p, 12 * PAGE, 5);
	SAME("content", p + 13 * PAGE, SIZE - 13 * PAGE, 5 + 13 * PAGE / 8);
}

// The flags of the mapping that contains an address, from smaps.
static void vmflags(const char *p, char *flags, size_t size)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	unsigned long a, b;
	int in = 0;

	CHECK(f, "no /proc/self/smaps");
	flags[0] = 0;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = a <= (unsigned long)p && (unsigned long)p < b;
		else if (in && !strncmp(line, "VmFlags:", 8))
			memcpy(flags, line + 9, size - 1), flags[size - 1] = 0;
	}
	fclose(f);
	CHECK(flags[0], "no flags of %p", p);
}

// What madvise(2) and mlock(2) have said about memory.
static void advice(void)
{
	static const int kinds[] = { MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTFORK, MADV_DONTDUMP,
				     MADV_WIPEONFORK, MADV_MERGEABLE, MADV_SEQUENTIAL, MADV_RANDOM, 0 };
	enum { N = sizeof kinds / sizeof kinds[0] };
	char *p[N], was[N][256], is[256];

	for (int i = 0; i < N; i++) {
		p[i] = anon(SIZE, MAP_PRIVATE);
		pattern(p[i], SIZE, (uint64_t)i);
		if (kinds[i] && madvise(p[i], SIZE, kinds[i]) != 0)
			CHECK(errno == EINVAL, "madvise %d: %s", kinds[i], strerror(errno)); // not in this kernel
		if (!kinds[i])
			SYS(mlock(p[i], 4 * PAGE));
		vmflags(p[i], was[i], sizeof was[i]);
	}
	ready_and_await();
	for (int i = 0; i < N; i++) {
		vmflags(p[i], is, sizeof is);
		CHECK(!strcmp(is, was[i]), "flags after madvise %d are %s, were %s", kinds[i], is, was[i]);
		SAME("content", p[i], SIZE, (uint64_t)i);
	}
}

// Huge pages, some of them torn by a hole.
static void huge(void)
{
	size_t size = 16 << 20;
	char *p = SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	madvise(p, size, MADV_HUGEPAGE);
	pattern(p, size, 1);
	SYS(madvise(p + (4 << 20) + 5 * PAGE, PAGE, MADV_DONTNEED));
	SYS(munmap(p + (8 << 20), PAGE));
	ready_and_await();
	SAME("before the hole", p, (4 << 20) + 5 * PAGE, 1);
	CHECK(zero(p + (4 << 20) + 5 * PAGE, PAGE), "the page that was given back is not zero");
	SAME("between", p + (4 << 20) + 6 * PAGE, (4 << 20) - 6 * PAGE, 1 + ((4 << 20) + 6 * PAGE) / 8);
	SAME("after the hole", p + (8 << 20) + PAGE, (8 << 20) - PAGE, 1 + ((8 << 20) + PAGE) / 8);
	CHECK(msync(p + (8 << 20), PAGE, MS_ASYNC) == -1 && errno == ENOMEM, "the hole is mapped");
}

// A thousand mappings with gaps between them.
static void many(void)
{
	char *p = anon(2000 * PAGE, MAP_PRIVATE);

	for (size_t i = 0; i < 2000; i++)
		pattern(p + i * PAGE, PAGE, i);
	for (size_t i = 1; i < 2000; i += 2)
		SYS(munmap(p + i * PAGE, PAGE));
	ready_and_await();
	for (size_t i = 0; i < 2000; i += 2) {
		SAME("page", p + i * PAGE, PAGE, i);
		CHECK(msync(p + (i + 1) * PAGE, PAGE, MS_ASYNC) == -1, "the gap after mapping %zu is mapped", i / 2);
	}
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "private", private }, { "shared", shared_memory }, { "cow", cow }, { "file-private", file_private },
		{ "file-shared", file_shared }, { "file-gone", file_gone },
		{ "heap", heap }, { "stack", stack }, { "protect", protect },
		{ "advice", advice }, { "huge", huge }, { "many", many }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
