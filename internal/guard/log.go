// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"log/syslog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Log writes a line to the system's log, which journald and syslog daemons both
// take from /dev/log, and to stderr for whoever tries a hook by hand. A log
// daemon that hangs holds nobody up.
func Log(program, text string) {
	line := Printable(text)
	fmt.Fprintf(os.Stderr, "%s: %s\n", program, line)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, program)
		if err != nil {
			return // no log daemon on this host; stderr has it
		}
		defer w.Close()
		_ = w.Warning(line) // nowhere left to complain to
	}()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

// mostLogged is how long a line in the log can get.
const mostLogged = 1000

// Printable is one line of text in which nothing can pass for another line, or
// move a terminal's cursor.
func Printable(text string) string {
	text = strings.TrimSpace(text)
	if len(text) > mostLogged {
		text = text[:mostLogged] + " …"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n':
			return ';'
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}

// head keeps the first bytes that are written to it. It is read while
// a child that was left behind may still write.
type head struct {
	most int
	mu   sync.Mutex
	text []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), h.most-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.text)
}
