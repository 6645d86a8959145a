// SPDX-License-Identifier: Apache-2.0
// sysv: System V shared memory, semaphores and message queues (sysvipc(7)).
#include "testlib.h"

#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define KEY ((key_t)(0x65000000 | getpid())) // by itself it runs among others

static struct shmid_ds shm_stat(int id)
{
	struct shmid_ds d;

	SYS(shmctl(id, IPC_STAT, &d));
	return d;
}

// shm: a segment with a key attached twice, once read-only, one that nobody is
// attached to, one that is gone when the last leaves it, a part of one, and a
// child that is attached too.
static void shm(void)
{
	const size_t size = 5 * 4096 + 100, room = 6 * 4096;
	int burnt = SYS(shmget(IPC_PRIVATE, 10, 0600)); // so that ids have gaps
	int keyed = SYS(shmget(KEY, size, IPC_CREAT | IPC_EXCL | 0640));
	int loose = SYS(shmget(IPC_PRIVATE, 8192, 0600));
	int dest = SYS(shmget(IPC_PRIVATE, 8192, 0600));
	int parted = SYS(shmget(IPC_PRIVATE, 4 * 4096, 0600));
	char *a = SYS(shmat(keyed, NULL, 0)), *b = SYS(shmat(keyed, NULL, SHM_RDONLY));
	char *l = SYS(shmat(loose, NULL, 0)), *d = SYS(shmat(dest, NULL, 0)), *p = SYS(shmat(parted, NULL, 0));
	int *at = shared(4096);
	pid_t child, me = getpid();

	SYS(shmctl(burnt, IPC_RMID, NULL));
	pattern(a, size & ~7ul, 5);
	pattern(l, 8192, 6);
	pattern(d, 8192, 7);
	pattern(p, 4 * 4096, 8);
	SYS(shmdt(l));
	SYS(shmctl(dest, IPC_RMID, NULL));
	SYS(munmap(p, 4096));
	SYS(munmap(p + 2 * 4096, 4096)); // the second and the fourth page stay
	SYS(mprotect(p + 3 * 4096, 4096, PROT_READ));
	child = SYS(fork());
	if (child == 0) {
		SYS(shmdt(b));
		at[0] = 1;
		while (at[1] == 0)
			nap(5);
		SAME("the child's segment", a, size & ~7ul, 5);
		a[8] ^= 1;
		SYS(shmdt(a));
		EQ("attached to the dying segment", shm_stat(dest).shm_nattch, 2);
		_exit(0);
	}
	while (at[0] == 0)
		nap(1);
	ready_and_await();
	EQ("id by key", shmget(KEY, 0, 0), keyed);
	EQ("size", shm_stat(keyed).shm_segsz, size);
	EQ("mode", shm_stat(keyed).shm_perm.mode, 0640);
	EQ("attached", shm_stat(keyed).shm_nattch, 3);
	EQ("maker", shm_stat(keyed).shm_cpid, me);
	EQ("attached to the loose one", shm_stat(loose).shm_nattch, 0);
	EQ("attached to the parted one", shm_stat(parted).shm_nattch, 4);
	EQ("mark of the dying one", shm_stat(dest).shm_perm.mode & SHM_DEST, SHM_DEST);
	SAME("segment", a, size & ~7ul, 5);
	SAME("segment, read-only", b, size & ~7ul, 5);
	CHECK(a[room - 1] == 0, "the rest of the last page is not zero");
	SAME("dying segment", d, 8192, 7);
	SAME("second page", p + 4096, 4096, 8 + 512);
	SAME("fourth page", p + 3 * 4096, 4096, 8 + 3 * 512);
	CHECK(mprotect(b, 4096, PROT_READ | PROT_WRITE) != 0, "a read-only attachment can be written to");
	SYS(mprotect(p + 3 * 4096, 4096, PROT_READ | PROT_WRITE));
	l = SYS(shmat(loose, NULL, 0));
	SAME("loose segment", l, 8192, 6);
	at[1] = 1;
	reap(child, 0);
	CHECK(b[8] == a[8] && pattern_at(a, size & ~7ul, 5) == 8, "the child's change is not to be seen");
	EQ("attached", shm_stat(keyed).shm_nattch, 2);
	SYS(shmdt(a));
	SYS(shmdt(d));
	CHECK(shmctl(dest, IPC_STAT, &(struct shmid_ds){ 0 }) != 0 && errno == EINVAL, "the dying segment did not die");
	CHECK(shmctl(burnt, IPC_STAT, &(struct shmid_ds){ 0 }) != 0, "a removed segment is back");
	SYS(shmctl(keyed, IPC_RMID, NULL));
	SYS(shmctl(loose, IPC_RMID, NULL));
	SYS(shmctl(parted, IPC_RMID, NULL));
}

