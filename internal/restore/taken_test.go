// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/socket"
)

func TestTakenNames(t *testing.T) {
	dir := t.TempDir()
	abstract := append(unixName("")[:2], "\x00esky-test-"+filepath.Base(dir)+dir+strings.Repeat("x", 60)...)[:60]
	bound := func(name []byte, kind int) int {
		fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := socket.Bind(fd, name); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	unix.Close(bound(unixName(path("stale")), unix.SOCK_STREAM))
	defer unix.Close(bound(unixName(path("alive")), unix.SOCK_STREAM))
	defer unix.Close(bound(unixName(path("mail")), unix.SOCK_DGRAM))
	defer unix.Close(bound(abstract, unix.SOCK_STREAM))
	if err := os.WriteFile(path("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		s    *imagepb.Socket
		want string
	}{
		"new":       {&imagepb.Socket{Type: unix.SOCK_STREAM, Path: path("new")}, ""},
		"stale":     {&imagepb.Socket{Type: unix.SOCK_STREAM, Path: path("stale")}, ""},
		"alive":     {&imagepb.Socket{Type: unix.SOCK_STREAM, Path: path("alive")}, "in use"},
		"datagrams": {&imagepb.Socket{Type: unix.SOCK_DGRAM, Path: path("mail")}, "in use"},
		"a file":    {&imagepb.Socket{Type: unix.SOCK_STREAM, Path: path("file")}, "another file"},
		"nowhere":   {&imagepb.Socket{Type: unix.SOCK_STREAM, Path: path("no/where")}, "make the directory"},
		"abstract":  {&imagepb.Socket{Domain: unix.AF_UNIX, Type: unix.SOCK_STREAM, Name: abstract}, "in use"},
		"free":      {&imagepb.Socket{Domain: unix.AF_UNIX, Type: unix.SOCK_STREAM, Name: append(abstract, 'x')}, ""},
		"a pair":    {&imagepb.Socket{Domain: unix.AF_UNIX, Type: unix.SOCK_STREAM}, ""},
	} {
		if got := checkUnixName(c.s); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
