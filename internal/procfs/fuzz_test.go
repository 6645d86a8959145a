// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func FuzzParseMaps(f *testing.F) {
	f.Add([]byte(line("7f00-8f00 r-xp 00001000 08:01 131", `/a b\012c (deleted)`)))
	f.Fuzz(func(t *testing.T, in []byte) {
		maps, err := ParseMaps(bytes.NewReader(in))
		if err == nil && len(maps) != bytes.Count(in, []byte("\n")) {
			t.Errorf("%d mappings of %d lines", len(maps), bytes.Count(in, []byte("\n")))
		}
		checkMappings(t, maps)
	})
}

func FuzzParseSmaps(f *testing.F) {
	f.Add([]byte(line("7f00-8f00 r-xp 00001000 08:01 131", "[heap]") + smapsFields))
	f.Fuzz(func(t *testing.T, in []byte) {
		maps, _ := ParseSmaps(bytes.NewReader(in))
		checkMappings(t, maps)
	})
}

func checkMappings(t *testing.T, maps []Mapping) {
	for _, m := range maps {
		if m.End <= m.Start || len(m.Perms) != 4 {
			t.Errorf("impossible mapping %+v", m)
		}
	}
}

// FuzzMapsPath writes a name as the kernel does and wants it back, if the name
// is not one that the text cannot tell (resolve is for those).
func FuzzMapsPath(f *testing.F) {
	f.Add("a b\nc", true)
	f.Add(` \n\\012 (deleted`, false)
	f.Fuzz(func(t *testing.T, name string, gone bool) {
		path := "/" + name
		if strings.Contains(path, `\012`) || strings.HasSuffix(path, deleted) || len(path) > 4096 {
			return
		}
		in := strings.ReplaceAll(path, "\n", `\012`)
		if gone {
			in += deleted
		}
		got, err := ParseMaps(strings.NewReader(line("1000-2000 rw-p 00000000 00:00 1", in)))
		if err != nil || len(got) != 1 || got[0].Path != path || got[0].Deleted != gone {
			t.Errorf("%q came back as %+v, %v", path, got, err)
		}
	})
}

// FuzzComm writes a thread's name as the kernel does into stat, and wants it
// and the fields after it back.
func FuzzComm(f *testing.F) {
	f.Add("a) S 1 (b\n")
	f.Fuzz(func(t *testing.T, comm string) {
		if len(comm) > 64 || strings.Contains(comm, "\x00") {
			return
		}
		s, err := ParseStat(strings.NewReader(fmt.Sprintf("7 (%s)%s", comm, statTail)))
		if err != nil || s.Comm != comm || s.ExitCode != 256 {
			t.Errorf("%q came back as %+v, %v", comm, s, err)
		}
	})
}

// FuzzSmallFiles gives any bytes to the parsers of the small files: an error or
// an answer, never a panic.
func FuzzSmallFiles(f *testing.F) {
	f.Add([]byte(statLine))
	f.Add([]byte(statusText))
	f.Add([]byte(timersText))
	f.Add([]byte(schedText))
	f.Add([]byte("pos:\t0\nflags:\t02\nlock:\t1: POSIX  ADVISORY  WRITE 1 08:01:1 0 EOF\ntfd: 5 events: 19 data: 5  pos:0 ino:4 sdev:9\n"))
	f.Add([]byte("pos:\t0\nflags:\t02\nclockid: 1\nticks: 0\nsettime flags: 01\nit_value: (0, 5)\nit_interval: (1, 0)\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := func() io.Reader { return bytes.NewReader(in) }
		if s, err := ParseStatus(r()); err == nil && s.Pid == 0 {
			t.Error("a status without a Pid")
		}
		if timers, err := ParseTimers(r()); err == nil && len(timers)*4 != bytes.Count(in, []byte("\n")) {
			t.Errorf("%d timers", len(timers))
		}
		if _, err := ParseStat(r()); err == nil && in[len(in)-1] != '\n' {
			t.Error("a stat that is cut off")
		}
		_, _ = ParseFdInfo(r())
		_, _ = ParseSched(r())
		_, _ = parseChildren(r())
		_, _ = ParseCPUList(string(in))
	})
}
