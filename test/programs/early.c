// SPDX-License-Identifier: Apache-2.0
// A program that is frozen before any constructor has run, that of a preload library
// included; then what libc knows of its thread.
#include "testlib.h"

#include <pthread.h>

static pid_t pid;

static void early(int argc, char **argv)
{
	begin(argc, argv);
	pid = getpid();
	ready_and_await();
}

__attribute__((section(".preinit_array"), used)) static void (*const before_all)(int, char **) = early;

int main(void)
{
	pthread_attr_t attr;

	EQ("pid", getpid(), pid);
	EQ("kill", kill(pid, 0), 0);
	EQ("pthread_kill", pthread_kill(pthread_self(), 0), 0);
	EQ("pthread_getattr_np", pthread_getattr_np(pthread_self(), &attr), 0);
	pass();
}
