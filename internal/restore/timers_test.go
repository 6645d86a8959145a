// SPDX-License-Identifier: Apache-2.0

package restore

import "testing"

func TestDueIn(t *testing.T) {
	for _, c := range []struct {
		value, interval, passed, left int64
		missed                        uint64
	}{
		{100, 0, 30, 70, 0},
		{100, 0, 130, 1, 0},
		{100, 50, 30, 70, 0},
		{100, 50, 100, 50, 1},
		{100, 50, 149, 1, 1},
		{100, 50, 150, 50, 2},
		{100, 50, 1120, 30, 21},
	} {
		if left, missed := dueIn(c.value, c.interval, c.passed); left != c.left || missed != c.missed {
			t.Errorf("%+v: due in %d, %d missed", c, left, missed)
		}
	}
}
