// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/esky-hpc/esky/internal/store"
	"golang.org/x/sys/unix"
)

// longestSocket is what fits into sockaddr_un.sun_path with its final zero
// (unix(7)).
const longestSocket = 107

// rendezvous is where the commands of a user find the monitor of a job on this
// host. It is node-local on purpose: sockets do not work across hosts, and on
// shared file systems often not at all.
type rendezvous struct{ socket, lock string }

// note is the file that tells of a job's near place, as long as not all of it is
// in the store.
func (r rendezvous) note() string { return strings.TrimSuffix(r.lock, ".lock") + store.NoteSuffix }

// meet returns the place for a job. The directory is made if it is not there,
// and must be ours alone: anybody can make names in /tmp.
func meet(storeDir, job string) (rendezvous, error) {
	dir, err := runtimeDir()
	if err != nil {
		return rendezvous{}, err
	}
	sum := sha256.Sum256([]byte(storeDir + "\x00" + job))
	name := filepath.Join(dir, hex.EncodeToString(sum[:10]))
	r := rendezvous{socket: name + ".sock", lock: name + ".lock"}
	if len(r.socket) > longestSocket {
		return r, Fail(ExitUsage, "", "ESKY_RUNTIME_DIR %s is too long for a socket: %d bytes, %d fit", dir, len(r.socket), longestSocket)
	}
	return r, nil
}

func runtimeDir() (string, error) {
	dir := os.Getenv("ESKY_RUNTIME_DIR")
	if dir == "" {
		dir = "/tmp/esky-" + strconv.Itoa(os.Getuid())
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("make the directory of control sockets: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return "", Fail(ExitCannot, "remove it, or set ESKY_RUNTIME_DIR", "%s is not a directory", dir)
	case int(st.Uid) != os.Getuid():
		return "", Fail(ExitCannot, "set ESKY_RUNTIME_DIR to a directory of yours", "%s belongs to uid %d", dir, st.Uid)
	case st.Mode&0o077 != 0:
		return "", Fail(ExitCannot, "chmod 700 it, or set ESKY_RUNTIME_DIR", "%s is open to others (mode %04o)", dir, st.Mode&0o7777)
	}
	return dir, nil
}

// claim takes the lock that every living monitor of the job on this host holds.
// Unlike the lock of the store it is not inherited by the job, so it tells a
// dead monitor from a living one.
func (r rendezvous) claim() (*os.File, error) {
	f, err := os.OpenFile(r.lock, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the monitor's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", r.lock, err)
	}
	return f, nil
}
