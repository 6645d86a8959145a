// SPDX-License-Identifier: Apache-2.0

package sched

import (
	"slices"
	"strings"
)

// Script is a job script as it lies on the disk, before it is submitted.
type Script struct {
	Options []string // of the directives, "--name=value" as two words
	Late    []string // the last of them, which stand below the first command
	Lines   []string // what a shell would run, without comments; those that go on are one
}

// A ScriptReader is an adapter that can say from a job script what would happen.
type ScriptReader interface {
	Adapter
	// Directive begins the lines of a script that are for the scheduler: "#SBATCH".
	// Where it can be written in several ways, "|" is between them.
	Directive() string
	// Read tells what the user should know or mend, one sentence each.
	Read(Script) []string
}

// A FileReader is an adapter whose jobs are described by files that are no scripts.
type FileReader interface {
	Adapter
	// ReadFile is Read for such a file; ok tells whether it is one.
	ReadFile(text string) (told []string, ok bool)
}

// A Wrapper is one whose site can run whole scripts under esky.
type Wrapper interface {
	// Wraps tells whether the script asks for that.
	Wraps(Script) bool
}

// ReadScript finds the scheduler that a script is for, by its directives, and
// tells what would happen. Without directives the adapter is nil.
func ReadScript(text string) (Adapter, []string) {
	registry.Lock()
	adapters := slices.Clone(registry.adapters)
	registry.Unlock()
	var reader ScriptReader
	var s Script
	for _, a := range adapters {
		if r, ok := a.(FileReader); ok {
			if told, ok := r.ReadFile(text); ok {
				return a, told
			}
		}
		r, ok := a.(ScriptReader)
		if !ok {
			continue
		}
		if found := parseScript(text, r.Directive()); len(found.Options) > len(s.Options) {
			reader, s = r, found
		}
	}
	if reader == nil {
		return nil, parseScript(text, "").command()
	}
	if w, ok := reader.(Wrapper); ok && w.Wraps(s) {
		return reader, reader.Read(s)
	}
	return reader, append(s.command(), reader.Read(s)...)
}

func parseScript(text, directive string) Script {
	var s Script
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		line = strings.TrimSpace(line)
		rest, is := cutDirective(line, directive)
		switch {
		case is:
			s.Options = append(s.Options, options(rest)...)
			if len(s.Lines) > 0 {
				s.Late = append(s.Late, options(rest)...)
			}
		case line != "" && line[0] != '#':
			s.Lines = append(s.Lines, line)
		}
	}
	return s
}

func cutDirective(line, directive string) (rest string, is bool) {
	for d := range strings.SplitSeq(directive, "|") {
		rest, is := strings.CutPrefix(line, d)
		if d != "" && is && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
			return rest, true
		}
	}
	return "", false
}

// options are the words of a directive, up to a comment.
func options(line string) []string {
	var all []string
	for _, word := range strings.Fields(line) {
		if word[0] == '#' {
			break
		}
		name, value, ok := strings.Cut(word, "=")
		if !ok || !strings.HasPrefix(word, "--") {
			all = append(all, strings.Trim(word, `"'`))
			continue
		}
		all = append(all, name, strings.Trim(value, `"'`))
	}
	return all
}

// Has tells whether one of the options is there.
func (s Script) Has(names ...string) bool {
	return slices.ContainsFunc(s.Options, func(o string) bool { return slices.Contains(names, o) })
}

// Value is that of the last of the options that is there; -n5 is as good as -n 5.
func (s Script) Value(names ...string) string {
	value := ""
	for i, o := range s.Options {
		for _, n := range names {
			switch {
			case o == n && i+1 < len(s.Options):
				value = s.Options[i+1]
			case len(n) == 2 && len(o) > 2 && strings.HasPrefix(o, n):
				value = o[2:]
			}
		}
	}
	return value
}

// Mentions tells whether a line of the script contains the text.
func (s Script) Mentions(text string) bool {
	return slices.ContainsFunc(s.Lines, func(l string) bool { return strings.Contains(l, text) })
}
