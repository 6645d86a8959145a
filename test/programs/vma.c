// SPDX-License-Identifier: Apache-2.0
// Mappings that are out of the ordinary, a kind a mode. What the kernel or the
// machine does not have passes with nothing to check, except in the modes that
// are all about it.
#include "testlib.h"
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define PAGE 4096ul
#define SIZE (64 * PAGE)

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08 // Linux 6.11
#endif
#define GUARD_INSTALL 102 // MADV_GUARD_INSTALL, Linux 6.13
#define SYS_MSEAL 462     // mseal(2), Linux 6.10
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

static char *map(size_t size, int flags)
{
	return SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0));
}

static int zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

// The flags of the mapping that contains an address, from smaps, but for those
// that say what memory has been used for.
static char *vmflags(const void *at)
{
	static char flags[8][256];
	static int next;
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512], *out = flags[next = (next + 1) % 8];
	unsigned long a, b;
	int in = 0;

	CHECK(f, "no /proc/self/smaps");
	out[0] = 0;
	while (fgets(line, sizeof line, f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = a <= (unsigned long)at && (unsigned long)at < b;
		else if (in && !strncmp(line, "VmFlags:", 8))
			snprintf(out, sizeof flags[0], "%.200s", line + 9);
	}
	fclose(f);
	CHECK(out[0], "no flags of %p", at);
	char *account = strstr(out, " ac"); // how memory is counted, which the order of calls decides
	if (account)
		memmove(account, account + 3, strlen(account + 3) + 1);
	return out;
}

static sigjmp_buf caught;
static void on_fault(int sig)
{
	siglongjmp(caught, sig);
}

// faults says which signal an access brings, 0 if none.
static int faults(volatile char *p, int write)
{
	int sig = sigsetjmp(caught, 1);

	if (sig)
		return sig;
	if (write)
		*p = 1;
	else
		(void)*p;
	return 0;
}

static void catch(void)
{
	signal(SIGSEGV, on_fault);
	signal(SIGBUS, on_fault);
}

