// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/test/harness"
)

const programVar = "ESKY_ENGINE_PROGRAM"

func TestMain(m *testing.M) {
	if WorkerMain(os.Args) {
		return
	}
	if os.Getenv(programVar) != "" {
		watcher(os.Args[1])
	}
	os.Exit(harness.AsUser(m, nil))
}

// watcher is a job that has some memory, changes a little of it, counts in a
// file, and complains in another about any child or descriptor it did not make.
func watcher(file string) {
	memory := make([]byte, 48<<20)
	for i := range memory {
		memory[i] = byte(i*7 + i>>12)
	}
	chld := make(chan os.Signal, 8)
	notifyChild(chld)
	fds := descriptors()
	for i := 0; ; i++ {
		memory[i%len(memory)]++
		memory[i%len(memory)]--
		if _, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
			write(file+".fail", fmt.Sprintf("a child: %v", err))
		}
		select {
		case <-chld:
			write(file+".fail", "a SIGCHLD")
		default:
		}
		if now := descriptors(); now != fds {
			write(file+".fail", fmt.Sprintf("descriptors %s, then %s", fds, now))
		}
		if i%256 == 0 && !intact(memory) {
			write(file+".fail", "memory has changed")
		}
		write(file, strconv.Itoa(i))
		time.Sleep(500 * time.Microsecond)
	}
}

func intact(memory []byte) bool {
	for i := 0; i < len(memory); i += 4099 {
		if memory[i] != byte(i*7+i>>12) {
			return false
		}
	}
	return true
}

func descriptors() string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var all []string
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil {
			all = append(all, e.Name()+" "+link)
		}
	}
	return strings.Join(all, ", ")
}

func write(file, text string) {
	if os.WriteFile(file+".new", []byte(text), 0o600) == nil {
		_ = os.Rename(file+".new", file)
	}
}

func read(file string) string {
	b, _ := os.ReadFile(file)
	return string(b)
}

// watched is a running watcher.
type watched struct {
	t    *testing.T
	file string
	*Job
}

func start(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, file: filepath.Join(t.TempDir(), "count")}
	var err error
	w.Job, err = Start(StartOptions{
		Argv: []string{"/proc/self/exe", w.file}, Env: []string{programVar + "=1"}, Dir: "/", StatusPath: w.file + ".status",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.Kill()
		_, _ = w.Wait()
	})
	w.progress()
	return w
}

// progress waits until the program has counted on.
func (w *watched) progress() {
	w.t.Helper()
	before := read(w.file)
	for end := time.Now().Add(20 * time.Second); read(w.file) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatal("the job stands still")
		}
	}
	if said := read(w.file + ".fail"); said != "" {
		w.t.Fatalf("the job noticed: %s", said)
	}
}

func (w *watched) save(ctx context.Context, stop bool, progress func(Progress)) (string, *Checkpoint, error) {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	c, err := Save(ctx, CheckpointOptions{Job: w.Job, Dir: dir, Stop: stop, Meta: &imagepb.Image{Job: "x"}}, progress)
	return dir, c, err
}

