// SPDX-License-Identifier: Apache-2.0

package dump

import "strings"

// advice is what to say of files that only the kernel or a device knows the
// state of, by the beginning of their names in /proc/PID/fd.
var advice = []struct{ prefix, why string }{
	{"anon_inode:[io_uring]", "an io_uring is not carried yet: tell the program to do without (fio: another ioengine; libuv: UV_USE_IO_URING=0)"},
	{"anon_inode:[userfaultfd]", "userfaultfd is not carried yet"},
	{"anon_inode:[perf_event]", "performance counters (perf_event_open) are not carried yet: start the job without the profiler"},
	{"anon_inode:bpf", "BPF programs and maps cannot be carried"},
	{"anon_inode:[fanotify]", "fanotify is not carried yet"},
	{"anon_inode:kvm", "virtual machines cannot be carried"},
	{"anon_inode:[landlock-ruleset]", "Landlock rules are not carried yet"},
	{"anon_inode:seccomp notify", "the supervisor of a seccomp filter cannot be carried"},
	{"/dev/nvidia", "a GPU cannot be carried: release it before the checkpoint (esky_on_checkpoint), or do not open it"},
	{"/dev/kfd", "a GPU cannot be carried: release it before the checkpoint (esky_on_checkpoint), or do not open it"},
	{"/dev/dri/", "a GPU cannot be carried: release it before the checkpoint (esky_on_checkpoint), or do not open it"},
	{"/dev/infiniband/", "InfiniBand cannot be carried: tell MPI to use TCP or shared memory (UCX_TLS=tcp,sm,self; OMPI_MCA_btl=tcp,vader,self; FI_PROVIDER=tcp)"},
	{"/dev/kvm", "virtual machines cannot be carried"},
	{"/dev/fuse", "a server of a FUSE file system cannot be carried: mount it outside of the job"},
	{"/dev/net/tun", "a network interface of the job's own cannot be carried"},
	{"/dev/", "a device with a state of its own cannot be carried"},
}

// refuseKind says why a special file cannot be carried.
func refuseKind(link string) string {
	for _, a := range advice {
		if strings.HasPrefix(link, a.prefix) {
			return a.why
		}
	}
	return "this kind of file cannot be carried yet"
}
