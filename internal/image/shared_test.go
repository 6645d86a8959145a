// SPDX-License-Identifier: Apache-2.0

package image

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// TestSharedPages: what is shared must be stored, and nothing twice.
func TestSharedPages(t *testing.T) {
	share := func(pid, from int32, e ...*imagepb.Extent) *imagepb.Shared {
		return &imagepb.Shared{Pid: pid, From: from, Extents: e}
	}
	for what, c := range map[string]struct {
		good   bool
		shared []*imagepb.Shared
	}{
		"nothing":             {true, nil},
		"all":                 {true, []*imagepb.Shared{share(8, 7, extent(0x1000, 2), extent(0x8000, 1))}},
		"across two extents":  {true, []*imagepb.Shared{share(8, 7, extent(0x1000, 3))}},
		"a part, with two":    {true, []*imagepb.Shared{share(8, 7, extent(0x2000, 1)), share(9, 7, extent(0x8000, 1))}},
		"in two parts":        {true, []*imagepb.Shared{share(8, 7, extent(0x2000, 1)), share(8, 7, extent(0x1000, 1))}},
		"no process":          {false, []*imagepb.Shared{share(0, 7, extent(0x1000, 1))}},
		"from no process":     {false, []*imagepb.Shared{share(8, 0, extent(0x1000, 1))}},
		"from itself":         {false, []*imagepb.Shared{share(7, 7, extent(0x1000, 1))}},
		"no extents":          {false, []*imagepb.Shared{share(8, 7)}},
		"no pages":            {false, []*imagepb.Shared{share(8, 7, extent(0x1000, 0))}},
		"not aligned":         {false, []*imagepb.Shared{share(8, 7, extent(0x1001, 1))}},
		"wraps":               {false, []*imagepb.Shared{share(8, 7, extent(math.MaxUint64-align+1, 1))}},
		"descending":          {false, []*imagepb.Shared{share(8, 7, extent(0x8000, 1), extent(0x1000, 1))}},
		"overlap":             {false, []*imagepb.Shared{share(8, 7, extent(0x1000, 2), extent(0x2000, 1))}},
		"not stored":          {false, []*imagepb.Shared{share(8, 7, extent(0x5000, 1))}},
		"more than is stored": {false, []*imagepb.Shared{share(8, 7, extent(0x8000, 2))}},
		"of another":          {false, []*imagepb.Shared{share(8, 6, extent(0x1000, 1))}},
		"twice":               {false, []*imagepb.Shared{share(8, 7, extent(0x1000, 1)), share(8, 7, extent(0x1000, 1))}},
		"and stored too":      {false, []*imagepb.Shared{share(6, 7, extent(0x20000, 1))}},
	} {
		chunks := []*imagepb.Chunk{
			{FileOffset: align, StoredLen: 3 * align, RawLen: 3 * align, Pid: 7, Extents: []*imagepb.Extent{extent(0x8000, 1), extent(0x1000, 2)}},
			{FileOffset: 4 * align, StoredLen: 2 * align, RawLen: 2 * align, Pid: 7, Extents: []*imagepb.Extent{extent(0x3000, 1), extent(0x20000, 1)}},
			{FileOffset: 6 * align, StoredLen: align, RawLen: align, Pid: 6, Extents: []*imagepb.Extent{extent(0x20000, 1)}},
		}
		b, err := proto.Marshal(&imagepb.PageIndex{Chunks: chunks, Shared: c.shared})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = decodeIndex(b, 7*align); (err == nil) != c.good {
			t.Errorf("%s: %v", what, err)
		}
	}
}