static int sem_value(int id, int n) { return SYS(semctl(id, n, GETVAL)); }
static void sem_add(int id, int n, int add, int flags)
{
	struct sembuf op = { (unsigned short)n, (short)add, (short)flags };

	SYS(semop(id, &op, 1));
}

// sem: values, and what is undone when a process ends, which no call tells.
static void sem(void)
{
	int burnt = SYS(semget(IPC_PRIVATE, 1, 0600));
	int id = SYS(semget(KEY, 5, IPC_CREAT | IPC_EXCL | 0620)), many = SYS(semget(IPC_PRIVATE, 500, 0600));
	int *at = shared(4096);
	struct semid_ds d;
	pid_t child;

	SYS(semctl(burnt, 0, IPC_RMID));
	sem_add(id, 0, 7, 0);
	sem_add(id, 2, 32767, 0);
	sem_add(id, 3, 10, SEM_UNDO);
	sem_add(many, 499, 3, 0);
	child = SYS(fork());
	if (child == 0) {
		sem_add(id, 0, -2, SEM_UNDO);
		sem_add(id, 1, 4, SEM_UNDO);
		sem_add(id, 1, 1, 0);
		sem_add(id, 2, -32767, SEM_UNDO);
		sem_add(id, 3, -1, SEM_UNDO);
		sem_add(id, 3, 1, SEM_UNDO);
		sem_add(many, 499, -3, SEM_UNDO);
		at[0] = 1;
		while (at[1] == 0)
			nap(5);
		_exit(0);
	}
	while (at[0] == 0)
		nap(1);
	ready_and_await();
	EQ("id by key", semget(KEY, 0, 0), id);
	SYS(semctl(id, 0, IPC_STAT, &d));
	EQ("mode", d.sem_perm.mode, 0620);
	EQ("semaphores", d.sem_nsems, 5);
	EQ("semaphore 0", sem_value(id, 0), 5);
	EQ("semaphore 1", sem_value(id, 1), 5);
	EQ("semaphore 2", sem_value(id, 2), 0);
	EQ("semaphore 3", sem_value(id, 3), 10);
	EQ("semaphore 4", sem_value(id, 4), 0);
	EQ("semaphore 499", sem_value(many, 499), 0);
	EQ("last pid of semaphore 0", semctl(id, 0, GETPID), child);
	EQ("last pid of semaphore 4", semctl(id, 4, GETPID), 0);
	at[1] = 1;
	reap(child, 0);
	EQ("semaphore 0 after the child's end", sem_value(id, 0), 7);
	EQ("semaphore 1 after the child's end", sem_value(id, 1), 1);
	EQ("semaphore 2 after the child's end", sem_value(id, 2), 32767);
	EQ("semaphore 3 after the child's end", sem_value(id, 3), 10);
	EQ("semaphore 499 after the child's end", sem_value(many, 499), 3);
	SYS(semctl(id, 0, IPC_RMID));
	SYS(semctl(many, 0, IPC_RMID));
}

