// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mapping is one line of /proc/PID/maps, and with smaps what is known of its
// memory, in bytes.
type Mapping struct {
	Start, End uint64
	Perms      string // four letters: r or -, w or -, x or -, p(rivate) or s(hared)
	Offset     uint64
	Dev        uint64 // as unix.Mkdev makes it
	Ino        uint64
	Path       string // or [heap], [anon:NAME], …; empty for anonymous memory
	Deleted    bool   // the file has no name any more; Path is what it was
	SharedName string // [anon_shmem:NAME] of shared anonymous memory, whose Path is /dev/zero

	// Of smaps only.
	VmFlags                    []string // two letters each, see proc_pid_smaps(5)
	Rss, Pss                   uint64
	Anonymous, AnonHuge        uint64
	SharedClean, SharedDirty   uint64
	PrivateClean, PrivateDirty uint64
	Swap, Locked               uint64
	KernelPageSize             uint64
	ProtectionKey              int
}

// Size is the length of the mapping in bytes.
func (m *Mapping) Size() uint64 { return m.End - m.Start }

// Shared reports whether it was made with MAP_SHARED.
func (m *Mapping) Shared() bool { return m.Perms[3] == 's' }

// Prot gives the PROT_ bits of mmap(2).
func (m *Mapping) Prot() int {
	p := 0
	for i, bit := range []int{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if m.Perms[i] != '-' {
			p |= bit
		}
	}
	return p
}

// Has reports whether VmFlags holds flag.
func (m *Mapping) Has(flag string) bool { return slices.Contains(m.VmFlags, flag) }

// ParseMaps reads /proc/PID/maps.
func ParseMaps(r io.Reader) ([]Mapping, error) {
	var p mapParser
	err := eachLine(r, p.header)
	if err != nil {
		return nil, fmt.Errorf("parse maps: %w", err)
	}
	return p.maps, nil
}

// ReadMaps reads the maps of a process. A process without memory, such as a
// zombie, has none.
func ReadMaps(pid int) ([]Mapping, error) {
	return resolve(pid)(parseFile(taskPath(pid, 0, "maps"), ParseMaps))
}

// ReadSmaps is ReadMaps with the flags and sizes of each mapping. The kernel
// walks all page tables for it: some 15 ms for each GiB of small pages.
func ReadSmaps(pid int) ([]Mapping, error) {
	return resolve(pid)(parseFile(taskPath(pid, 0, "smaps"), ParseSmaps))
}

// mapParser collects mappings; words that come again are allocated once.
type mapParser struct {
	maps  []Mapping
	words map[string]string
	flags map[string][]string
	ended bool // smaps: the last mapping is complete
}

func (p *mapParser) intern(b []byte) string {
	if s, ok := p.words[string(b)]; ok {
		return s
	}
	if p.words == nil {
		p.words = make(map[string]string)
	}
	s := string(b)
	p.words[s] = s
	return s
}

var errMapping = errors.New("not a mapping")

// header parses `start-end perms offset major:minor inode   path`.
func (p *mapParser) header(line []byte) error {
	var m Mapping
	f := fields{rest: line}
	span, perms := f.word(), f.word()
	m.Offset = f.uint(16)
	dev := f.word()
	m.Ino = f.uint(10)
	from, to, ok1 := bytes.Cut(span, []byte("-"))
	major, minor, ok2 := bytes.Cut(dev, []byte(":"))
	if !ok1 || !ok2 || !validPerms(perms) {
		return fmt.Errorf("%w: %.200q", errMapping, line)
	}
	m.Start, m.End = f.number(from), f.number(to)
	m.Dev = unix.Mkdev(uint32(f.number(major)), uint32(f.number(minor)))
	if f.err != nil {
		return fmt.Errorf("%w: %.200q: %w", errMapping, line, f.err)
	}
	if m.End <= m.Start {
		return fmt.Errorf("%w: %.200q: it ends before it starts", errMapping, line)
	}
	m.Perms = p.intern(perms)
	m.Path, m.Deleted = p.path(trimLeft(f.rest))
	if strings.HasPrefix(m.Path, namedShared) {
		m.SharedName, m.Path, m.Deleted = m.Path, "/dev/zero", true
	}
	p.maps = append(p.maps, m)
	p.ended = false
	return nil
}

func (f *fields) number(b []byte) uint64 {
	v, err := parseUint(b, 16)
	f.note(err)
	return v
}

func validPerms(b []byte) bool {
	if len(b) != 4 || b[3] != 'p' && b[3] != 's' {
		return false
	}
	for i, c := range []byte("rwx") {
		if b[i] != c && b[i] != '-' {
			return false
		}
	}
	return true
}

const deleted = " (deleted)"

// path undoes what the kernel does to a name: newline becomes \012 and nothing
// else is escaped, not even the backslash (seq_path(m, path, "\n")).
func (p *mapParser) path(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", false
	}
	s := p.intern(b)
	if strings.Contains(s, `\012`) {
		s = strings.ReplaceAll(s, `\012`, "\n")
	}
	if s[0] != '/' || !strings.HasSuffix(s, deleted) {
		return s, false
	}
	return s[:len(s)-len(deleted)], true
}

// namedShared stands where shared anonymous memory has a name of the program's
// choice (PR_SET_VMA_ANON_NAME of prctl(2), Linux 6.2). Without one the kernel
// shows what it is: a file of its own that is called /dev/zero and is deleted.
const namedShared = "[anon_shmem:"

// resolve settles the two ambiguities of names, which the text of maps cannot:
// a name with a literal \012, and an existing file whose name ends in
// "(deleted)".
func resolve(pid int) func([]Mapping, error) ([]Mapping, error) {
	return func(maps []Mapping, err error) ([]Mapping, error) {
		for i := range maps {
			m := &maps[i]
			if m.Ino != 0 && strings.Contains(m.Path, "\n") {
				exactPath(pid, m)
			}
			if m.Deleted && named(pid, m.Path+deleted, m.Ino) {
				m.Path, m.Deleted = m.Path+deleted, false
			}
		}
		return maps, err
	}
}

// exactPath asks the link in map_files, which is not escaped. Without it (an
// old kernel, a process that ended) the decoded name stands.
func exactPath(pid int, m *Mapping) {
	name := "map_files/" + strconv.FormatUint(m.Start, 16) + "-" + strconv.FormatUint(m.End, 16)
	s, err := Link(pid, name)
	if err != nil {
		return
	}
	m.Path, m.Deleted = strings.CutSuffix(s, deleted)
}

// named reports whether path, seen from the process, is the file ino. Inode
// numbers decide alone: btrfs and overlayfs show another device in maps than
// stat(2) does.
func named(pid int, path string, ino uint64) bool {
	var st unix.Stat_t
	err := unix.Lstat(taskPath(pid, 0, "root")+path, &st)
	return err == nil && st.Ino == ino
}

// Link reads a link below /proc/PID, such as exe, cwd or fd/3, as it is.
func Link(pid int, name string) (string, error) {
	path := taskPath(pid, 0, name)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, err := unix.Readlink(path, *buf)
	if err != nil {
		return "", fmt.Errorf("readlink %s: %w", path, err)
	}
	return string((*buf)[:n]), nil
}
