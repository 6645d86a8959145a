// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const events = `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: noise\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"| row |\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:9: no musl-gcc: install musl-tools\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"--- SKIP: TestB (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:1: 1 is not 2\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
{"Action":"output","Package":"q","Output":"ok  \tq\t0.2s\n"}
{"Action":"pass","Package":"q"}
{"Action":"skip","Package":"none"}
`

func TestFollow(t *testing.T) {
	var log, show strings.Builder
	s := follow(strings.NewReader(events), &log, &show)
	if s.passed != 1 {
		t.Errorf("passed %d, want 1", s.passed)
	}
	if d := cmp.Diff([]string{"p TestC: 1 is not 2", "p"}, s.failed); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"p TestB: no musl-gcc: install musl-tools"}, s.skipped); d != "" {
		t.Error(d)
	}
	want := "| row |\n    c_test.go:1: 1 is not 2\nFAIL\tp\t0.1s\nok  \tq\t0.2s\n"
	if d := cmp.Diff(want, show.String()); d != "" {
		t.Error(d)
	}
	if !strings.Contains(log.String(), "noise") {
		t.Error("the log lacks what was not shown")
	}
}

func TestFollowTruncated(t *testing.T) {
	s := follow(strings.NewReader(strings.Repeat("x", 20<<20)), new(strings.Builder), new(strings.Builder))
	if len(s.failed) == 0 {
		t.Error("a line that could not be read counts as nothing")
	}
}