// Guard regions, in anonymous memory and in a mapped file.
static void guard(void)
{
	char *p = map(SIZE, MAP_PRIVATE), *q;
	int fd = SYS(open("/proc/self/exe", O_RDONLY));

	catch();
	q = SYS(mmap(NULL, 4 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	close(fd);
	pattern(p, SIZE, 1);
	if (madvise(p + 4 * PAGE, 2 * PAGE, GUARD_INSTALL) != 0) {
		EQ("errno of a kernel without guard regions", errno, EINVAL);
		ready_and_await();
		return;
	}
	SYS(madvise(p + 62 * PAGE, 2 * PAGE, GUARD_INSTALL));
	int in_file = madvise(q + PAGE, PAGE, GUARD_INSTALL) == 0; // since Linux 6.15
	ready_and_await();
	EQ("fault before the guard", faults(p + 4 * PAGE - 1, 0), 0);
	EQ("fault in the guard", faults(p + 4 * PAGE, 0), SIGSEGV);
	EQ("fault in the guard, written", faults(p + 6 * PAGE - 1, 1), SIGSEGV);
	EQ("fault behind the guard", faults(p + 6 * PAGE, 0), 0);
	EQ("fault in the last guard", faults(p + SIZE - 1, 0), SIGSEGV);
	SAME("before", p, 4 * PAGE, 1);
	SAME("behind", p + 6 * PAGE, 56 * PAGE, 1 + 6 * PAGE / 8);
	EQ("fault in the file's guard", faults(q + PAGE, 0), in_file ? SIGSEGV : 0);
	EQ("the file", memcmp(q, "\177ELF", 4), 0);
	SYS(madvise(p, SIZE, GUARD_INSTALL + 1));
	CHECK(zero(p + 4 * PAGE, 2 * PAGE), "what a guard covered is not zero");
}

// Memory that the kernel may drop is allowed to be zero, never to be something else.
static void droppable(void)
{
	char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_DROPPABLE, -1, 0);
	char *q = map(SIZE, MAP_PRIVATE);

	if (p == MAP_FAILED) {
		EQ("errno of a kernel without it", errno, EINVAL);
		ready_and_await();
		return;
	}
	pattern(p, SIZE, 1);
	pattern(q, SIZE, 2);
	char *was = vmflags(p);
	ready_and_await();
	for (size_t i = 0; i < SIZE; i += PAGE)
		if (!zero(p + i, PAGE))
			SAME("a page that was kept", p + i, PAGE, 1 + i / 8);
	CHECK(!strcmp(vmflags(p), was), "flags are %s, were %s", vmflags(p), was);
	pattern(p, SIZE, 3);
	SAME("what is written now", p, SIZE, 3);
	SAME("other memory", q, SIZE, 2);
}

static unsigned long locked(void)
{
	char line[256];
	unsigned long kb = 0;
	FILE *f = fopen("/proc/self/status", "r");

	while (fgets(line, sizeof line, f))
		sscanf(line, "VmLck: %lu", &kb);
	fclose(f);
	return kb;
}

// Locks on some memory: as a whole, when it is touched, and of what nobody may touch.
static void lock(void)
{
	char *p = map(SIZE, MAP_PRIVATE), *q = map(SIZE, MAP_PRIVATE), *n = map(2 * PAGE, MAP_PRIVATE);
	unsigned char in[64];

	pattern(p, SIZE, 1);
	SYS(mlock(p, 4 * PAGE));
	SYS((int)syscall(SYS_mlock2, q, SIZE, MLOCK_ONFAULT));
	pattern(q, PAGE, 2);
	SYS(mprotect(n, 2 * PAGE, PROT_NONE));
	EQ("mlock of inaccessible memory", mlock(n, 2 * PAGE), -1);
	char *whole = vmflags(p), *onfault = vmflags(q), *none = vmflags(n);
	unsigned long was = locked();
	CHECK(was >= 70 * 4, "only %lu kB are locked", was);
	ready_and_await();
	EQ("memory that is locked", locked(), was);
	CHECK(!strcmp(vmflags(p), whole), "flags are %s, were %s", vmflags(p), whole);
	CHECK(!strcmp(vmflags(q), onfault), "flags are %s, were %s", vmflags(q), onfault);
	CHECK(!strcmp(vmflags(n), none), "flags are %s, were %s", vmflags(n), none);
	SAME("content", p, SIZE, 1);
	SAME("content", q, PAGE, 2);
	SYS(mincore(q, SIZE, in));
	EQ("what was never touched is in memory", in[40] & 1, 0);
}

// A process that has locked all of its memory, and what it will have.
static void lockall(void)
{
	char *p = map(SIZE, MAP_PRIVATE), *n = map(PAGE, MAP_PRIVATE);
	int flags = is_mode("lockall-onfault") ? MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT : MCL_CURRENT | MCL_FUTURE;

	pattern(p, SIZE, 1);
	SYS(mprotect(n, PAGE, PROT_NONE)); // as behind the stack of a thread
	if (mlockall(flags) != 0) { // RLIMIT_MEMLOCK is less than the program and its libraries
		CHECK(errno == ENOMEM || errno == EPERM, "mlockall: %s", strerror(errno));
		SYS(mlockall(MCL_FUTURE | (flags & MCL_ONFAULT)));
		SYS(mlock(p, SIZE));
	}
	char *was = vmflags(p), *probe = map(PAGE, MAP_PRIVATE), *fresh = vmflags(probe);
	SYS(munmap(probe, PAGE));
	ready_and_await();
	CHECK(!strcmp(vmflags(p), was), "flags are %s, were %s", vmflags(p), was);
	probe = map(PAGE, MAP_PRIVATE);
	CHECK(!strcmp(vmflags(probe), fresh), "flags of new memory are %s, were %s", vmflags(probe), fresh);
	SAME("content", p, SIZE, 1);
}

// Mappings that cannot be changed any more.
static void seal(void)
{
	char *p = map(4 * PAGE, MAP_PRIVATE);

	pattern(p, 4 * PAGE, 1);
	SYS(mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ));
	if (syscall(SYS_MSEAL, p, 4 * PAGE, 0) != 0) {
		EQ("errno of a kernel without mseal", errno, ENOSYS);
		ready_and_await();
		return;
	}
	ready_and_await();
	SAME("content", p, 4 * PAGE, 1);
	EQ("munmap of sealed memory", munmap(p, PAGE), -1);
	EQ("errno", errno, EPERM);
	EQ("mprotect of sealed memory", mprotect(p + 2 * PAGE, PAGE, PROT_READ | PROT_WRITE), -1);
	EQ("errno", errno, EPERM);
	pattern(p, 2 * PAGE, 2);
	SAME("what is written now", p, 2 * PAGE, 2);
}

