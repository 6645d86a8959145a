/* SPDX-License-Identifier: Apache-2.0 */
/* ids_process.c: functions of libc that take or give numbers of processes. */
#define _GNU_SOURCE
#include "ids.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define V(n) esky_virtual(n)
#define R(n) esky_real(n)
#define RAW(nr, ...) RAW_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define RAW_(nr, a, b, c, d, e, f, ...) \
	esky_sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define CALL(nr, ...) esky_ret(RAW(nr, ##__VA_ARGS__))

EXPORT pid_t getpid(void) { return V((int)RAW(SYS_getpid)); }
EXPORT pid_t getppid(void) { return V((int)RAW(SYS_getppid)); }
EXPORT pid_t gettid(void) { return V((int)RAW(SYS_gettid)); }

/* -1 stays what it is: no process has the number. */
EXPORT pid_t getpgid(pid_t pid) { return V((int)CALL(SYS_getpgid, R(pid))); }
EXPORT pid_t getpgrp(void) { return V((int)RAW(SYS_getpgid, 0)); }
EXPORT pid_t getsid(pid_t pid) { return V((int)CALL(SYS_getsid, R(pid))); }
EXPORT pid_t setsid(void) { return V((int)CALL(SYS_setsid)); }
EXPORT int setpgid(pid_t pid, pid_t group) { return (int)CALL(SYS_setpgid, R(pid), R(group)); }
EXPORT int setpgrp(void) { return (int)CALL(SYS_setpgid, 0, 0); }
EXPORT pid_t tcgetpgrp(int fd) { return V(REAL(tcgetpgrp)(fd)); }
EXPORT int tcsetpgrp(int fd, pid_t group) { return REAL(tcsetpgrp)(fd, R(group)); }
EXPORT pid_t tcgetsid(int fd);
EXPORT pid_t tcgetsid(int fd) { return V(REAL(tcgetsid)(fd)); }

EXPORT int kill(pid_t pid, int sig) { return (int)CALL(SYS_kill, esky_real_signed(pid), sig); }
EXPORT int killpg(pid_t group, int sig) { return kill(group ? -group : 0, sig); }
EXPORT int tgkill(pid_t pid, pid_t tid, int sig) { return (int)CALL(SYS_tgkill, R(pid), R(tid), sig); }

EXPORT int raise(int sig)
{
	long pid = RAW(SYS_getpid), tid = RAW(SYS_gettid);

	return (int)CALL(SYS_tgkill, pid, tid, sig);
}

EXPORT int sigqueue(pid_t pid, int sig, const union sigval value)
{
	siginfo_t info;
	char *p = (char *)&info;
	volatile char *end = p + sizeof info;

	while (p < end)
		*p++ = 0;
	info.si_signo = sig;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = (uid_t)RAW(SYS_getuid);
	info.si_value = value;
	return (int)CALL(SYS_rt_sigqueueinfo, R(pid), sig, &info);
}

/* Waiting is a cancellation point, so libc does it. */

EXPORT pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	return V(REAL(wait4)(esky_real_signed(pid), status, options, usage));
}

EXPORT pid_t waitpid(pid_t pid, int *status, int options)
{
	return V(REAL(waitpid)(esky_real_signed(pid), status, options));
}

EXPORT pid_t wait(int *status) { return V(REAL(wait)(status)); }

EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
	return V(REAL(wait3)(status, options, usage));
}

EXPORT int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	int ret = REAL(waitid)(type, type == P_PID || type == P_PGID ? (id_t)R((pid_t)id) : id, info, options);

	if (ret == 0 && info && info->si_pid)
		info->si_pid = V(info->si_pid);
	return ret;
}

/* Making */

EXPORT pid_t fork(void)
{
	esky_before_birth();
	return REAL(fork)();
}

