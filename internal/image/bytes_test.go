// SPDX-License-Identifier: Apache-2.0

package image

import (
	"testing"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// odd is a name as Linux allows it: any bytes but NUL, here no UTF-8.
const odd = "/scratch/\xff\xfe\xc3(/caf\xe9"

// fillText puts odd into each string field of a message and, once, into those of
// the messages that it holds. It returns how many fields it saw.
func fillText(m protoreflect.Message) int {
	seen := 0
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case f.Kind() == protoreflect.StringKind && f.IsList():
			m.Mutable(f).List().Append(protoreflect.ValueOfString(odd))
			seen++
		case f.Kind() == protoreflect.StringKind:
			m.Set(f, protoreflect.ValueOfString(odd))
			seen++
		case f.Message() != nil && f.IsList():
			seen += fillText(m.Mutable(f).List().AppendMutable().Message())
		case f.Message() != nil:
			seen += fillText(m.Mutable(f).Message())
		}
	}
	return seen
}

// TestAnyBytes stores names that are no UTF-8 in every place that has a name.
func TestAnyBytes(t *testing.T) {
	meta := &imagepb.Image{}
	if n := fillText(meta.ProtoReflect()); n < 15 {
		t.Fatalf("only %d fields with text were found", n)
	}
	dir := tempDir(t)
	fixture{meta: meta}.write(t, dir)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got := r.Meta().Processes[0].Cwd; got != odd {
		t.Errorf("working directory %q, want %q", got, odd)
	}
	if !proto.Equal(r.Meta(), meta) {
		t.Errorf("read %v, want %v", r.Meta(), meta)
	}
}
