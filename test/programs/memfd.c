// SPDX-License-Identifier: Apache-2.0
// Files in memory (memfd_create) and what they are sealed against.
#include "testlib.h"

#define SIZE 16384

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif

static int memfd(const char *name, unsigned flags, uint64_t seed)
{
	int fd = (int)SYS(syscall(SYS_memfd_create, name, flags));
	char buf[SIZE];

	pattern(buf, SIZE, seed);
	EQ("write", write(fd, buf, SIZE), SIZE);
	return fd;
}

static void *map(int fd, int prot) { return SYS(mmap(NULL, SIZE, prot, MAP_SHARED, fd, 0)); }

// look checks seals, mode and content.
static void look(const char *what, int fd, int seals, unsigned mode_bits, uint64_t seed)
{
	char buf[SIZE];
	struct stat st;

	EQ(what, SYS(fcntl(fd, F_GET_SEALS)), seals);
	SYS(fstat(fd, &st));
	EQ(what, st.st_mode & 07777, mode_bits);
	EQ(what, st.st_size, SIZE);
	EQ(what, pread(fd, buf, SIZE, 0), SIZE);
	SAME(what, buf, SIZE, seed);
}

static void seals(void)
{
	int plain = memfd("plain", 0, 1), open_ = memfd("open", MFD_ALLOW_SEALING, 2);
	int size = memfd("size", MFD_ALLOW_SEALING, 3), future = memfd("future", MFD_ALLOW_SEALING, 4);
	int noexec = (int)syscall(SYS_memfd_create, "noexec", MFD_NOEXEC_SEAL), final = memfd("final", MFD_ALLOW_SEALING, 6);
	char *w = map(future, PROT_READ | PROT_WRITE), *r, buf[SIZE];

	SYS(fchmod(open_, 0640));
	SYS(fcntl(size, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	SYS(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	SYS(fcntl(final, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL));
	r = map(final, PROT_READ);
	ready_and_await();
	look("without seals", plain, F_SEAL_SEAL, 0777, 1);
	look("to be sealed", open_, 0, 0640, 2);
	look("its size sealed", size, F_SEAL_SHRINK | F_SEAL_GROW, 0777, 3);
	EQ("growth", ftruncate(size, 2 * SIZE), -1);
	look("sealed for the future", future, F_SEAL_FUTURE_WRITE, 0777, 4);
	w[1] ^= 1;
	EQ("what was written through the mapping", pread(future, buf, 2, 0), 2);
	EQ("byte", buf[1], w[1]);
	EQ("another writable mapping", mmap(NULL, SIZE, PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED, 1);
	look("sealed", final, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_SEAL, 0777, 6);
	SAME("a mapping of what is sealed", r, SIZE, 6);
	EQ("it cannot become writable", mprotect(r, SIZE, PROT_READ | PROT_WRITE), -1);
	EQ("write", write(final, "x", 1), -1);
	if (noexec >= 0) { // Linux 6.3
		struct stat st;

		EQ("not executable", SYS(fcntl(noexec, F_GET_SEALS)), F_SEAL_EXEC);
		SYS(fstat(noexec, &st));
		EQ("mode", st.st_mode & 07777, 0666);
		EQ("write", write(noexec, "x", 1), 1);
	}
}

int main(int argc, char **argv)
{
	begin(argc, argv);
	seals();
	pass();
}
