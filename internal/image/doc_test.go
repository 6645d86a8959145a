// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const formatDoc = "../../docs/format.md"

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDocShowsTheGoldenImage keeps the examples of docs/format.md real.
func TestDocShowsTheGoldenImage(t *testing.T) {
	doc := readText(t, formatDoc)
	const dir = "testdata/v2/s2/image/"
	if m := readText(t, dir+manifestName); !strings.Contains(doc, "```\n"+m+"```\n") {
		t.Errorf("%s does not show this manifest:\n%s", formatDoc, m)
	}
	index := readText(t, dir+indexName)
	if dump := hexDump([]byte(index)); !strings.Contains(doc, "```\n"+dump+"```\n") {
		t.Errorf("%s does not show this index:\n%s", formatDoc, dump)
	}
	if dump := hexDump(header(2)[:32]); !strings.Contains(doc, dump) {
		t.Errorf("%s does not show this header:\n%s", formatDoc, dump)
	}
	if bytes := tableBytes(t, doc); bytes != index {
		t.Errorf("the table of the index in %s has the bytes %x, want %x", formatDoc, bytes, index)
	}
}

// hexDump writes what xxd(1) does.
func hexDump(b []byte) string {
	var out strings.Builder
	for off := 0; off < len(b); off += 16 {
		line := b[off:min(off+16, len(b))]
		digits, text := "", ""
		for i, c := range line {
			digits += hex.EncodeToString([]byte{c})
			if i%2 == 1 {
				digits += " "
			}
			if c < 0x20 || c > 0x7e {
				c = '.'
			}
			text += string(rune(c))
		}
		fmt.Fprintf(&out, "%08x: %-40s %s\n", off, digits, text)
	}
	return out.String()
}

// tableBytes puts the bytes of the annotated table together, and checks the
// offsets on the way.
func tableBytes(t *testing.T, doc string) string {
	t.Helper()
	var all []byte
	for _, m := range regexp.MustCompile("(?m)^\\| 0x([0-9a-f]+) \\| `([0-9a-f ]+)` \\|").FindAllStringSubmatch(doc, -1) {
		if at := fmt.Sprintf("%02x", len(all)); at != m[1] {
			t.Errorf("offset 0x%s in the table, but 0x%s bytes before it", m[1], at)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return string(all)
}

// TestDocHasEveryField compares the tables of the index with the messages.
func TestDocHasEveryField(t *testing.T) {
	doc := readText(t, formatDoc)
	for _, m := range []protoreflect.MessageDescriptor{
		new(imagepb.Chunk).ProtoReflect().Descriptor(), new(imagepb.Extent).ProtoReflect().Descriptor(),
		new(imagepb.Shared).ProtoReflect().Descriptor(),
	} {
		for i := range m.Fields().Len() {
			f := m.Fields().Get(i)
			if row := fmt.Sprintf("\n| %d | `%s` | ", f.Number(), f.Name()); !strings.Contains(doc, row) {
				t.Errorf("%s has no row for field %d, %s, of %s", formatDoc, f.Number(), f.Name(), m.Name())
			}
		}
	}
	values := imagepb.Chunk_RAW.Descriptor().Values()
	for i := range values.Len() {
		v := values.Get(i)
		if row := fmt.Sprintf("\n| %s | %d | ", v.Name(), v.Number()); !strings.Contains(doc, row) {
			t.Errorf("%s has no row for the codec %s", formatDoc, v.Name())
		}
	}
	_, versions, _ := strings.Cut(doc, "## Versions")
	if !strings.Contains(versions, fmt.Sprintf("\n| %d | ", Version)) {
		t.Errorf("%s has no row for format version %d", formatDoc, Version)
	}
}