/* vfork(2) must not return through a frame of ours: see ids_amd64.S. */
void *esky_vfork(void);
void *esky_vfork(void)
{
	esky_before_birth();
	return (void *)REAL(vfork);
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	esky_before_birth();
	return REAL(posix_spawn)(pid, esky_program(path), actions, attr, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	esky_before_birth();
	return REAL(posix_spawnp)(pid, esky_program(file), actions, attr, argv, env);
}

EXPORT int system(const char *command)
{
	esky_before_birth();
	return REAL(system)(command);
}

EXPORT FILE *popen(const char *command, const char *type)
{
	esky_before_birth();
	return REAL(popen)(command, type);
}

/* Asking about others */

static id_t real_who(int which, id_t who)
{
	return which == PRIO_PROCESS || which == PRIO_PGRP ? (id_t)R((pid_t)who) : who;
}

EXPORT int getpriority(__priority_which_t which, id_t who)
{
	return REAL(getpriority)(which, real_who((int)which, who));
}

EXPORT int setpriority(__priority_which_t which, id_t who, int value)
{
	return (int)CALL(SYS_setpriority, which, real_who((int)which, who), value);
}

EXPORT int sched_setscheduler(pid_t pid, int policy, const struct sched_param *p)
{
	return REAL(sched_setscheduler)(R(pid), policy, p);
}

EXPORT int sched_getscheduler(pid_t pid) { return REAL(sched_getscheduler)(R(pid)); }
EXPORT int sched_setparam(pid_t pid, const struct sched_param *p) { return REAL(sched_setparam)(R(pid), p); }
EXPORT int sched_getparam(pid_t pid, struct sched_param *p) { return REAL(sched_getparam)(R(pid), p); }

EXPORT int sched_rr_get_interval(pid_t pid, struct timespec *t)
{
	return (int)CALL(SYS_sched_rr_get_interval, R(pid), t);
}

EXPORT int sched_setaffinity(pid_t pid, size_t size, const cpu_set_t *set)
{
	return REAL(sched_setaffinity)(R(pid), size, set);
}

EXPORT int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *set)
{
	return REAL(sched_getaffinity)(R(pid), size, set);
}

EXPORT int prlimit(pid_t pid, __rlimit_resource_t what, const struct rlimit *new, struct rlimit *old)
{
	return (int)CALL(SYS_prlimit64, R(pid), what, new, old);
}

EXPORT int prlimit64(pid_t pid, __rlimit_resource_t what, const struct rlimit64 *new, struct rlimit64 *old)
{
	return (int)CALL(SYS_prlimit64, R(pid), what, new, old);
}

EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *l, unsigned long nl, const struct iovec *r,
				unsigned long nr, unsigned long flags)
{
	return CALL(SYS_process_vm_readv, R(pid), l, nl, r, nr, flags);
}

EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *l, unsigned long nl, const struct iovec *r,
				 unsigned long nr, unsigned long flags)
{
	return CALL(SYS_process_vm_writev, R(pid), l, nl, r, nr, flags);
}

EXPORT int pidfd_open(pid_t pid, unsigned flags);
EXPORT int pidfd_open(pid_t pid, unsigned flags) { return (int)CALL(SYS_pidfd_open, R(pid), flags); }

/* fcntl(2): owners of descriptors, holders of locks. */

static int owner(int (*next)(int, int, ...), int fd, int cmd, struct f_owner_ex *o)
{
	struct f_owner_ex copy;
	int ret;

	if (cmd == F_SETOWN_EX) {
		copy = *o;
		copy.pid = R(copy.pid);
		return next(fd, cmd, &copy);
	}
	ret = next(fd, cmd, o);
	if (ret == 0)
		o->pid = V(o->pid);
	return ret;
}

static int control(int (*next)(int, int, ...), int fd, int cmd, void *arg)
{
	struct flock *lock = arg;
	int ret;

	switch (cmd) {
	case F_SETOWN:
		return next(fd, cmd, esky_real_signed((int)(long)arg));
	case F_GETOWN:
		ret = next(fd, cmd, 0);
		return ret < -1 ? -V(-ret) : V(ret);
	case F_SETOWN_EX:
	case F_GETOWN_EX:
		return owner(next, fd, cmd, arg);
	case F_GETLK:
		ret = next(fd, cmd, arg);
		if (ret == 0 && lock->l_type != F_UNLCK && lock->l_pid > 0)
			lock->l_pid = V(lock->l_pid);
		return ret;
	}
	return next(fd, cmd, arg);
}

EXPORT int fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return control(REAL(fcntl), fd, cmd, arg);
}

EXPORT int fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return control(REAL(fcntl64), fd, cmd, arg);
}

