// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/test/harness"
)

// sigRTMin is SIGRTMIN of the C library, which keeps two for itself.
const sigRTMin = 34

// counts are what storm.c says that it got.
type counts []byte

func (c counts) word(i int) int    { return int(int32(binary.LittleEndian.Uint32(c[4*i:]))) }
func (c counts) next(kind int) int { return c.word(kind) }
func (c counts) traps() int        { return c.word(8) }
func (c counts) usr1() int         { return c.word(9) }

// TestStorm saves a job again and again to which signals are sent all the time,
// from outside, where no pause keeps the sender from it: queued ones with
// numbers, SIGTRAP, and SIGSTOP with SIGCONT.
func TestStorm(t *testing.T) {
	for _, preload := range []bool{true, false} {
		t.Run(map[bool]string{true: "preloaded", false: "injected"}[preload], func(t *testing.T) { storm(t, preload) })
	}
}

func storm(t *testing.T, preload bool) {
	random := harness.Rand(t)
	j := start(t, preload, "storm")
	s := &sender{t: t, pid: hostPid(t, j), counts: mapCounts(t, filepath.Join(j.dir, "counts"))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !s.over.Load() && !s.failed.Load() {
			s.volley()
		}
	}()
	for range max(*live/4, 1) {
		time.Sleep(time.Duration(random.Intn(10)) * time.Millisecond)
		j.saveLive()
	}
	s.over.Store(true)
	<-done
	for kind, sent := range s.sent {
		s.until("the last of the queued signals", func() bool { return s.counts.next(kind) == sent })
	}
	t.Logf("%d volleys, %d traps", s.sent[0], s.traps)
	j.finish()
}

func hostPid(t *testing.T, j *job) int {
	t.Helper()
	children, err := procfs.Children(j.Job.InitPid)
	if err != nil || len(children) != 1 {
		t.Fatalf("processes below the init: %v, %v", children, err)
	}
	return children[0]
}

func mapCounts(t *testing.T, path string) counts {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	return b
}

// sender sends to a process of a running job.
type sender struct {
	t            *testing.T
	pid          int
	counts       counts
	sent         [6]int // of each queued kind
	traps, usr1  int
	over, failed atomic.Bool
}

// volley sends one of each.
func (s *sender) volley() {
	for kind := range s.sent {
		if kind == 3 {
			continue
		}
		s.queue(sigRTMin+kind, s.sent[kind])
		s.sent[kind]++
	}
	s.kill(unix.SIGTRAP)
	s.traps++
	s.until("SIGTRAP", func() bool { return s.counts.traps() >= s.traps })
	if s.counts.traps() > s.traps {
		s.fail("%d traps of %d", s.counts.traps(), s.traps)
	}
	if s.traps%5 == 0 {
		s.kill(unix.SIGSTOP)
		time.Sleep(time.Millisecond)
		s.kill(unix.SIGCONT)
	}
	s.kill(unix.SIGUSR1)
	s.usr1++
	s.until("SIGUSR1", func() bool { return s.counts.usr1() >= s.usr1 })
}

func (s *sender) kill(sig unix.Signal) {
	if err := unix.Kill(s.pid, sig); err != nil {
		s.fail("kill: %v", err)
	}
}

// queue is sigqueue(3).
func (s *sender) queue(sig, value int) {
	info := make([]byte, 128)
	binary.LittleEndian.PutUint32(info, uint32(sig))
	binary.LittleEndian.PutUint32(info[8:], uint32(0xffffffff)) // SI_QUEUE
	binary.LittleEndian.PutUint32(info[24:], uint32(value))
	if err := rtSigqueueinfo(s.pid, sig, info); err != nil {
		s.fail("sigqueue: %v", err)
	}
}

func (s *sender) until(what string, is func() bool) {
	for end := time.Now().Add(harness.Patience); !is() && !s.failed.Load(); time.Sleep(50 * time.Microsecond) {
		if time.Now().After(end) {
			s.fail("%s has not come; queued %v", what, s.sent)
		}
	}
}

func (s *sender) fail(format string, args ...any) {
	s.failed.Store(true)
	s.t.Errorf(format, args...)
}
