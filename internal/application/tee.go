// SPDX-License-Identifier: Apache-2.0

package application

import (
	"bytes"
	"io"
	"os"
	"regexp"
	"sync"

	"github.com/esky-hpc/esky/internal/keeper"
)

// tee looks at the output of a program on its way. Without an expression the program
// has the job's own standard streams.
type tee struct {
	expr *regexp.Regexp
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen bool
}

func newTee(expr string) (*tee, error) {
	if expr == "" {
		return &tee{}, nil
	}
	e, err := regexp.Compile(expr)
	return &tee{expr: e}, err
}

// open returns the program's standard streams; done closes ours of them.
func (t *tee) open() (files []*os.File, done func(), err error) {
	files = keeper.Streams()
	if t.expr == nil {
		return files, func() {}, nil
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		outR.Close()
		outW.Close()
		return nil, nil, err
	}
	t.wg.Go(func() { t.pump(outR, os.Stdout) })
	t.wg.Go(func() { t.pump(errR, os.Stderr) })
	return []*os.File{os.Stdin, outW, errW}, func() { outW.Close(); errW.Close() }, nil
}

// longestLine is how much of a line is looked at.
const longestLine = 64 << 10

// pump passes on what the program writes. When nobody reads it any more the program
// is told so by its own SIGPIPE.
func (t *tee) pump(from, to *os.File) {
	defer from.Close()
	var line []byte
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if _, werr := to.Write(b[:n]); werr != nil {
			return
		}
		line = t.scan(append(line, b[:n]...))
		if err != nil {
			if err == io.EOF && len(line) > 0 {
				t.scan(append(line, '\n'))
			}
			return
		}
	}
}

// scan looks at whole lines and returns the rest.
func (t *tee) scan(b []byte) []byte {
	rest := b
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 && len(rest) < longestLine {
			break
		}
		if i < 0 {
			i = len(rest) - 1
		}
		if t.expr.Match(bytes.TrimSuffix(rest[:i+1], []byte("\n"))) {
			t.mu.Lock()
			t.seen = true
			t.mu.Unlock()
		}
		rest = rest[i+1:]
	}
	return append(b[:0], rest...)
}

// arm forgets what was seen.
func (t *tee) arm() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = false
}

// matched tells whether a line has matched since arm.
func (t *tee) matched() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.expr == nil || t.seen
}

// drain waits until all that the program has written is passed on.
func (t *tee) drain() { t.wg.Wait() }
