// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/dump"
	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/procfs"
)

// Stranger is a process that runs without us, and that may be adopted with all
// that belongs to it.
type Stranger struct {
	Pid     int
	Comm    string
	Command []string
	Dir     string
	Origin  *imagepb.Origin // which process of the world it is

	tree freeze.Tree
}

// NoProcessError says that there is no process to adopt.
type NoProcessError struct {
	Pid int
	Why string
}

func (e *NoProcessError) Error() string { return fmt.Sprintf("no process %d: %s", e.Pid, e.Why) }

// Find looks a process of this host up. From then on it is known by its start
// time too: another that gets its pid later is not taken for it.
func Find(pid int) (*Stranger, error) {
	stat, err := procfs.ReadStat(pid, 0)
	if procfs.Gone(err) || errors.Is(err, fs.ErrNotExist) {
		return nil, &NoProcessError{pid, "there is none with this number"}
	}
	if err != nil {
		return nil, err
	}
	status, err := procfs.ReadStatus(pid, 0)
	switch {
	case err != nil:
		return nil, &NoProcessError{pid, "it has just ended"}
	case status.Tgid != pid:
		return nil, &NoProcessError{pid, fmt.Sprintf("it is a thread of process %d", status.Tgid)}
	case procfs.Eye(pid) == 0:
		return nil, &NoProcessError{pid, "it has ended, and its parent has yet to notice"}
	}
	dir, _ := procfs.Link(pid, "cwd") // of another user's process: refused later
	s := &Stranger{
		Pid: pid, Comm: stat.Comm, Command: dump.Argv(pid), Dir: dir,
		Origin: &imagepb.Origin{Pid: int32(pid), Start: stat.Starttime, BootId: bootID(), PidNamespace: pidNamespace()},
		tree:   freeze.Tree{Root: pid, Start: stat.Starttime},
	}
	if len(s.Command) == 0 {
		s.Command = []string{stat.Comm}
	}
	return s, nil
}

// Lives says that the process from which an adopted job's image was made still
// is on this host.
func Lives(o *imagepb.Origin) bool {
	if o == nil || o.BootId != bootID() || o.PidNamespace != pidNamespace() {
		return false
	}
	stat, err := procfs.ReadStat(int(o.Pid), 0)
	return err == nil && stat.Starttime == o.Start && procfs.Eye(int(o.Pid)) != 0
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// pidNamespace names the namespace in which pids are counted (pid_namespaces(7)).
func pidNamespace() string {
	link, _ := os.Readlink("/proc/self/ns/pid")
	return link
}

// AdoptOptions describes one checkpoint of a job that is not ours.
type AdoptOptions struct {
	Stranger *Stranger
	Dir      string // empty private directory for the generation
	Codec    image.Codec
	Stop     bool           // leave it frozen until Finish
	Cut      bool           // what leads outside comes back with nobody at the other end
	Meta     *imagepb.Image // job, generation and attempt are the caller's
	MemoPath string         // a file for what the next adoption of the same process has to know
}

// Adopt writes an image of a process that was not started by us, and of all that
// belongs to it. With Stop it stands still until Finish. After an error it runs
// on, unless the error is a *TracerError.
func Adopt(ctx context.Context, o AdoptOptions, progress func(Progress)) (*Checkpoint, error) {
	o.Meta.Command, o.Meta.Cwd, o.Meta.Origin = o.Stranger.Command, o.Stranger.Dir, o.Stranger.Origin
	meta, err := proto.Marshal(o.Meta)
	if err != nil {
		return nil, fmt.Errorf("describe the job: %w", err)
	}
	c, result, err := save(ctx, dumpRequest{
		Tree: o.Stranger.tree, Main: o.Stranger.Pid, Dir: o.Dir, Codec: o.Codec, Stop: o.Stop, Cut: o.Cut, Meta: meta, HoldLimit: defaultHold,
		Known: o.known(),
	}, progress)
	switch {
	case errors.As(err, new(*JobEndedError)):
		return nil, &NoProcessError{o.Stranger.Pid, "it has just ended"}
	case err != nil:
		return nil, err
	}
	o.remember(result.Sleepers)
	return c, nil
}

// adoptMemo is what the threads of an adopted job were waiting in when they were
// let go: the next stop would not show it (freeze.Sleeper).
type adoptMemo struct {
	Pid   int
	Start uint64
	Boot  string
	Known []freeze.Sleeper
}

func (o *AdoptOptions) known() []freeze.Sleeper {
	b, err := os.ReadFile(o.MemoPath)
	if err != nil {
		return nil // the first time
	}
	var m adoptMemo
	s := o.Stranger
	if json.Unmarshal(b, &m) != nil || m.Pid != s.Pid || m.Start != s.tree.Start || m.Boot != s.Origin.BootId {
		return nil
	}
	return m.Known
}

// remember writes the memo. Without it a wait may last too long, which is no
// reason to fail.
func (o *AdoptOptions) remember(known []freeze.Sleeper) {
	s := o.Stranger
	if b, err := json.Marshal(adoptMemo{s.Pid, s.tree.Start, s.Origin.BootId, known}); err == nil {
		_ = os.WriteFile(o.MemoPath, b, 0o600)
	}
}
