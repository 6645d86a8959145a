// SPDX-License-Identifier: Apache-2.0

package foreign

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// job is a running job of a provider, as the monitor knows jobs.
type job struct {
	c       *connection
	handle  plugin.Handle
	dir     string        // of the job in the store
	gone    chan struct{} // closed when the process of the handle has ended
	signals chan syscall.Signal

	requests chan uint32    // programs ask for a checkpoint
	answers  sync.WaitGroup // to such programs, that are under way
}

func newJob(c *connection, h plugin.Handle, dir string) *job {
	j := &job{
		c: c, handle: h, dir: dir, gone: make(chan struct{}), signals: make(chan syscall.Signal, 64), requests: make(chan uint32, 1),
	}
	go j.watch()
	go j.deliver()
	go j.listen()
	return j
}

// watch waits for the end of the job's process, whatever its provider says.
func (j *job) watch() {
	defer close(j.gone)
	fd, err := unix.PidfdOpen(j.handle.Pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	for {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); err != unix.EINTR {
			return
		}
	}
}

// InitPid implements monitor.Job.
func (j *job) InitPid() int { return j.handle.Pid }

// MainPid implements monitor.Job: which process is the main one, only the provider
// knows; the job has one as long as it lives.
func (j *job) MainPid() int {
	select {
	case <-j.gone:
		return 0
	default:
		return j.handle.Pid
	}
}

const (
	// lateAnswer is how long after the end of the process a provider may take to
	// tell the status.
	lateAnswer = 15 * time.Second
	// mostTries is how often a plugin is asked for the status of a job that has ended.
	mostTries = 4
	// longestPause is how long to wait at most before a plugin is started again.
	longestPause = time.Minute
)

// Wait implements monitor.Job. The death of the plugin is not that of the job: it is
// started again, and asked again.
func (j *job) Wait() (int, error) {
	defer j.end()
	for tries := 0; ; tries++ {
		status, p, err := j.waitOnce()
		if err == nil {
			return status, nil
		}
		select {
		case <-j.gone:
			if tries >= mostTries {
				return 0, fmt.Errorf("the job has ended, nobody knows how: %w", err)
			}
		default:
			j.c.cfg.Say(fmt.Sprintf("%v; the job runs on", err))
		}
		j.c.broken(p, err)
		if j.pause(tries) {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// pause waits before something is tried again, longer each time. It tells whether the
// job has ended.
func (j *job) pause(tries int) (ended bool) {
	select {
	case <-j.gone:
		return true
	case <-time.After(min(time.Second<<min(tries, 10), longestPause)):
		return false
	}
}

func (j *job) waitOnce() (int, *session, error) {
	p, err := j.c.provider(context.Background())
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go func() {
		select {
		case <-j.gone:
		case <-ctx.Done():
			return
		}
		time.AfterFunc(lateAnswer, func() {
			cancel(plugin.Errorf(plugin.Broken, "", "provider %s does not tell how the job ended", j.c.cfg.Name))
		})
	}()
	e, err := p.Wait(ctx, j.handle)
	return e.Status(), p, err
}

// end gives up what a job needs that runs.
func (j *job) end() {
	j.c.close()
	_ = os.RemoveAll(filepath.Join(j.dir, resumedDir))
}

// Signal implements monitor.Job. The monitor does not wait for a plugin.
func (j *job) Signal(s syscall.Signal) error {
	select {
	case j.signals <- s:
	default: // 64 are waiting for a plugin that hangs
	}
	return nil
}

func (j *job) deliver() {
	for {
		select {
		case s := <-j.signals:
			if p, err := j.c.provider(context.Background()); err == nil {
				err = p.Signal(context.Background(), j.handle, s, false)
				j.c.broken(p, err)
			}
		case <-j.gone:
			return
		}
	}
}

// killTime is how long a provider, and then the processes, may take to end.
const killTime = 10 * time.Second

// Kill implements monitor.Job: by the provider, and without it if that does not
// work.
func (j *job) Kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	p, err := j.c.provider(ctx)
	if err == nil {
		if err = p.Signal(ctx, j.handle, unix.SIGKILL, true); err == nil || plugin.KindOf(err) == plugin.Ended {
			select {
			case <-j.gone:
				return nil
			case <-time.After(killTime):
			}
		}
	}
	j.c.broken(p, err)
	return j.killTree()
}

func (j *job) killTree() error {
	for end := time.Now().Add(killTime); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		pids, _ := freeze.Descendants(j.handle.Pid)
		for _, pid := range append(pids, j.handle.Pid) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		select {
		case <-j.gone:
			return nil
		default:
		}
	}
	return fmt.Errorf("kill the job: process %d does not end", j.handle.Pid)
}

// CPU implements monitor.Job.
func (j *job) CPU() time.Duration {
	var sum time.Duration
	j.each(func(pid int) {
		if st, err := procfs.ReadStat(pid, 0); err == nil {
			sum += st.CPU()
		}
	})
	return sum
}

// MemoryBytes implements monitor.Job.
func (j *job) MemoryBytes() int64 {
	var sum int64
	j.each(func(pid int) {
		if st, err := procfs.ReadStatus(pid, 0); err == nil {
			sum += int64(st.VmRSS + st.VmSwap)
		}
	})
	return sum
}

func (j *job) each(f func(pid int)) {
	pids, _ := freeze.Descendants(j.handle.Pid)
	for _, pid := range append(pids, j.handle.Pid) {
		f(pid)
	}
}

// Checkpoint implements monitor.Job.
func (j *job) Checkpoint(ctx context.Context, o engine.CheckpointOptions, progress func(engine.Progress)) (*monitor.Snapshot, error) {
	j.answers.Wait() // they are about the checkpoint before
	p, err := j.c.provider(ctx)
	if err != nil {
		return nil, monitorError(err)
	}
	// The store removes it if we do not.
	dir, err := os.MkdirTemp(j.dir, ".temp-provider-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the provider: %w", err)
	}
	defer os.RemoveAll(dir)
	i, err := p.Checkpoint(ctx, j.handle, plugin.CheckpointOptions{
		Dir: dir, Stop: o.Stop, Generation: uint64(o.Meta.GetGeneration()), Hold: o.HoldLimit, Options: j.c.cfg.Options,
	}, func(s plugin.Progress) { progress(engine.Progress(s)) })
	if err != nil {
		j.c.broken(p, err)
		return nil, monitorError(err)
	}
	bytes, err := j.pack(ctx, p, dir, o)
	if err != nil {
		if o.Stop {
			_ = j.finish(false)
		}
		return nil, err
	}
	return &monitor.Snapshot{Pause: i.Pause, Took: i.Took, Bytes: bytes, Notes: i.Notes, Finish: j.finish}, nil
}

// finish ends a standstill. A job that could not stand still has ended.
func (j *job) finish(end bool) error {
	p, err := j.c.provider(context.Background())
	if err == nil {
		err = p.Finish(context.Background(), j.handle, end)
	}
	if end && plugin.KindOf(err) == plugin.Ended {
		return nil
	}
	j.c.broken(p, err)
	return monitorError(err)
}