// end finishes a checkpoint with stop.
func (w *watched) end(c *Checkpoint) {
	w.t.Helper()
	if err := c.Finish(true); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// TestSaveUnnoticed: while the job runs on beside its snapshot it sees none of
// it, shares its memory with it, and afterwards nothing is left.
func TestSaveUnnoticed(t *testing.T) {
	w := start(t)
	for range 3 {
		if _, _, err := w.save(context.Background(), false, nil); err != nil {
			t.Fatal(err)
		}
		w.progress()
	}
	pids, err := freeze.Descendants(w.InitPid)
	if err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if st, err := procfs.ReadStatus(pids[0], 0); err != nil || st.TracerPid != 0 {
		t.Errorf("tracer %d, %v", st.TracerPid, err)
	}
}

// TestNoRoomForSnapshot: where the kernel makes no process the job stands still
// while it is saved, and keeps nothing of the attempt.
func TestNoRoomForSnapshot(t *testing.T) {
	w := start(t)
	var lim unix.Rlimit
	if err := unix.Prlimit(w.MainPid(), unix.RLIMIT_NPROC, nil, &lim); err != nil {
		t.Fatal(err)
	}
	few := lim
	few.Cur = 1
	if err := unix.Prlimit(w.MainPid(), unix.RLIMIT_NPROC, &few, nil); err != nil {
		t.Fatal(err)
	}
	_, c, err := w.save(context.Background(), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The program is one in Go: it ends when it wants another thread and gets none.
	if err := unix.Prlimit(w.MainPid(), unix.RLIMIT_NPROC, &lim, nil); err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(c.Notes, "; "); !strings.Contains(notes, "stands still while its memory is written: no snapshot of pid") {
		t.Errorf("notes: %s", notes)
	}
	w.progress()
	if pids, err := freeze.Descendants(w.InitPid); err != nil || len(pids) != 1 {
		t.Errorf("processes %v %v", pids, err)
	}
}

// TestSnapshotStaysShared: reading the snapshot does not make the kernel copy
// its pages.
func TestSnapshotStaysShared(t *testing.T) {
	w := start(t)
	host := w.MainPid()
	stop, shares := make(chan bool), make(chan float64)
	go func() {
		least := 1.0
		for {
			select {
			case <-stop:
				shares <- least
				return
			default:
			}
			pids, _ := freeze.Descendants(w.InitPid)
			if len(pids) == 2 {
				if rss, pss := rollup(host); rss > 0 && pss > 0 {
					least = min(least, pss/rss)
				}
			}
			runtime.Gosched()
		}
	}()
	for range 3 {
		if _, _, err := w.save(context.Background(), false, nil); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if least := <-shares; least > 0.7 {
		t.Errorf("the job's pss is never below %.2f of its rss beside the snapshot", least)
	}
}

// rollup reads rss and pss of a process in kB.
func rollup(pid int) (rss, pss float64) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		_, _ = fmt.Sscanf(s.Text(), "Rss: %f", &rss)
		_, _ = fmt.Sscanf(s.Text(), "Pss: %f", &pss)
	}
	return rss, pss
}

func TestStopAndResume(t *testing.T) {
	w := start(t)
	for range 2 {
		dir, c, err := w.save(context.Background(), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := read(w.file)
		time.Sleep(10 * time.Millisecond)
		if read(w.file) != before {
			t.Error("the job runs on")
		}
		w.end(c)
		if w.Job, _, err = Resume(context.Background(), ResumeOptions{Image: dir, SavedDir: t.TempDir()}, nil); err != nil {
			t.Fatal(err)
		}
		w.progress()
	}
}

// TestFinishWithoutEnd: a job whose image could not be published runs on.
func TestFinishWithoutEnd(t *testing.T) {
	w := start(t)
	_, c, err := w.save(context.Background(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Finish(false); err != nil {
		t.Fatal(err)
	}
	w.progress()
}

// TestDamagedChunk: the damage is found when the job is half made. Nothing of it
// is left, and the error says what it is.
func TestDamagedChunk(t *testing.T) {
	w := start(t)
	dir, c, err := w.save(context.Background(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.end(c)
	before := read(w.file)
	f, err := os.OpenFile(filepath.Join(dir, "pages.img"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	at := st.Size() - st.Size()/4
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	var damaged *image.DamagedError
	_, _, err = Resume(context.Background(), ResumeOptions{Image: dir, SavedDir: t.TempDir()}, nil)
	if !errors.As(err, &damaged) {
		t.Fatalf("error %v", err)
	}
	if pids, err := freeze.Descendants(os.Getpid()); err != nil || len(pids) != 0 {
		t.Errorf("left behind: %v %v", pids, err)
	}
	if after := read(w.file); after != before {
		t.Error("some of the program has run")
	}
}

// worker is the dump worker of this process.
func (w *watched) worker() int {
	pids, _ := procfs.Children(os.Getpid())
	for _, pid := range pids {
		if pid != w.InitPid {
			return pid
		}
	}
	return 0
}

// TestWorkerKilled: without its tracer a job that stands still ends at once, and
// one that runs beside its snapshot does not care.
func TestWorkerKilled(t *testing.T) {
	for _, stop := range []bool{true, false} {
		t.Run(fmt.Sprintf("stop %v", stop), func(t *testing.T) {
			w := start(t)
			if !stop {
				w.killedBesideSnapshot()
				return
			}
			_, c, err := w.save(context.Background(), true, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(w.worker(), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if exit, err := w.Wait(); exit.Signal != unix.SIGKILL || err != nil {
				t.Errorf("%+v, %v", exit, err)
			}
			_ = c.Finish(true)
		})
	}
}

// killedBesideSnapshot kills the worker once the job runs again.
func (w *watched) killedBesideSnapshot() {
	w.t.Helper()
	main, done := w.MainPid(), make(chan bool)
	go func() {
		defer close(done)
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
			pids, _ := freeze.Descendants(w.InitPid)
			if len(pids) == 2 && !traced(main) {
				_ = unix.Kill(w.worker(), unix.SIGKILL)
				return
			}
		}
	}()
	_, _, err := w.save(context.Background(), false, nil)
	<-done
	var tracer *TracerError
	if err == nil || errors.As(err, &tracer) {
		w.t.Errorf("error %v", err)
	}
	w.progress()
	if pids, err := freeze.Descendants(w.InitPid); err != nil || len(pids) != 1 {
		w.t.Errorf("processes %v %v", pids, err)
	}
}

// traced says that any thread of a process still is: they are let go one by one.
func traced(pid int) bool {
	tids, err := procfs.Tasks(pid)
	for _, tid := range tids {
		st, statErr := procfs.ReadStatus(pid, tid)
		if err = cmp.Or(err, statErr); err != nil || st.TracerPid != 0 {
			return true
		}
	}
	return err != nil
}

func TestSaveCancelled(t *testing.T) {
	w := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := w.save(ctx, false, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	w.progress()
}

// TestStartDeaf: a signal that a scheduler sends to all processes does not end one
// that has only just been started.
func TestStartDeaf(t *testing.T) {
	cmd := exec.Command("/bin/sh", "-c", "kill -USR2 $$; kill -TERM $$; kill -XCPU $$; echo on")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := startDeaf(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || out.String() != "on\n" {
		t.Errorf("it said %q: %v", out.String(), err)
	}
}
