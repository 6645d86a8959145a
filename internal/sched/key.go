// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strconv"
	"strings"
)

// mostCommands bounds the search of Pick: a script that runs the same command
// line more often than this in one attempt needs --name.
const mostCommands = 100000

// Pick chooses the key of this command among those of the same job. A script
// may run one command line several times (a loop); its second run must not find
// the first one's result. started tells in which attempt of the job a key was
// last started (ok is false if never); the n-th run of a command line gets the
// n-th key that this attempt has not started yet, so a requeued script that
// runs from its top meets the same keys in the same order.
//
// Without a scheduler there are no attempts to tell apart and Pick returns Key.
func (j Job) Pick(started func(key string) (attempt int, ok bool)) string {
	if j.Sole || j.ID == "" {
		return j.Key
	}
	key := j.Key
	for n := 2; n < mostCommands; n++ {
		if attempt, ok := started(key); !ok || attempt != j.Attempt {
			return key
		}
		key = j.Key + "." + strconv.Itoa(n)
	}
	return key
}

// CommandKey is a name for a command line in a directory: readable, and
// different for different ones.
func CommandKey(command []string, dir string) string {
	name := "job"
	if len(command) > 0 {
		name = safe(filepath.Base(command[0]))
	}
	return name + "-" + CommandHash(command, dir)
}

// CommandHash tells command lines in directories apart: ten hex digits.
func CommandHash(command []string, dir string) string {
	h := sha256.New()
	for _, s := range append([]string{dir}, command...) {
		h.Write([]byte(s))
		h.Write([]byte{0}) // neither a path nor an argument contains it
	}
	return hex.EncodeToString(h.Sum(nil))[:10]
}

// safe keeps the characters that a job key may have.
func safe(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, s)
	s = strings.TrimLeft(s, ".")
	if len(s) > 40 {
		s = s[:40]
	}
	if s == "" {
		return "job"
	}
	return s
}
