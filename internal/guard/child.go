// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Child is a process of this very program that a hook starts as the user.
type Child struct {
	User  User
	Args  []string
	Env   []string // all that it has
	Limit time.Duration
	Turn  *Turn // kept until the child has ended; nil: it has none
}

const (
	// mostHeard is what a child can say; the rest is lost.
	mostHeard = 8 << 10
	// patience is what a killed child gets to be gone, and its own children to
	// let go of its output.
	patience = time.Second
)

// path is what a child finds programs in.
const path = "PATH=/usr/bin:/bin:/usr/sbin:/sbin"

// Run starts the child and waits for it, at most for its limit and a second.
// Root, or the user, may call it. What the child said is returned whatever
// became of it.
func (c Child) Run() (said string, err error) {
	out := head{most: mostHeard}
	err = c.run(&out, &out)
	return out.String(), err
}

// Ask is Run for a child whose standard output is an answer, of at most so many
// bytes; more is an error.
func (c Child) Ask(most int) (answer []byte, said string, err error) {
	out, errs := head{most: most + 1}, head{most: mostHeard}
	if err = c.run(&out, &errs); err == nil && len(out.String()) > most {
		err = fmt.Errorf("the answer has more than %d bytes", most)
	}
	return []byte(out.String()), errs.String(), err
}

func (c Child) run(stdout, stderr *head) error {
	cmd := exec.Command("/proc/self/exe", c.Args...)
	cmd.Dir, cmd.Env, cmd.WaitDelay = "/", append([]string{path}, c.Env...), patience
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// Whoever kills us ends the child as well. It is the end of the thread that
	// started it which counts (PR_SET_PDEATHSIG, prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if c.Turn != nil {
		cmd.ExtraFiles = []*os.File{c.Turn.file}
	}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = c.credential()
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start as user %d: %w", c.User.UID, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return because(err)
	case <-time.After(c.Limit):
	}
	kill(cmd.Process.Pid)
	select {
	case <-ended:
		return fmt.Errorf("gave up after %v", c.Limit)
	case <-time.After(patience):
		c.Turn.hangs(cmd.Process.Pid)
		return fmt.Errorf("gave up after %v, and process %d cannot be killed: it waits for a file system", c.Limit, cmd.Process.Pid)
	}
}

func (c Child) credential() *syscall.Credential {
	cred := &syscall.Credential{Uid: uint32(c.User.UID), Gid: uint32(c.User.GID)}
	for _, g := range c.User.groups() {
		cred.Groups = append(cred.Groups, uint32(g))
	}
	return cred
}

// kill ends the child and what it started, which is in its session's first group.
func kill(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// because leaves out an ending that the child's own output explains, and a
// grandchild that held on to the output.
func because(err error) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit) && exit.Exited():
		return &Status{exit.ExitCode()}
	}
	return err
}

// Status is the exit status of a child that did not end with 0.
type Status struct{ Code int }

func (s *Status) Error() string { return fmt.Sprintf("it ended with status %d", s.Code) }
