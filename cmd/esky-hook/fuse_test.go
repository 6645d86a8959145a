// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// hangingMount mounts a file system of the user's that takes requests and never
// answers one. What is returned tells how many it has taken. It speaks just enough
// of FUSE to be there: the header of a request is its length, its kind and its
// number, and that of an answer its length, an error and that number (fuse(4)).
func hangingMount(t *testing.T, path string, uid int) (asked func() int64) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("no FUSE here: %v", err)
	}
	dev := os.NewFile(uintptr(fd), "/dev/fuse")
	options := fmt.Sprintf("fd=%d,rootmode=40700,user_id=%d,group_id=%d", fd, uid, uid)
	if err := unix.Mount("esky-test", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		dev.Close()
		t.Skipf("no FUSE here: %v", err)
	}
	t.Cleanup(func() {
		_ = unix.Unmount(path, unix.MNT_DETACH) // it goes with its device
		dev.Close()                             // every request fails: ENOTCONN
	})
	var taken atomic.Int64
	go func() {
		request := make([]byte, 1<<17)
		for {
			n, err := unix.Read(fd, request)
			switch {
			case err == unix.EAGAIN:
				poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
				_, _ = unix.Poll(poll, 100)
			case err != nil:
				return // it was unmounted
			case n >= 40 && binary.LittleEndian.Uint32(request[4:]) == fuseInit:
				_, _ = unix.Write(fd, welcome(request[8:16]))
			default:
				taken.Add(1)
			}
		}
	}()
	return taken.Load
}

const fuseInit = 26

// welcome answers FUSE_INIT: protocol 7.31, and a size of writes.
func welcome(unique []byte) []byte {
	answer := make([]byte, 16+64)
	binary.LittleEndian.PutUint32(answer[0:], uint32(len(answer)))
	copy(answer[8:], unique)
	binary.LittleEndian.PutUint32(answer[16:], 7)
	binary.LittleEndian.PutUint32(answer[20:], 31)
	binary.LittleEndian.PutUint32(answer[16+20:], 4096)
	return answer
}
