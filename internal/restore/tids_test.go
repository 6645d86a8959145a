// SPDX-License-Identifier: Apache-2.0

package restore

import (
	"encoding/binary"
	"testing"
)

func TestLooksHeld(t *testing.T) {
	for _, tt := range []struct {
		name  string
		words [lockLen / 4]uint32
		owner int // index of its word, 0: nobody has it
	}{
		{"recursive mutex", [8]uint32{1, 2, 4711, 1, 1}, 2},
		{"one that is waited for", [8]uint32{2, 1, 4711, 1, 1}, 2},
		{"free one", [8]uint32{0, 0, 0, 0, 1}, 0},
		{"usual mutex", [8]uint32{1, 0, 4711, 1, 0}, 0},
		{"rwlock of a writer", [8]uint32{3, 0, 1, 0, 0, 0, 4711, 0}, 6},
		{"rwlock of readers", [8]uint32{2 << 3, 0, 0, 0, 0, 0, 0, 0}, 0},
		{"text", [8]uint32{0x65736b79, 0x65736b79, 0x65736b7b, 0x65736b79, 0x65736b79, 0x65736b79, 0x65736b79, 0x65736b79}, 0},
	} {
		var b []byte
		for _, w := range tt.words {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		offset, held := looksHeld(b)
		if held != (tt.owner != 0) || held && offset != 4*tt.owner {
			t.Errorf("%s: owner at %d (%v), want word %d", tt.name, offset, held, tt.owner)
		}
	}
}
