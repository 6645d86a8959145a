// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tests here make state in this process and want to read it back: what the
// kernel really writes decides, not what the tables believe.

// mapFile maps a new file of that name and gives the address.
func mapFile(t *testing.T, path string) uint64 {
	t.Helper()
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return uint64(uintptr(unsafe.Pointer(&b[0])))
}

func at(t *testing.T, maps []Mapping, addr uint64) Mapping {
	t.Helper()
	i := slices.IndexFunc(maps, func(m Mapping) bool { return m.Start <= addr && addr < m.End })
	if i < 0 {
		t.Fatalf("no mapping at %#x", addr)
	}
	return maps[i]
}

func TestNamesOfMappedFiles(t *testing.T) {
	names := []string{"a b  c ", "new\nline", `literal\012`, "both\n\\012", `back\slash\040`, "(deleted)", "x (deleted)", "tab\tü"}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		for _, gone := range []bool{false, true} {
			path := filepath.Join(dir, name)
			addr := mapFile(t, path)
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if gone {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			for kind, read := range map[string]func(int) ([]Mapping, error){"maps": ReadMaps, "smaps": ReadSmaps} {
				maps, err := read(os.Getpid())
				if err != nil {
					t.Fatal(err)
				}
				if m := at(t, maps, addr); m.Path != path || m.Deleted != gone || m.Ino != st.Ino {
					t.Errorf("%s of %q, deleted %v: path %q, deleted %v, inode %d", kind, path, gone, m.Path, m.Deleted, m.Ino)
				}
			}
		}
	}
}

func TestMemoryOfMappings(t *testing.T) {
	const size = 64 << 10
	b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	if err := unix.Madvise(b, unix.MADV_DONTFORK); err != nil {
		t.Fatal(err)
	}
	b[0], b[size-1] = 1, 1
	maps, err := ReadSmaps(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	m := at(t, maps, uint64(uintptr(unsafe.Pointer(&b[0]))))
	if m.Size() != size || m.Rss != 8192 || !m.Has("dc") || !m.Has("sh") || !m.Shared() || m.Path != "/dev/zero" || !m.Deleted {
		t.Errorf("shared anonymous memory is %+v", m)
	}
	if m.Prot() != unix.PROT_READ|unix.PROT_WRITE || m.KernelPageSize != uint64(os.Getpagesize()) {
		t.Errorf("protection %#x, pages of %d", m.Prot(), m.KernelPageSize)
	}
}

// TestThousandsOfMappings makes thousands of mappings, more than one read of the kernel
// gives, and wants each of them.
func TestThousandsOfMappings(t *testing.T) {
	const n = 12_000
	page := os.Getpagesize()
	b, err := unix.Mmap(-1, 0, n*page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(b) }()
	for i := 0; i < n; i += 2 {
		if err := unix.Mprotect(b[i*page:(i+1)*page], unix.PROT_READ); err != nil {
			t.Fatal(err)
		}
	}
	maps, err := ReadMaps(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	start := uint64(uintptr(unsafe.Pointer(&b[0])))
	i := slices.IndexFunc(maps, func(m Mapping) bool { return m.Start == start })
	if i < 0 || len(maps) < i+n-1 {
		t.Fatalf("%d mappings, the first of ours is number %d", len(maps), i)
	}
	for j, m := range maps[i : i+n-1] {
		if m.Start != start+uint64(j*page) || m.Size() != uint64(page) || m.Prot() != (j+1)%2*unix.PROT_READ {
			t.Fatalf("mapping %d is %+v", j, m)
		}
	}
}

// info reads the fdinfo of a descriptor of this process, and closes it.
func info(t *testing.T, fd int, err error) FdInfo {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	i, err := ReadFdInfo(os.Getpid(), fd)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.Unknown) != 0 {
		t.Errorf("descriptor %d: unknown lines %q", fd, i.Unknown)
	}
	return i
}

func TestFdInfoOfEventfd(t *testing.T) {
	fd, err := unix.Eventfd(17, unix.EFD_SEMAPHORE|unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	i := info(t, fd, err)
	if !i.Eventfd || i.EventfdCount != 17 || !i.EventfdSemaphore || i.Flags != unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK {
		t.Errorf("eventfd is %+v", i)
	}
}

func TestFdInfoOfSignalfd(t *testing.T) {
	set := &unix.Sigset_t{Val: [16]uint64{1 << (unix.SIGUSR2 - 1)}}
	fd, err := unix.Signalfd(-1, set, unix.SFD_CLOEXEC)
	if i := info(t, fd, err); !i.Signalfd || i.Sigmask != 1<<(unix.SIGUSR2-1) {
		t.Errorf("signalfd is %+v", i)
	}
}

func TestFdInfoOfTimerfd(t *testing.T) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	spec := &unix.ItimerSpec{Value: unix.Timespec{Sec: 1000}, Interval: unix.Timespec{Sec: 2, Nsec: 5}}
	if err := unix.TimerfdSettime(fd, 0, spec, nil); err != nil {
		t.Fatal(err)
	}
	i := info(t, fd, nil)
	if i.Timerfd == nil {
		t.Fatalf("timerfd is %+v", i)
	}
	left := time.Duration(i.Timerfd.ValueNs)
	if i.Timerfd.Clockid != unix.CLOCK_MONOTONIC || left > 1000*time.Second || left < 900*time.Second || i.Timerfd.IntervalNs != 2_000_000_005 {
		t.Errorf("timerfd is %+v", *i.Timerfd)
	}
}

func TestFdInfoOfEpoll(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: 77, Pad: -2}
	if err := unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, p[0], &ev); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(p[0], &st); err != nil {
		t.Fatal(err)
	}
	i := info(t, fd, nil)
	want := EpollItem{TFD: p[0], Data: 0xfffffffe0000004d, Ino: st.Ino}
	if len(i.Epoll) != 1 {
		t.Fatalf("epoll is %+v", i)
	}
	got := i.Epoll[0]
	if got.TFD != want.TFD || got.Data != want.Data || got.Ino != want.Ino || got.Events&(unix.EPOLLIN|unix.EPOLLET) != unix.EPOLLIN|unix.EPOLLET {
		t.Errorf("item is %+v, want %+v", got, want)
	}
}