static void name_of(const void *at, char *out)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long a, b;

	out[0] = 0;
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2 && a <= (unsigned long)at && (unsigned long)at < b)
			sscanf(line, "%*s %*s %*s %*s %*s %100[^\n]", out);
	fclose(f);
}

// Names that programs give to their memory.
static void names(void)
{
	char *p = map(SIZE, MAP_PRIVATE), *q = map(SIZE, MAP_SHARED), was[2][128], is[128];

	pattern(p, SIZE, 1);
	pattern(q, SIZE, 2);
	if (prctl(0x53564d41, 0, p, SIZE, "a heap of pages") == 0) // PR_SET_VMA_ANON_NAME
		SYS(prctl(0x53564d41, 0, q, SIZE, "shared"));
	else
		EQ("errno of a kernel without names", errno, EINVAL);
	name_of(p, was[0]);
	name_of(q, was[1]);
	ready_and_await();
	name_of(p, is);
	CHECK(!strcmp(is, was[0]), "the name is %s, was %s", is, was[0]);
	name_of(q, is);
	if (strstr(was[1], "[anon_shmem"))
		CHECK(!strcmp(is, was[1]), "the name is %s, was %s", is, was[1]);
	SAME("content", p, SIZE, 1);
	SAME("shared content", q, SIZE, 2);
}

static int policy(unsigned long *nodes, void *at)
{
	int kind = -1;

	*nodes = 0;
	SYS((int)syscall(SYS_get_mempolicy, &kind, nodes, 64, at, at ? MPOL_F_ADDR : 0));
	return kind;
}

// Where memory is to be taken from: of a thread, and of a mapping.
static void numa(void)
{
	char *p = map(SIZE, MAP_PRIVATE), *q = map(SIZE, MAP_PRIVATE), *s = map(SIZE, MAP_SHARED);
	unsigned long node0 = 1, nodes;

	if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, &node0, 64) != 0) {
		CHECK(errno == ENOSYS || errno == EPERM, "set_mempolicy: %s", strerror(errno));
		ready_and_await();
		return;
	}
	SYS((int)syscall(SYS_mbind, p, SIZE / 2, MPOL_BIND, &node0, 64, 0));
	SYS((int)syscall(SYS_mbind, q, SIZE, MPOL_INTERLEAVE | MPOL_F_STATIC_NODES, &node0, 64, 0));
	int beside = policy(&nodes, p + SIZE / 2);
	pattern(p, SIZE, 1);
	pattern(q, SIZE, 2);
	pattern(s, SIZE, 3);
	ready_and_await();
	EQ("policy of the thread", policy(&nodes, NULL), MPOL_PREFERRED);
	EQ("its nodes", nodes, 1);
	EQ("policy of a mapping", policy(&nodes, p), MPOL_BIND);
	EQ("its nodes", nodes, 1);
	EQ("policy of the mapping beside", policy(&nodes, p + SIZE / 2), beside);
	EQ("policy of a mapping", policy(&nodes, q), MPOL_INTERLEAVE | MPOL_F_STATIC_NODES);
	EQ("its nodes", nodes, 1);
	SAME("content", p, SIZE, 1);
	SAME("content", q, SIZE, 2);
	SAME("content", s, SIZE, 3);
}

