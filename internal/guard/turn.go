// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// turnDir has a file for each user, which root alone can open.
const turnDir = "/run/esky-hook"

// turnStep is the time between two looks at whether it is our turn.
const turnStep = 100 * time.Millisecond

// Turn lets the children of one user that touch that user's file systems go one by
// one. One that hangs in a dead file system cannot be killed, and keeps its turn
// for as long: the next is not even started, so that they do not pile up on the
// host. A user who keeps it on purpose is harmed alone.
type Turn struct{ file *os.File }

// TakeTurn waits for the turn of that user's child, at most so long, and not at all
// behind one that hangs.
func TakeTurn(user User, limit time.Duration) (*Turn, error) {
	if err := os.MkdirAll(turnDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(turnDir, strconv.Itoa(user.UID))
	// The child has this very descriptor, so it is not for writing.
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(limit); ; time.Sleep(turnStep) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = os.Truncate(path, 0)
		}
		if err == nil {
			return &Turn{f}, nil
		}
		// With something in it, it is held by one that hangs.
		st, statErr := f.Stat()
		if errors.Is(err, unix.EWOULDBLOCK) && statErr == nil && st.Size() == 0 && time.Now().Before(end) {
			continue
		}
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("an earlier one for user %d has not ended", user.UID)
		}
		return nil, err
	}
}

// hangs notes that the child with the turn cannot be killed. Where that cannot be
// noted, the next one waits for its turn.
func (t *Turn) hangs(pid int) {
	if t != nil {
		_ = os.WriteFile(t.file.Name(), []byte(strconv.Itoa(pid)), 0o600)
	}
}

// Close ends the turn, unless the child still lives.
func (t *Turn) Close() error { return t.file.Close() }
