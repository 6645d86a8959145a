// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Descriptor is the stream that is descriptor fd of the provider's process.
func Descriptor(fd int) Stream { return Stream("fd:" + strconv.Itoa(fd)) }

// OpenStream opens a stream for a child to inherit: for reading, or for writing at
// its end.
func OpenStream(s Stream, write bool) (*os.File, error) {
	if text, ok := strings.CutPrefix(string(s), "fd:"); ok {
		return duplicate(text)
	}
	if s == "" {
		s = os.DevNull
	}
	if write {
		return os.OpenFile(string(s), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	}
	return os.Open(string(s))
}

func duplicate(text string) (*os.File, error) {
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 0 {
		return nil, Errorf(Usage, "", "fd:%s names no descriptor", text)
	}
	syscall.ForkLock.RLock() // no child may inherit it before it is close-on-exec
	defer syscall.ForkLock.RUnlock()
	n, err := syscall.Dup(fd)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor %d: %w", fd, err)
	}
	syscall.CloseOnExec(n)
	return os.NewFile(uintptr(n), "fd:"+text), nil
}

// Open opens the three streams.
func (s Streams) Open() (files [3]*os.File, err error) {
	for i, one := range []Stream{s.Stdin, s.Stdout, s.Stderr} {
		if files[i], err = OpenStream(one, i > 0); err != nil {
			CloseAll(files[:]...)
			return files, err
		}
	}
	return files, nil
}

// CloseAll closes those files that are open.
func CloseAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