// sem-wait: processes that wait for semaphores.
static void sem_wait_mode(void)
{
	int id = SYS(semget(KEY, 2, IPC_CREAT | IPC_EXCL | 0600));
	pid_t down = SYS(fork()), zero;

	if (down == 0) {
		sem_add(id, 0, -3, SEM_UNDO);
		sem_add(id, 1, -1, 0);
		_exit(7);
	}
	sem_add(id, 1, 1, 0);
	zero = SYS(fork());
	if (zero == 0) {
		sem_add(id, 1, 0, 0);
		_exit(8);
	}
	while (semctl(id, 0, GETNCNT) != 1 || semctl(id, 1, GETZCNT) != 1)
		nap(1);
	ready_and_await();
	for (int64_t end = ms() + 10000; semctl(id, 0, GETNCNT) != 1 || semctl(id, 1, GETZCNT) != 1; nap(1))
		CHECK(ms() < end, "those who wait for semaphores do so no more");
	sem_add(id, 0, 3, 0);
	reap(down, 7);
	EQ("semaphore after the undoing", sem_value(id, 0), 3);
	reap(zero, 8);
	SYS(semctl(id, 0, IPC_RMID));
}

struct message {
	long type;
	char text[256];
};

static void msg_put(int id, long type, const char *text)
{
	struct message m = { .type = type };

	strcpy(m.text, text);
	SYS(msgsnd(id, &m, strlen(text), 0));
}

static void msg_want(int id, long want, long type, const char *text)
{
	struct message m = { 0 };

	EQ("length of a message", SYS(msgrcv(id, &m, sizeof m.text, want, IPC_NOWAIT)), strlen(text));
	EQ("type of a message", m.type, type);
	CHECK(strcmp(m.text, text) == 0, "message \"%s\", was \"%s\"", m.text, text);
}

// msg: messages of several types in order, an empty one, one who waits for a
// message and one who waits for room.
static void msg(void)
{
	int burnt = SYS(msgget(IPC_PRIVATE, 0600));
	int id = SYS(msgget(KEY, IPC_CREAT | IPC_EXCL | 0640)), full = SYS(msgget(IPC_PRIVATE, 0600));
	struct msqid_ds d;
	pid_t reader, writer;

	SYS(msgctl(burnt, IPC_RMID, NULL));
	msg_put(id, 3, "first");
	msg_put(id, 1, "second");
	msg_put(id, 3, "");
	msg_put(id, 1L << 40, "fourth, of a large type");
	msg_put(id, 5, "gone");
	msg_want(id, 5, 5, "gone");
	SYS(msgctl(full, IPC_STAT, &d));
	d.msg_qbytes = 10;
	SYS(msgctl(full, IPC_SET, &d));
	msg_put(full, 1, "0123456789");
	reader = SYS(fork());
	if (reader == 0) {
		struct message m = { 0 };

		EQ("length", SYS(msgrcv(id, &m, sizeof m.text, 77, 0)), 4);
		_exit(7);
	}
	writer = SYS(fork());
	if (writer == 0) {
		msg_put(full, 2, "late");
		_exit(8);
	}
	nap(50);
	ready_and_await();
	EQ("id by key", msgget(KEY, 0), id);
	SYS(msgctl(id, IPC_STAT, &d));
	EQ("mode", d.msg_perm.mode, 0640);
	EQ("messages", d.msg_qnum, 4);
	EQ("last sender", d.msg_lspid, getpid());
	EQ("last receiver", d.msg_lrpid, getpid());
	SYS(msgctl(full, IPC_STAT, &d));
	EQ("room", d.msg_qbytes, 10);
	EQ("last receiver of the other queue", d.msg_lrpid, 0);
	EQ("messages in the full queue", d.msg_qnum, 1);
	msg_put(id, 77, "wake");
	reap(reader, 7);
	msg_want(full, 0, 1, "0123456789");
	reap(writer, 8);
	msg_want(full, 0, 2, "late");
	msg_want(id, 1, 1, "second");
	msg_want(id, 0, 3, "first");
	msg_want(id, 0, 3, "");
	msg_want(id, 0, 1L << 40, "fourth, of a large type");
	SYS(msgctl(id, IPC_RMID, NULL));
	SYS(msgctl(full, IPC_RMID, NULL));
}

int main(int argc, char **argv)
{
	static const struct mode modes[] = {
		{ "shm", shm }, { "sem", sem }, { "sem-wait", sem_wait_mode }, { "msg", msg }, { NULL, NULL },
	};

	begin(argc, argv);
	run_mode(modes);
}
