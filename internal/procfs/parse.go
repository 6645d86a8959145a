// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

var errNumber = errors.New("not a number")

// eachLine calls f for every line, without its newline. The line is valid only
// during the call.
func eachLine(r io.Reader, f func(line []byte) error) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	s := bufio.NewScanner(r)
	s.Buffer(*buf, 16*bufSize)
	s.Split(splitLine)
	n := 0
	for s.Scan() {
		n++
		if err := f(s.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("after line %d: %w", n, err)
	}
	return nil
}

// splitLine is bufio.ScanLines, but a last line without a newline is an error:
// the kernel ends each one.
func splitLine(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, fmt.Errorf("line is cut off: %w", io.ErrUnexpectedEOF)
	}
	return 0, nil, nil
}

// readSmall reads a file that is one record, such as stat.
func readSmall(r io.Reader, f func([]byte) error) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n := 0
	for n < len(*buf) {
		m, err := r.Read((*buf)[n:])
		n += m
		if err == io.EOF {
			return f((*buf)[:n])
		}
		if err != nil {
			return err
		}
	}
	return bufio.ErrTooLong
}

// cut takes the next word of blank-separated ones; words are separated by any
// number of spaces and tabs.
func cut(b []byte) (word, rest []byte) {
	b = trimLeft(b)
	for i, c := range b {
		if c == ' ' || c == '\t' {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

func trim(b []byte) []byte {
	b = trimLeft(b)
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func digit(c byte) uint64 {
	switch {
	case c >= '0' && c <= '9':
		return uint64(c - '0')
	case c >= 'a' && c <= 'f':
		return uint64(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return uint64(c-'A') + 10
	}
	return math.MaxUint64
}

// parseUint is strconv.ParseUint for bytes: no allocation, no sign, no prefix.
func parseUint(b []byte, base uint64) (uint64, error) {
	if len(b) == 0 {
		return 0, fmt.Errorf("%w: empty", errNumber)
	}
	var v uint64
	for _, c := range b {
		d := digit(c)
		if d >= base || v > (math.MaxUint64-d)/base {
			return 0, fmt.Errorf("%w: %q", errNumber, b)
		}
		v = v*base + d
	}
	return v, nil
}

func parseInt(b []byte) (int64, error) {
	neg := len(b) > 0 && b[0] == '-'
	digits := b
	if neg {
		digits = b[1:]
	}
	v, err := parseUint(digits, 10)
	switch {
	case err != nil:
		return 0, err
	case neg && v <= 1<<63:
		return -int64(v), nil
	case !neg && v <= math.MaxInt64:
		return int64(v), nil
	}
	return 0, fmt.Errorf("%w: %q", errNumber, b)
}

// fields reads numbers one after the other and keeps the first error, so that
// a record of fifty of them reads as a list.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) word() []byte {
	var w []byte
	w, f.rest = cut(f.rest)
	return w
}

func (f *fields) uint(base uint64) uint64 {
	v, err := parseUint(f.word(), base)
	f.note(err)
	return v
}

func (f *fields) int() int64 {
	v, err := parseInt(f.word())
	f.note(err)
	return v
}

func (f *fields) int32() int {
	v := f.int()
	if v != int64(int32(v)) {
		f.note(fmt.Errorf("%w of 32 bits: %d", errNumber, v))
	}
	return int(v)
}

func (f *fields) note(err error) {
	if f.err == nil {
		f.err = err
	}
}
