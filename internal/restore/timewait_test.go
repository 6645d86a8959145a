// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/socket"
)

// TestInUse closes a connection from the side whose port is then asked for.
func TestInUse(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	name := socket.Sockaddr(netip.MustParseAddrPort(c.LocalAddr().String()), unix.AF_INET)
	if !portInUse(socket.TCPTable(), name) {
		t.Error("a connection is not in use")
	}
	c.Close()
	far.Close()
	for end := time.Now().Add(10 * time.Second); portInUse(socket.TCPTable(), name); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what is left of a connection is in use")
		}
	}
	tries := 0
	err = awaitPort(name, func() error {
		if tries++; tries == 1 {
			return unix.EADDRINUSE
		}
		return nil
	})
	if err != nil || tries != 2 {
		t.Errorf("%v after %d tries", err, tries)
	}
	taken := socket.Sockaddr(netip.MustParseAddrPort(l.Addr().String()), unix.AF_INET)
	if err := awaitPort(taken, func() error { return unix.EADDRINUSE }); err == nil {
		t.Error("the port of a listener is free")
	}
}