/* Credentials of sockets (unix(7)): who is at the other end, who has sent. */

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	int ret = REAL(getsockopt)(fd, level, name, value, len);

	if (ret == 0 && level == SOL_SOCKET && name == SO_PEERCRED && *len >= sizeof(struct ucred))
		((struct ucred *)value)->pid = V(((struct ucred *)value)->pid);
	return ret;
}

static void translate_credentials(struct msghdr *m, int32_t (*as)(int32_t))
{
	struct cmsghdr *c;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof(struct ucred)))
			((struct ucred *)CMSG_DATA(c))->pid = as(((struct ucred *)CMSG_DATA(c))->pid);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t ret = REAL(recvmsg)(fd, m, flags);

	if (ret >= 0 && esky_ids.count)
		translate_credentials(m, esky_virtual);
	return ret;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	enum { most = 8192 }; /* more the kernel does not take (optmem_max, about) */
	char control[most] __attribute__((aligned(16)));
	struct msghdr copy = *m;
	volatile char *to = control;
	size_t i;

	if (esky_ids.count == 0 || m->msg_controllen == 0 || m->msg_controllen > most)
		return REAL(sendmsg)(fd, m, flags);
	for (i = 0; i < m->msg_controllen; i++)
		to[i] = ((const char *)m->msg_control)[i];
	copy.msg_control = control;
	translate_credentials(&copy, esky_real);
	return REAL(sendmsg)(fd, &copy, flags);
}

/* System V objects are the host's, and nothing tells of a process that uses them. */

EXPORT int shmget(key_t key, size_t size, int flags)
{
	esky_need(ESKY_NEEDS_SEGMENTS);
	return (int)CALL(SYS_shmget, key, size, flags);
}

EXPORT int semget(key_t key, int n, int flags)
{
	esky_need(ESKY_NEEDS_SEMAPHORES);
	return (int)CALL(SYS_semget, key, n, flags);
}

EXPORT int msgget(key_t key, int flags)
{
	esky_need(ESKY_NEEDS_QUEUES);
	return (int)CALL(SYS_msgget, key, flags);
}

/* syscall(2): ids_amd64.S asks which of them are for us. */

void *esky_syscall_wanted(long nr);
void *esky_syscall_wanted(long nr)
{
	switch (nr) {
	case SYS_getpid: case SYS_getppid: case SYS_gettid: case SYS_getpgrp:
	case SYS_getpgid: case SYS_getsid: case SYS_setsid: case SYS_setpgid:
	case SYS_kill: case SYS_tkill: case SYS_tgkill: case SYS_pidfd_open:
	case SYS_rt_sigqueueinfo: case SYS_rt_tgsigqueueinfo: case SYS_wait4:
	case SYS_sched_getaffinity: case SYS_sched_setaffinity: case SYS_waitid:
	case SYS_clock_gettime:
		return 0;
	}
	return (void *)REAL(syscall);
}

long esky_syscall(long nr, long a, long b, long c, long d, long e, long f);
long esky_syscall(long nr, long a, long b, long c, long d, long e, long f)
{
	long ret;

	switch (nr) {
	case SYS_clock_gettime:
		return clock_gettime((clockid_t)a, (struct timespec *)b);
	case SYS_waitid:
		ret = RAW(nr, a, a == P_PID || a == P_PGID ? R((pid_t)b) : b, c, d, e);
		if (ret == 0 && c && ((siginfo_t *)c)->si_pid)
			((siginfo_t *)c)->si_pid = V(((siginfo_t *)c)->si_pid);
		return esky_ret(ret);
	case SYS_kill:
		return CALL(nr, esky_real_signed((pid_t)a), b);
	case SYS_wait4:
		ret = RAW(nr, esky_real_signed((pid_t)a), b, c, d);
		break;
	case SYS_tgkill: case SYS_rt_tgsigqueueinfo: case SYS_setpgid:
		return CALL(nr, R((pid_t)a), R((pid_t)b), c, d);
	case SYS_tkill: case SYS_pidfd_open: case SYS_rt_sigqueueinfo:
	case SYS_sched_getaffinity: case SYS_sched_setaffinity:
		return CALL(nr, R((pid_t)a), b, c, d, e, f);
	default:
		ret = RAW(nr, R((pid_t)a));
		break;
	}
	return ret > 0 ? V((int)ret) : esky_ret(ret);
}
