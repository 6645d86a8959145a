// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// hashLimit: a larger file without a build id is data, for which size and
// modification time must do: reading it would take longer than the checkpoint.
const hashLimit = 256 << 20

// fileKey names one state of a file.
type fileKey struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

var (
	filesMutex sync.Mutex
	files      = map[fileKey]*imagepb.MappedFile{} // known ones; path is that of the first call
)

// MappedFile describes a file by what makes it the same elsewhere: its size and
// its build id, or the hash of its contents if it has none. Of a file that the
// user may execute but not read, and of one that is too large to hash, there is
// only size and modification time. What a file was found to be is remembered
// until it changes. It may be called from several goroutines.
func MappedFile(path string) (*imagepb.MappedFile, error) {
	key, err := statFile(path)
	if err != nil {
		return nil, err
	}
	filesMutex.Lock()
	known := files[key]
	filesMutex.Unlock()
	if known == nil {
		if known, err = describeFile(path, key); err != nil {
			return nil, err
		}
		filesMutex.Lock()
		files[key] = known
		filesMutex.Unlock()
	}
	m := proto.Clone(known).(*imagepb.MappedFile)
	m.Path = path
	return m, nil
}

func statFile(path string) (fileKey, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileKey{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fileKey{}, fmt.Errorf("%s: not a regular file", path)
	}
	return fileKey{dev: st.Dev, ino: st.Ino, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}, nil
}

func describeFile(path string, key fileKey) (*imagepb.MappedFile, error) {
	m := &imagepb.MappedFile{Path: path, Size: uint64(key.size), MtimeNs: key.mtime.Nano()}
	// O_NONBLOCK: the path may have become a FIFO since it was examined.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if m.BuildId = buildID(f); m.BuildId != nil || key.size > hashLimit {
		return m, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, key.size)); err != nil {
		return nil, fmt.Errorf("hash %s: %w", path, err)
	}
	m.Sha256 = h.Sum(nil)
	return m, nil
}

// buildID finds the NT_GNU_BUILD_ID note of an ELF file, nil if it is none or
// has none.
func buildID(r io.ReaderAt) []byte {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_NOTE || p.Filesz > 1<<20 {
			continue
		}
		notes := make([]byte, p.Filesz)
		if _, err := p.ReadAt(notes, 0); err != nil {
			continue
		}
		if id := buildIDNote(notes, f.ByteOrder, p.Align); id != nil {
			return id
		}
	}
	return nil
}

const ntGNUBuildID = 3

// buildIDNote walks the notes of a segment (elf(5), "Notes"): three words, name
// and description, each padded to the alignment.
func buildIDNote(b []byte, order binary.ByteOrder, align uint64) []byte {
	if align != 8 {
		align = 4 // 0 and 1 mean 4 here, as for the kernel
	}
	pad := func(n uint32) uint64 { return (uint64(n) + align - 1) &^ (align - 1) }
	for len(b) >= 12 {
		name, desc, kind := order.Uint32(b), order.Uint32(b[4:]), order.Uint32(b[8:])
		start := (12 + uint64(name) + align - 1) &^ (align - 1)
		if uint64(len(b)) < start+uint64(desc) {
			return nil
		}
		value := b[start : start+uint64(desc)]
		if kind == ntGNUBuildID && desc > 0 && bytes.Equal(b[12:12+name], []byte("GNU\x00")) {
			return bytes.Clone(value)
		}
		b = b[min(start+pad(desc), uint64(len(b))):]
	}
	return nil
}
