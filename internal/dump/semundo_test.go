// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"encoding/binary"
	"testing"
)

// TestUndoProbe: the operations of a probe keep every value in its range, leave
// it as it was, take off in all what they are to, and end with one that waits.
func TestUndoProbe(t *testing.T) {
	for _, value := range []int{0, 1, 5, 16383, 16384, 32766, semMax} {
		for _, total := range []int{0, 1, semMax, semMax + 1, semMax + 2, undoSpan - 1} {
			b := undoProbe(3, value, total)
			v, off := value, 0
			for ; len(b) > 6; b = b[6:] {
				op := int(int16(binary.LittleEndian.Uint16(b[2:])))
				if v += op; v < 0 || v > semMax {
					t.Fatalf("value %d, total %d: an operation leads to %d", value, total, v)
				}
				if binary.LittleEndian.Uint16(b[4:]) == semUndo {
					off -= op
				}
			}
			last := int(int16(binary.LittleEndian.Uint16(b[2:])))
			if v != value || off != total || v+last >= 0 && (last != 0 || v == 0) {
				t.Errorf("value %d, total %d: ends at %d having taken off %d, last operation %d", value, total, v, off, last)
			}
		}
	}
}
