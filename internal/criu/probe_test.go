// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/rpc"

	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// standIn is a criu as go-criu calls it: it takes one request, writes to the log the
// lines of the file beside it, and fails.
func standIn(text string) {
	fd, _ := strconv.Atoi(text)
	conn, err := net.FileConn(os.NewFile(uintptr(fd), "socket"))
	if err != nil {
		panic(err)
	}
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	var r rpc.CriuReq
	if err == nil {
		err = r.UnmarshalVT(b[:n])
	}
	if err != nil {
		panic(err)
	}
	says, err := os.ReadFile(os.Args[0] + ".says")
	if err != nil {
		panic(err)
	}
	log := fmt.Sprintf("/proc/%d/fd/%d/%s", os.Getppid(), r.Opts.GetWorkDirFd(), r.Opts.GetLogFile())
	if err := os.WriteFile(log, says, 0o600); err != nil {
		panic(err)
	}
	answer, err := (&rpc.CriuResp{Type: r.Type, Success: new(false)}).MarshalVT()
	if err == nil {
		_, err = conn.Write(answer)
	}
	if err != nil {
		panic(err)
	}
}

// place puts a stand-in where criu is looked for.
func place(t *testing.T, says string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "criu")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock() // no child may have it open to write when it is executed
	err = os.WriteFile(path, self, 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".says", []byte(says), 0o600); err != nil {
		t.Fatal(err)
	}
	old := places
	places = []string{path}
	t.Cleanup(func() { places = old })
}

func probe(t *testing.T, words ...string) {
	t.Helper()
	r, err := New("test").Probe(t.Context(), plugin.ProbeOptions{})
	if err != nil || r.Usable || len(r.Findings) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, w := range words {
		if f := r.Findings[0]; !strings.Contains(f.Text+"; "+f.Remedy, w) {
			t.Errorf("%+v does not say %q", f, w)
		}
	}
}

// TestMissing: which package to install.
func TestMissing(t *testing.T) {
	old := places
	places = []string{"/no/such/criu"}
	defer func() { places = old }()
	probe(t, "the program criu is not here", "install the package criu")
}

// TestBroken: a criu that cannot work on this kernel is found out by using it, and says
// why in its own words.
func TestBroken(t *testing.T) {
	mayAll(t)
	place(t, "(00.1) Error (criu/util.c:642): exited, status=1\n(00.2) Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n(00.3) Error (criu/crtools.c:260): Could not initialize kernel features detection.\n")
	probe(t, "cannot save even a small process on "+kernel(), "vdso: Unexpected rt vDSO area bounds", "provider native")
}

// mayAll skips a test where criu may do nothing.
func mayAll(t *testing.T) {
	t.Helper()
	if err := privileged("/proc/self/exe"); err != nil {
		t.Skip(err)
	}
}

const probeVariable = "ESKY_TEST_PROBE"

func printProbe() {
	fmt.Println(privileged(os.Args[0]))
}

// TestUnprivileged: an ordinary user is told which capability is missing, before
// anything is tried.
func TestUnprivileged(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), probeVariable+"=1")
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CAP_CHECKPOINT_RESTORE (or CAP_SYS_ADMIN) is missing") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestReason: what criu says becomes an error of the right kind.
func TestReason(t *testing.T) {
	dir := t.TempDir()
	number := strconv.Itoa(os.Getpid())
	stat, err := procfs.ReadStat(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]*plugin.Error{
		"Error (criu/cr-restore.c:1230): Can't fork for " + number + ": File exists":                            {Kind: plugin.Busy, Text: "process number " + number + " of the job is taken by " + stat.Comm},
		"Error (criu/files-reg.c:1999): File tmp/out has bad size 337 (expect 151)":                             {Kind: plugin.Changed, Text: "criu: File tmp/out has bad size 337 (expect 151)"},
		"Error (criu/files-reg.c:2046): Can't open file tmp/x on restore: No such file or directory":            {Kind: plugin.Changed, Text: "criu: Can't open file tmp/x on restore: No such file or directory"},
		"Error (criu/sk-unix.c:1): External socket is used. Consider using --ext-unix-sk option.\nError (x): y": {Kind: plugin.Refused, Text: "criu: External socket is used. Consider using --ext-unix-sk option."},
		"Warn  (criu/x.c:1): nothing": {Kind: plugin.Internal, Text: "as go-criu has it"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "log"), []byte("(00.1) "+line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := tool{Work: dir}.reason("log", fmt.Errorf("as go-criu has it"))
		if plugin.KindOf(err) != want.Kind || err.Error() != want.Text {
			t.Errorf("%q: %v (%s)", line, err, plugin.KindOf(err))
		}
	}
}

// TestCutBack: files that have grown are cut back, and nothing is touched where one
// cannot be put right.
func TestCutBack(t *testing.T) {
	dir := t.TempDir()
	grown, short := filepath.Join(dir, "grown"), filepath.Join(dir, "short")
	for path, text := range map[string]string{grown: "0123456789", short: "01"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	size := func() int64 {
		fi, err := os.Stat(grown)
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	s := state{Files: []openFile{{grown, 4}, {short, 3}}}
	if _, err := s.cutBack("rollback"); plugin.KindOf(err) != plugin.Changed || !strings.Contains(err.Error(), "shorter") || size() != 10 {
		t.Errorf("%v, %d bytes", err, size())
	}
	s.Files[1] = openFile{filepath.Join(dir, "gone"), 3}
	if _, err := s.cutBack("rollback"); plugin.KindOf(err) != plugin.Changed || size() != 10 {
		t.Errorf("%v, %d bytes", err, size())
	}
	s.Files = s.Files[:1]
	for _, files := range []string{"accept", "strict"} {
		if _, err := s.cutBack(files); plugin.KindOf(err) != plugin.Changed || size() != 10 {
			t.Errorf("%s: %v, %d bytes", files, err, size())
		}
	}
	if notes, err := s.cutBack("rollback"); err != nil || len(notes) != 1 || size() != 4 {
		t.Errorf("%v, %v, %d bytes", notes, err, size())
	}
}
