// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"
	"testing"
)

func TestPidsOfABiggerHost(t *testing.T) {
	if m, ok := matchPids(32767, 32768); !ok {
		t.Errorf("the highest pid that fits: %s", m)
	}
	m, ok := matchPids(3_000_000, 32768)
	if ok || !strings.Contains(m.String(), "3000000") || !strings.Contains(m.String(), "kernel.pid_max 32768") {
		t.Errorf("a pid that does not fit: %v %s", ok, m)
	}
	if _, ok := matchPids(0, 32768); !ok {
		t.Error("an image that does not say its pids")
	}
}

func TestPidMax(t *testing.T) {
	if n := pidMax("6.14.0-rc1"); n != 1<<22 {
		t.Errorf("of a namespace of its own: %d", n)
	}
	if n := pidMax("6.8.0-45-generic"); n < 300 || n > 1<<22 {
		t.Errorf("of this host: %d", n)
	}
	for release, want := range map[string]bool{"6.14.1": true, "7.0": true, "6.9.12-x": false, "5.15.0": false, "?": false} {
		if atLeast(release, 6, 14) != want {
			t.Errorf("%s: %v", release, !want)
		}
	}
}
