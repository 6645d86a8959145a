// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"fmt"
	"time"
)

// Outlook is what happens to a job in its batch system, in plain words: one
// sentence each, without a full stop. Warnings of the Job are not repeated.
type Outlook struct {
	Warned string   `json:"warned"`          // who gets which signal, and when
	Back   string   `json:"comes_back"`      // who starts it again once it is saved, or why nobody does
	Output string   `json:"output"`          // what becomes of what was written before that
	User   []string `json:"user,omitempty"`  // what the user can mend
	Admin  []string `json:"admin,omitempty"` // what only the site can
}

// A Forecaster is an adapter that can tell that. All but Plain are.
type Forecaster interface {
	Adapter
	Forecast(Facts, Job) Outlook
}

// Later is the time between a warning and the kill, as part of a sentence.
func (j Job) Later() string {
	if j.Grace <= 0 {
		return "at once, as far as is known"
	}
	return fmt.Sprintf("%v later", j.Grace.Round(time.Second))
}

// By is who brings a job back, if somebody does.
func (j Job) By(who string) string {
	if j.NoReturn != "" {
		return "nobody brings it back: " + j.NoReturn
	}
	return who
}

// Appended is the fate of an output that the batch system itself appends to; the
// script may have sent it elsewhere.
func (f Facts) Appended(system string) string {
	if f.Stdout.Regular && !f.Stdout.Append {
		return f.Stdout.Path + " is emptied when the job comes back: redirect by >> in the script"
	}
	return system
}

// Every is advice for jobs that are killed without a warning.
const Every = "let the job save itself now and then, against what nobody announces: --every auto"
