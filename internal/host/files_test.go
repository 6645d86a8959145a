// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// note builds one ELF note.
func note(name string, kind uint32, desc []byte, align int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, kind)
	b = append(b, name...)
	for len(b)%align != 0 {
		b = append(b, 0xee)
	}
	b = append(b, desc...)
	for len(b)%align != 0 {
		b = append(b, 0xee)
	}
	return b
}

func TestBuildIDNote(t *testing.T) {
	id := []byte("twenty bytes of hash")
	good := note("GNU\x00", ntGNUBuildID, id, 4)
	tests := []struct {
		name  string
		in    []byte
		align uint64
		want  []byte
	}{
		{"alone", good, 4, id},
		{"no alignment given", good, 0, id},
		{"unpadded end", note("GNU\x00", ntGNUBuildID, []byte("odd"), 4)[:19], 4, []byte("odd")},
		{"after others", append(append(note("Go\x00\x00", ntGNUBuildID, []byte("x"), 4), note("GNU\x00", 1, make([]byte, 16), 4)...), good...), 4, id},
		{"of eight", append(note("GNU\x00", 5, make([]byte, 12), 8), note("GNU\x00", ntGNUBuildID, id, 8)...), 8, id},
		{"empty", note("GNU\x00", ntGNUBuildID, nil, 4), 4, nil},
		{"other maker", note("Go\x00\x00", ntGNUBuildID, id, 4), 4, nil},
		{"cut", good[:len(good)-1], 4, nil},
		{"huge name", binary.LittleEndian.AppendUint32(nil, 0xffffffff), 4, nil},
		{"huge name in a note", append(bytes.Repeat([]byte{0xff}, 12), good...), 4, nil},
		{"nothing", nil, 4, nil},
	}
	for _, tt := range tests {
		if got := buildIDNote(tt.in, binary.LittleEndian, tt.align); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzBuildIDNote(f *testing.F) {
	f.Add(note("GNU\x00", ntGNUBuildID, []byte("hash"), 4), uint64(4))
	f.Add(note("GNU\x00", 1, []byte("hash"), 8), uint64(8))
	f.Fuzz(func(t *testing.T, in []byte, align uint64) {
		if id := buildIDNote(in, binary.LittleEndian, align); id != nil && !bytes.Contains(in, id) {
			t.Errorf("build id %x is not in the notes", id)
		}
	})
}

// TestBuildIDOfShell compares with the section that a linker makes of the note.
func TestBuildIDOfShell(t *testing.T) {
	f, err := elf.Open("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []byte
	if s := f.Section(".note.gnu.build-id"); s != nil {
		b, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		want = b[16:]
	}
	m, err := MappedFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.BuildId, want) || (len(want) == 0) != (len(m.Sha256) > 0) || m.Size == 0 || m.MtimeNs == 0 {
		t.Errorf("/bin/sh is %v, want build id %x", m, want)
	}
}

func TestMappedFileOfData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	for _, text := range []string{"", "some data", "same size", "\x7fELF but nothing else"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from memory
			m, err := MappedFile(path)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(text))
			if !bytes.Equal(m.Sha256, sum[:]) || m.BuildId != nil || m.Path != path || m.Size != uint64(len(text)) {
				t.Errorf("%q is described as %v", text, m)
			}
		}
	}
}

func TestMappedFileIsRemembered(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	first, err := MappedFile(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := statFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files[key].Sha256[0] ^= 1 // what is remembered, not what is read
	second, err := MappedFile(link)
	if err != nil {
		t.Fatal(err)
	}
	if second.Path != link || second.Sha256[0] != first.Sha256[0]^1 {
		t.Errorf("was read again: %v", second)
	}
}

func TestMappedFileErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := MappedFile(dir); err == nil {
		t.Error("a directory was described")
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MappedFile(fifo); err == nil {
		t.Error("a FIFO was described")
	}
	if _, err := MappedFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error of a missing file is %v", err)
	}
}

// TestLargeData: a large file is not read.
func TestLargeData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, hashLimit+1); err != nil {
		t.Fatal(err)
	}
	m, err := MappedFile(path)
	if err != nil || m.Size != hashLimit+1 || m.Sha256 != nil || m.MtimeNs == 0 {
		t.Errorf("described as %v, %v", m, err)
	}
}
