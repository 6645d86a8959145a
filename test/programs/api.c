// SPDX-License-Identifier: Apache-2.0
// esky.h, in a program that is linked to nothing of esky's. Without esky the
// calls say so; with it (ESKY_JOB is set) they must work, but for a static
// program, which has no library, or where ESKY_PRELOAD=none keeps it out.
#include "testlib.h"
#include "esky.h"

static volatile int befores, afters, order, resumed;

static void before(void *arg)
{
	befores++;
	order = (order * 10 + (int)(long)arg) % 10000;
}

static void after(void *arg, int is)
{
	afters++;
	order = (order * 10 + (int)(long)arg) % 10000;
	resumed = is;
}

static int expected(void)
{
#ifdef STATIC
	return 0;
#else
	const char *preload = getenv("ESKY_PRELOAD");

	return getenv("ESKY_JOB") && !(preload && !strcmp(preload, "none"));
#endif
}

// Callbacks run around each checkpoint that others ask for.
static void callbacks(void)
{
	int want = expected();

	CHECK(!want || esky_available(), "the library is not there");
	EQ("register", esky_callbacks(before, after, (void *)1), want ? 0 : -1);
	EQ("register", esky_callbacks(before, after, (void *)2), want ? 0 : -1);
	ready_and_await();
	if (!want)
		return;
	for (int64_t end = ms() + 10000; afters != befores; nap(5))
		CHECK(ms() < end, "%d before and %d after", befores, afters);
	CHECK(befores >= 2 && befores % 2 == 0, "callbacks ran %d times", befores);
	EQ("last round of callbacks", order, 1221);
	EQ("they were told of a resume", resumed, esky_times_resumed() > 0);
}

// The program asks itself. The first call may find itself resumed, too.
static void checkpoint(void)
{
	int want = expected(), ret;
	unsigned generation;

	ready();
	generation = esky_times_resumed();
	ret = esky_checkpoint_now();
	if (!want)
		EQ("checkpoint without esky", ret, -1);
	else if (esky_times_resumed() == generation)
		EQ("checkpoint", ret, 0);
	else
		EQ("checkpoint in a resumed process", ret, 1);
	await();
}

// Nothing is saved inside a critical section: a file and a word in memory that
// change in it are never seen apart.
static void hold(void)
{
	uint64_t word = 0, there = 0;
	int fd = SYS(open(path(".pair"), O_CREAT | O_RDWR, 0600));
	unsigned generation;

	EQ("write", pwrite(fd, &word, 8, 0), 8);
	ready();
	while (!told()) {
		esky_critical_begin();
		esky_critical_begin();
		generation = esky_times_resumed();
		word++;
		esky_critical_end();
		nap(8);
		EQ("write", pwrite(fd, &word, 8, 0), 8);
		EQ("resumed inside a critical section", esky_times_resumed(), generation);
		esky_critical_end();
		nap(2);
		EQ("read", pread(fd, &there, 8, 0), 8);
		EQ("the word in the file", there, word);
	}
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "callbacks", callbacks }, { "checkpoint", checkpoint }, { "hold", hold }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
