// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

const root = "/proc/"

// bufSize is enough for every line that the kernel can write: a path of
// PATH_MAX bytes with each of them escaped to four.
const bufSize = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufSize); return &b }}

// Gone reports whether err means that the process or thread does not exist any
// more. The kernel says ENOENT on opening the file and ESRCH on reading from a
// file that was opened before the end.
func Gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH)
}

// rawFile is an open file without the runtime's poller, which /proc cannot use.
type rawFile int

func openRaw(path string) (rawFile, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open %s: %w", path, err)
		}
		return rawFile(fd), nil
	}
}

func (f rawFile) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(int(f), b)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (f rawFile) Close() error { return unix.Close(int(f)) }

// parseFile opens path and gives it to parse; errors name the file.
func parseFile[T any](path string, parse func(io.Reader) (T, error)) (T, error) {
	var none T
	f, err := openRaw(path)
	if err != nil {
		return none, err
	}
	defer f.Close()
	v, err := parse(f)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", path, err)
	}
	return v, nil
}

// taskPath names a file of the process (tid 0) or of one of its threads.
func taskPath(pid, tid int, name string) string {
	if tid == 0 {
		return root + strconv.Itoa(pid) + "/" + name
	}
	return root + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/" + name
}

// ReadAuxv gives the auxiliary vector of a process as the kernel keeps it.
func ReadAuxv(pid int) ([]byte, error) {
	return parseFile(taskPath(pid, 0, "auxv"), io.ReadAll)
}
