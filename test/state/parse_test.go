// SPDX-License-Identifier: Apache-2.0

package state

import "testing"

func TestParse(t *testing.T) {
	all, err := parse("# comment\n\nzombie | zombie late | glibc musl | carried | ended children\nuring | uring | glibc | refused no rings | rings\n")
	if err != nil || len(all) != 3 {
		t.Fatalf("%v, %v", all, err)
	}
	if b := all[1]; all[2].words != "no rings" || b.name() != "zombie-musl" || b.argv[1] != "late" || b.fate != "carried" {
		t.Errorf("%+v", b)
	}
	for _, bad := range []string{"a | b | glibc | carried", "a | b | icc | carried | x", "a | b | glibc | maybe | x", "a | b | glibc | refused | x", "a||glibc|carried|x"} {
		if all, err := parse(bad); err == nil {
			t.Errorf("%q: %v", bad, all)
		}
	}
}

// What nobody has seen is not told.
func TestSeen(t *testing.T) {
	all, err := parse("a | a | glibc static | carried | x\nb | b | glibc | carried | x\nc | c | glibc static | carried | x | static sees y\nd | d | glibc | carried | x\n")
	if err != nil {
		t.Fatal(err)
	}
	r := &refusals{}
	r.prove(build{line: "a", kind: "glibc"})
	r.prove(build{line: "c", kind: "glibc"})
	have := "| a | x | carried | refused: z | glibc |\n| b | x | carried | carried | glibc |\n"
	want := map[string]string{"a": notRun, "b": "carried", "c": "carried; a static one sees y", "d": notRun}
	got := r.seen(all, have)
	for line := range want {
		if got[line] != want[line] {
			t.Errorf("%s: %q, want %q", line, got[line], want[line])
		}
	}
	r.prove(build{line: "a", kind: "static"})
	if got := r.seen(all, have)["a"]; got != "carried" {
		t.Errorf("a: %q after all builds were driven", got)
	}
}
