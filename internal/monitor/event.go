// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"time"

	"github.com/esky-hpc/esky/internal/engine"
)

// Level is how much a user wants to hear of an event.
type Level int

// Levels. Quiet users see warnings and errors only.
const (
	Note Level = iota
	Warning
	Failure
)

// Event is one thing that happened, for people (Text) and for programs.
type Event struct {
	Level      Level         `json:"-"`
	Event      string        `json:"event"`
	Job        string        `json:"job,omitempty"`
	Text       string        `json:"message"`
	Generation uint32        `json:"generation,omitempty"`
	Bytes      int64         `json:"bytes,omitempty"`
	Pause      time.Duration `json:"pause_ns,omitempty"`
	Took       time.Duration `json:"took_ns,omitempty"`
	Status     *int          `json:"status,omitempty"`
}

// Reporter is where events go: package cli prints them.
type Reporter interface {
	Report(Event)
	// Progress announces long work; update may be called from any goroutine,
	// done when the work is over.
	Progress(what string) (update func(engine.Progress), done func())
}
