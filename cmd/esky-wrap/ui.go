// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"

	"github.com/esky-hpc/esky/internal/monitor"
)

// The rules of what a user sees:
//
// Answers go to standard output and nothing else does: under `run` it belongs
// to the job. Everything else goes to standard error, a line each, with
// "esky-wrap: " in front, in lower case, without a full stop: what happened, to
// what, and after a semicolon what to do. With --json a line is an object.

// ui prints. It may be used by several goroutines.
type ui struct {
	mu    sync.Mutex
	out   io.Writer
	err   io.Writer
	json  bool
	quiet bool // errors and warnings only
	tty   bool // standard error is a terminal
}

func newUI(asJSON, quiet bool) *ui {
	return &ui{out: os.Stdout, err: os.Stderr, json: asJSON, quiet: quiet, tty: term.IsTerminal(2)}
}

// Report implements monitor.Reporter.
func (u *ui) Report(e monitor.Event) {
	if u.quiet && e.Level == monitor.Note {
		return
	}
	if u.json {
		u.object(e)
		return
	}
	u.line(e.Text)
}

// fail reports an error: one sentence, with what to do.
func (u *ui) fail(err error) {
	hint := monitor.Hint(err)
	if u.json {
		u.object(struct {
			Event   string `json:"event"`
			Message string `json:"message"`
			Hint    string `json:"hint,omitempty"`
			Code    int    `json:"code"`
		}{"error", err.Error(), hint, monitor.Code(err)})
		return
	}
	text := err.Error()
	if hint != "" {
		text += "; " + hint
	}
	u.line(text)
}

func (u *ui) line(text string) { u.write("esky-wrap: " + printable(text) + "\n") }

func (u *ui) object(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte(`{"event":"error","message":"an event cannot be shown","code":70}`)
	}
	u.write(string(b) + "\n")
}

// write is one system call a line, so that lines of the job and ours do not mix.
func (u *ui) write(s string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, _ = io.WriteString(u.err, s) // nobody is left to tell
}

// answer prints a value for programs, or calls text for people.
func (u *ui) answer(v any, text func(w io.Writer) error) error {
	if !u.json {
		return text(u.out)
	}
	e := json.NewEncoder(u.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printable keeps what a file is called from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
}