static int scratch(uint64_t seed)
{
	int fd = SYS(open(path(".scratch"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	char *buf = malloc(SIZE);

	pattern(buf, SIZE, seed);
	EQ("write", write(fd, buf, SIZE), SIZE);
	free(buf);
	return fd;
}

// A file that two processes map and that has no name any more, and no descriptor.
static void unlinked(void)
{
	int fd = scratch(1);
	volatile uint64_t *p = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)), *q;
	char *own = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
	pid_t pid;

	SYS(unlink(path(".scratch")));
	pattern(own + PAGE, PAGE, 9);
	pid = SYS(fork());
	if (pid == 0) { // in the child at another place and offset
		q = SYS(mmap(NULL, SIZE / 2, PROT_READ | PROT_WRITE, MAP_SHARED, fd, SIZE / 2));
		SYS(munmap((void *)p, SIZE));
		close(fd);
		q[1] = 0xc1;
		await();
		q[2] = 0xc2;
		for (int64_t end = ms() + 20000; q[3] != 0xc3; nap(5))
			CHECK(ms() < end, "the child does not see what the parent writes");
		_exit(0);
	}
	close(fd);
	for (int64_t end = ms() + 20000; p[SIZE / 16 + 1] != 0xc1; nap(5))
		CHECK(ms() < end, "the child does not write");
	ready_and_await();
	SAME("the file", (void *)p, SIZE / 2, 1);
	EQ("what the child has written", p[SIZE / 16 + 1], 0xc1);
	for (int64_t end = ms() + 20000; p[SIZE / 16 + 2] != 0xc2; nap(5))
		CHECK(ms() < end, "the parent does not see what the child writes");
	p[SIZE / 16 + 3] = 0xc3;
	reap(pid, 0);
	SAME("the private mapping", own, PAGE, 1);
	SAME("what was written to it", own + PAGE, PAGE, 9);
	SAME("the rest of it", own + 2 * PAGE, SIZE / 2 - 2 * PAGE, 1 + 2 * PAGE / 8);
}

// The same memfd, its pages in reverse order, and once more as a whole.
static void twice(void)
{
	int fd = SYS(memfd_create("twice", MFD_CLOEXEC));
	char *all, *rev, *hole;

	SYS(ftruncate(fd, SIZE));
	all = SYS(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	rev = map(SIZE, MAP_PRIVATE);
	for (size_t i = 0; i < SIZE / PAGE; i++)
		SYS(mmap(rev + i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)(SIZE - (i + 1) * PAGE)));
	hole = SYS(mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, fd, (off_t)(60 * PAGE)));
	if (is_mode("twice-closed"))
		close(fd);
	pattern(all, SIZE, 1);
	ready_and_await();
	for (size_t i = 0; i < SIZE / PAGE; i++)
		SAME("a page in reverse", rev + i * PAGE, PAGE, 1 + (SIZE - (i + 1) * PAGE) / 8);
	pattern(rev, PAGE, 2);
	SAME("what was written there, here", all + SIZE - PAGE, PAGE, 2);
	SAME("and read-only", hole + 3 * PAGE, PAGE, 2);
	if (is_mode("twice"))
		EQ("the end of the file", lseek(fd, 0, SEEK_END), SIZE);
}

