// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/internal/tracee"
	"github.com/esky-hpc/esky/shim"
)

// waiter makes the kernel count on to wanted numbers. The kernel gives numbers in
// turn, upwards from the last one, and begins again at 300 above pid_max
// (alloc_pid in kernel/pid.c). A helper, shim/src/spin.c, uses up as many as it is
// told; who else makes processes on the host at the moment may take the wanted one
// away, and then it is another turn.
type waiter struct {
	ctx      context.Context
	cmd      *exec.Cmd
	in, out  int
	deadline time.Time
}

// awaitLimit is how long all numbers of a job may take together. A turn of 32768
// takes a second or two, one of four million some minutes.
const awaitLimit = 60 * time.Second

const lastPidFile = "/proc/sys/kernel/ns_last_pid"

func readNumber(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

func newWaiter(ctx context.Context) (*waiter, error) {
	if err := hireThreads(); err != nil {
		return nil, err
	}
	w := &waiter{ctx: ctx, deadline: time.Now().Add(awaitLimit)}
	fd, err := unix.MemfdCreate("esky-spin", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make the helper that uses up numbers: %w", err)
	}
	program := os.NewFile(uintptr(fd), "esky-spin")
	defer program.Close()
	if _, err := program.Write(shim.Spin()); err != nil {
		return nil, fmt.Errorf("make the helper that uses up numbers: %w", err)
	}
	var in, out [2]int
	// Plain descriptors: what waits for the helper must wake at once.
	if err := errors.Join(unix.Pipe2(in[:], unix.O_CLOEXEC), unix.Pipe2(out[:], unix.O_CLOEXEC)); err != nil {
		return nil, fmt.Errorf("make the helper that uses up numbers: %w", err)
	}
	w.in, w.out = in[1], out[0]
	theirs := []*os.File{os.NewFile(uintptr(in[0]), "in"), os.NewFile(uintptr(out[1]), "out")}
	defer theirs[0].Close()
	defer theirs[1].Close()
	w.cmd = exec.Command("/proc/self/fd/" + strconv.Itoa(fd))
	w.cmd.Args[0], w.cmd.Env, w.cmd.Stdin, w.cmd.Stdout = "esky-spin", []string{}, theirs[0], theirs[1]
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the helper that uses up numbers: %w", err)
	}
	return w, nil
}

// hireThreads has the Go runtime make the threads that it may want later. One that it
// made while numbers are counted would have the wanted number, and keep it.
func hireThreads() error {
	const most = 16
	var gate [2]int
	if err := unix.Pipe2(gate[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make threads before numbers are counted: %w", err)
	}
	var here, gone sync.WaitGroup
	for range most {
		here.Add(1)
		gone.Go(func() {
			here.Done()
			_, _ = unix.Read(gate[0], make([]byte, 1)) // until it is closed, on a thread of its own
		})
	}
	here.Wait()
	err := unix.Close(gate[1])
	gone.Wait()
	return errors.Join(err, unix.Close(gate[0]))
}

// end ends the helper.
func (w *waiter) end() {
	_ = unix.Close(w.in)
	_ = unix.Close(w.out)
	_ = w.cmd.Wait()
}

// until makes a process or thread with the number id.
func (w *waiter) until(id int, make func() (int, error), undo func(host int) error) (int, error) {
	for {
		ready, err := w.countTo(id)
		if err != nil {
			return 0, err
		}
		if ready {
			got, err := make()
			if err != nil || got == id {
				return got, err
			}
			if err := undo(got); err != nil {
				return 0, err
			}
		}
		if err := w.ctx.Err(); err != nil {
			return 0, err
		}
		if time.Now().After(w.deadline) {
			return 0, w.tooLong(id)
		}
	}
}

// countTo returns when id is the next number, as far as one can know.
func (w *waiter) countTo(id int) (ready bool, err error) {
	if inUse(id) {
		time.Sleep(10 * time.Millisecond)
		return false, nil
	}
	before := id - 1 // the last that is free before it
	for inUse(before) {
		before--
	}
	now, err := readNumber(lastPidFile)
	if err == nil && before <= now && now < id {
		return true, nil
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(before))
	if _, err := unix.Write(w.in, b); err != nil {
		return false, fmt.Errorf("use up process numbers: %w", err)
	}
	if _, err := unix.Read(w.out, b); err != nil {
		return false, fmt.Errorf("use up process numbers: %w", err)
	}
	last := int(int32(binary.LittleEndian.Uint32(b)))
	if last < 0 {
		return false, fmt.Errorf("use up process numbers: %w", unix.Errno(-last))
	}
	return last == before, nil
}

// inUse says that a process or thread has the number, or a group or session. A
// process of another user answers EPERM.
func inUse(id int) bool { return unix.Kill(id, 0) != unix.ESRCH }

func (w *waiter) tooLong(id int) error {
	if st, err := procfs.ReadStat(id, 0); err == nil {
		return inUseBy(id, st.Comm)
	}
	return &NumbersError{fmt.Sprintf("process number %d has not come up within %s%s", id, awaitLimit, whyNumbers)}
}

func inUseBy(id int, comm string) error {
	return &NumbersError{fmt.Sprintf("process number %d is in use here, by %s%s", id, comm, whyNumbers)}
}

const whyNumbers = "; this host allows no namespaces, and the job has programs that must have their old numbers (static ones, " +
	"or written in Go)"

// NumbersError says that a job cannot live on this host without namespaces.
type NumbersError struct{ What string }

func (e *NumbersError) Error() string { return e.What }

// undoClone ends a process or thread that was made with a wrong number.
func undoClone(maker *task, host int, flags uint64) error {
	if flags&unix.CLONE_THREAD == 0 {
		if err := kill(host); err != nil {
			return err
		}
		if flags&unix.CLONE_PARENT != 0 {
			return nil // the init reaps it
		}
		s := maker.script()
		s.add("wait4", unix.SYS_WAIT4, uint64(host), 0, unix.WALL, 0)
		return s.do()
	}
	// A signal would end the whole process: the thread ends itself.
	if err := tracee.SetSigmask(host, allButTrap); err != nil {
		return err
	}
	b := &tracee.Batch{
		Tid: host, Pid: maker.pid, Base: maker.regs, Records: maker.stub + pageSize + leaderRoom,
		Calls: []*tracee.Call{tracee.Sys("exit", unix.SYS_EXIT, 0)},
	}
	if err := b.Start(maker.stub); err != nil {
		return err
	}
	for {
		s, err := tracee.Wait(host)
		if err != nil || s.Ended() {
			return nil
		}
		if err := tracee.Cont(host, 0); err != nil {
			return err
		}
	}
}