func TestFdInfoOfPidfd(t *testing.T) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if i := info(t, fd, err); i.Pid != os.Getpid() {
		t.Errorf("pidfd is %+v", i)
	}
}

func TestFdInfoOfInotify(t *testing.T) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.InotifyAddWatch(fd, t.TempDir(), unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	if i := info(t, fd, nil); len(i.Inotify) != 1 || i.Inotify[0].Wd != 1 || i.Inotify[0].Mask != unix.IN_CREATE {
		t.Errorf("inotify is %+v", i)
	}
}

func TestFdInfoOfLocks(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "locked"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	for _, err := range []error{
		unix.Flock(fd, unix.LOCK_SH),
		unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: 10, Len: 5}),
		unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Start: 100}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	i, err := ReadFdInfo(os.Getpid(), fd)
	if err != nil {
		t.Fatal(err)
	}
	byType := map[string]Lock{}
	for _, l := range i.Locks {
		byType[l.Type] = l
	}
	if l := byType["FLOCK"]; l.Exclusive || l.Pid != os.Getpid() || l.Ino == 0 || l.End != math.MaxInt64 {
		t.Errorf("flock is %+v", l)
	}
	if l := byType["POSIX"]; !l.Exclusive || l.Start != 10 || l.End != 14 || l.Pid != os.Getpid() {
		t.Errorf("POSIX lock is %+v", l)
	}
	if l := byType["OFDLCK"]; l.Exclusive || l.Start != 100 || l.End != math.MaxInt64 || l.Pid != -1 {
		t.Errorf("OFD lock is %+v", l)
	}
}

// sigevent is struct sigevent of the kernel.
type sigevent struct {
	value  uint64
	signo  int32
	notify int32
	tid    int32
	_      [44]byte
}

func TestTimersOfThisProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ev := sigevent{value: 0x1234567890, signo: int32(unix.SIGURG), notify: sigevThreadID, tid: int32(unix.Gettid())}
	var id int32
	_, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&id)))
	if errno != 0 {
		t.Fatal(errno)
	}
	defer func() { _, _, _ = unix.Syscall(unix.SYS_TIMER_DELETE, uintptr(id), 0, 0) }()
	timers, err := ReadTimers(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	want := Timer{ID: int(id), Signal: int(unix.SIGURG), Sigval: ev.value, Notify: sigevThreadID, NotifyTid: unix.Gettid(), ClockID: unix.CLOCK_MONOTONIC}
	if !slices.Contains(timers, want) {
		t.Errorf("timers are %+v, want %+v among them", timers, want)
	}
}

// TestStrangeComm gives a thread the worst names.
func TestStrangeComm(t *testing.T) {
	runtime.LockOSThread() // and never unlock: the thread ends with its name
	for _, name := range []string{"a) S 7 (b", "x\ny\\z", ") R 1 1 1 1", "se.exec_start:5"} {
		b, err := unix.BytePtrFromString(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		want := name[:min(len(name), 15)]
		st, err := ReadStat(os.Getpid(), unix.Gettid())
		if err != nil || st.Comm != want || st.Pid != unix.Gettid() {
			t.Errorf("stat of %q: %+v, %v", want, st, err)
		}
		s, err := ReadStatus(os.Getpid(), unix.Gettid())
		if err != nil || s.Name != want {
			t.Errorf("status of %q: %q, %v", want, s.Name, err)
		}
		if _, err := ReadSched(os.Getpid(), unix.Gettid()); err != nil && !Gone(err) {
			t.Errorf("sched of %q: %v", want, err)
		}
	}
}

func TestDirectories(t *testing.T) {
	cmd := exec.Command("sleep", "100")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	pid := os.Getpid()
	children, err := Children(pid)
	if err != nil || !slices.Contains(children, cmd.Process.Pid) {
		t.Errorf("children are %v, %v; want %d among them", children, err, cmd.Process.Pid)
	}
	byParent, err := childrenByParent(pid)
	if err != nil || !slices.Contains(byParent, cmd.Process.Pid) {
		t.Errorf("children by parent are %v, %v; want %d among them", byParent, err, cmd.Process.Pid)
	}
	tids, err := Tasks(pid)
	if err != nil || !slices.Contains(tids, unix.Gettid()) || !slices.IsSorted(tids) {
		t.Errorf("threads are %v, %v", tids, err)
	}
	fds, err := Fds(pid)
	if err != nil || !slices.Contains(fds, 2) || !slices.IsSorted(fds) {
		t.Errorf("descriptors are %v, %v", fds, err)
	}
	if _, err := Tasks(1 << 30); !Gone(err) {
		t.Errorf("threads of no process: %v", err)
	}
}

// TestManyDescriptors needs more than one getdents(2).
func TestManyDescriptors(t *testing.T) {
	var opened []int
	defer func() {
		for _, fd := range opened {
			_ = unix.Close(fd)
		}
	}()
	for range 4000 {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 10)
		if err == unix.EMFILE {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, fd)
	}
	fds, err := Fds(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range opened {
		if _, found := slices.BinarySearch(fds, fd); !found {
			t.Fatalf("%d descriptors listed, %d is not among them", len(fds), fd)
		}
	}
}

func TestZombieAndGone(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st, err := ReadStat(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		if st.State == 'Z' {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %c", st.State)
		}
	}
	if maps, err := ReadMaps(pid); err != nil || len(maps) != 0 {
		t.Errorf("a zombie has %d mappings, %v", len(maps), err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadMaps(pid); !Gone(err) || !strings.Contains(err.Error(), "/maps") {
		t.Errorf("maps of a process that is gone: %v", err)
	}
	auxv, err := ReadAuxv(os.Getpid())
	if err != nil || len(auxv) == 0 || len(auxv)%16 != 0 {
		t.Errorf("auxv has %d bytes, %v", len(auxv), err)
	}
}