#if defined(__x86_64__)
// Code that is executed in one mapping and written in another.
static void jit(void)
{
	int fd = SYS(memfd_create("jit", MFD_CLOEXEC));
	static const unsigned char ret7[] = { 0xb8, 7, 0, 0, 0, 0xc3 };
	unsigned char *w, *x;

	SYS(ftruncate(fd, PAGE));
	w = SYS(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	x = SYS(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
	close(fd);
	memcpy(w, ret7, sizeof ret7);
	EQ("code", ((int (*)(void))(void *)x)(), 7);
	ready_and_await();
	EQ("code", ((int (*)(void))(void *)x)(), 7);
	w[1] = 8;
	EQ("code, written anew", ((int (*)(void))(void *)x)(), 8);
}
#endif

// A great address space of which little is used: private, and shared.
static void sparse(void)
{
	const size_t size = 100ul << 30, step = 9ul << 30;
	int kind = is_mode("sparse-shared") ? MAP_SHARED : MAP_PRIVATE;
	char *p = map(size, kind | MAP_NORESERVE);

	for (size_t at = 0; at < size; at += step)
		pattern(p + at, PAGE, at);
	ready_and_await();
	for (size_t at = 0; at < size; at += step) {
		SAME("a page", p + at, PAGE, at);
		CHECK(zero(p + at + PAGE, PAGE), "the page behind is not zero");
	}
	pattern(p + size - PAGE, PAGE, 5);
	SAME("the last page", p + size - PAGE, PAGE, 5);
}

static size_t occupied(int fd)
{
	struct stat st;

	SYS(fstat(fd, &st));
	return (size_t)st.st_blocks * 512;
}

// Great files without a name, and a segment, of which little is there. A part
// was written by a process that is gone, whose page tables nobody can look at.
static void holes(void)
{
	const size_t size = 20ul << 30, few = 1 << 20, tail = 100;
	char name[] = "holes-XXXXXX", page[PAGE], *closed, *seg;
	int fd[2] = { SYS(memfd_create("holes", 0)), SYS(mkstemp(name)) }, id, gone = SYS(memfd_create("closed", 0));

	unlink(name);
	for (int i = 0; i < 2; i++) {
		pattern(page, PAGE, 1 + i);
		SYS(ftruncate(fd[i], size + tail));
		EQ("a page", pwrite(fd[i], page, PAGE, size / 2 + 10), PAGE);
		EQ("the end", pwrite(fd[i], page, tail, size), tail);
	}
	SYS(ftruncate(gone, size));
	closed = SYS(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, gone, 0));
	close(gone);
	id = SYS(shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_NORESERVE | 0600));
	seg = SYS(shmat(id, NULL, 0));
	pid_t child = SYS(fork());
	if (child == 0) {
		pattern(seg + size / 4, 3 * PAGE, 3);
		pattern(closed + size / 4, 3 * PAGE, 4);
		_exit(0);
	}
	SYS(waitpid(child, NULL, 0));
	pattern(seg + size - PAGE, PAGE, 5);
	ready_and_await();
	for (int i = 0; i < 2; i++) {
		EQ("the size", lseek(fd[i], 0, SEEK_END), size + tail);
		CHECK(occupied(fd[i]) < few, "file %d: the holes are filled: %zu", i, occupied(fd[i]));
		EQ("a page", pread(fd[i], page, PAGE, size / 2 + 10), PAGE);
		SAME("a page of a file", page, PAGE, 1 + i);
		EQ("the end", pread(fd[i], page, PAGE, size), tail);
		SAME("the end of a file", page, tail, 1 + i);
		EQ("a hole", pread(fd[i], page, PAGE, 0), PAGE);
		CHECK(zero(page, PAGE), "a hole of file %d is not zero", i);
	}
	SAME("what another wrote", seg + size / 4, 3 * PAGE, 3);
	SAME("what another wrote, descriptor closed", closed + size / 4, 3 * PAGE, 4);
	SAME("the end of the segment", seg + size - PAGE, PAGE, 5);
	CHECK(zero(seg, PAGE) && zero(closed + size - PAGE, PAGE), "a hole is not zero");
	SYS(shmctl(id, IPC_RMID, NULL));
}

// What is marked to be wiped in, or kept from, children still is.
static void children(void)
{
	char *wipe = map(SIZE, MAP_PRIVATE), *keep = map(SIZE, MAP_PRIVATE), *plain = map(SIZE, MAP_PRIVATE);
	pid_t pid;

	pattern(wipe, SIZE, 1);
	pattern(keep, SIZE, 2);
	pattern(plain, SIZE, 3);
	SYS(madvise(wipe, SIZE, MADV_WIPEONFORK));
	SYS(madvise(keep, SIZE, MADV_DONTFORK));
	ready_and_await();
	SAME("content", wipe, SIZE, 1);
	SAME("content", keep, SIZE, 2);
	pid = SYS(fork());
	if (pid == 0) {
		CHECK(zero(wipe, SIZE), "memory to be wiped is not zero in a child");
		CHECK(msync(keep, PAGE, MS_ASYNC) == -1 && errno == ENOMEM, "memory to be kept back is mapped in a child");
		SAME("other memory in a child", plain, SIZE, 3);
		_exit(0);
	}
	reap(pid, 0);
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "guard", guard }, { "droppable", droppable }, { "lock", lock }, { "lockall", lockall },
		{ "lockall-onfault", lockall }, { "seal", seal }, { "names", names }, { "numa", numa },
		{ "unlinked", unlinked }, { "twice", twice }, { "twice-closed", twice }, { "sparse", sparse },
		{ "sparse-shared", sparse }, { "children", children },
		{ "holes", holes },
#if defined(__x86_64__)
		{ "jit", jit },
#endif
		{ NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
