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
