// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Part of the format.
const (
	manifestMagic = "esky-image "
	manifestEnd   = "end sha256:"
	sumPrefix     = "sha256:"
	sumChunks     = "chunks"   // pages.img: its chunks are hashed in the index
	sumProvider   = "provider" // of CheckedVersion: the provider has checksums of its own
)

// maxManifest bounds what is read into memory: about half a million files.
const maxManifest = 64 << 20

type sum [sha256.Size]byte

// entry is one line of the manifest.
type entry struct {
	name string
	size int64
	sum  sum // zero where the manifest has none
}

// manifest maps names below the image's directory to what they must be.
type manifest struct {
	version uint32
	entries map[string]entry
}

func (m *manifest) add(e entry) { m.entries[e.name] = e }

// encode gives the one and only spelling of a manifest.
func (m *manifest) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%d\n", manifestMagic, m.version)
	for _, name := range m.names() {
		e := m.entries[name]
		how, summed := m.how(name)
		if summed {
			how += hex.EncodeToString(e.sum[:])
		}
		fmt.Fprintf(&b, "%s %d %s\n", name, e.size, how)
	}
	fmt.Fprintf(&b, "%s%x\n", manifestEnd, sha256.Sum256(b.Bytes()))
	return b.Bytes()
}

// how is the word that says how a file is checked, or what is before its sum.
func (m *manifest) how(name string) (word string, summed bool) {
	switch {
	case name == pagesName:
		return sumChunks, false
	case m.version == CheckedVersion && strings.HasPrefix(name, filesDir+"/"):
		return sumProvider, false
	}
	return sumPrefix, true
}

func (m *manifest) names() []string {
	names := make([]string, 0, len(m.entries))
	for name := range m.entries {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// manifestVersion checks the sum in the last line, which is where it is in
// every version, and reads the version from the first one.
func manifestVersion(b []byte) (uint32, error) {
	if len(b) == 0 || b[len(b)-1] != '\n' {
		return 0, errors.New("cut off")
	}
	last := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
	if want := fmt.Sprintf("%s%x\n", manifestEnd, sha256.Sum256(b[:last])); string(b[last:]) != want {
		return 0, errors.New("its own checksum does not match")
	}
	line, _, _ := strings.Cut(string(b), "\n")
	v, ok := strings.CutPrefix(line, manifestMagic)
	n, err := strconv.ParseUint(v, 10, 32)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("first line %.40q", line)
	}
	return uint32(n), nil
}

// parseManifest accepts only what encode writes.
func parseManifest(b []byte) (*manifest, error) {
	version, err := manifestVersion(b)
	if err != nil {
		return nil, err
	}
	m := &manifest{version: version, entries: map[string]entry{}}
	lines := strings.SplitAfter(string(b), "\n")
	for _, line := range lines[1 : len(lines)-2] { // without the first, the last, and "" after it
		e, err := m.parseEntry(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, err
		}
		m.add(e)
	}
	for _, name := range []string{metaName, indexName, pagesName} {
		if _, ok := m.entries[name]; !ok {
			return nil, fmt.Errorf("no line for %s", name)
		}
	}
	if !bytes.Equal(m.encode(), b) {
		return nil, errors.New("not in canonical form")
	}
	return m, nil
}

func (m *manifest) parseEntry(line string) (entry, error) {
	f := strings.Split(line, " ")
	if len(f) != 3 || !validName(f[0]) {
		return entry{}, fmt.Errorf("line %.80q", line)
	}
	size, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil || size > math.MaxInt64 {
		return entry{}, fmt.Errorf("size in line %.80q", line)
	}
	e := entry{name: f[0], size: int64(size)}
	word, summed := m.how(e.name)
	if !summed {
		return e, nil // encode puts the only word that may follow
	}
	h, ok := strings.CutPrefix(f[2], word)
	if n, err := hex.Decode(e.sum[:], []byte(h[:min(len(h), 2*len(e.sum))])); !ok || err != nil || n != len(e.sum) {
		return entry{}, fmt.Errorf("checksum in line %.80q", line)
	}
	return e, nil
}

func validName(name string) bool {
	switch name {
	case metaName, indexName, pagesName:
		return true
	}
	n, ok := strings.CutPrefix(name, filesDir+"/")
	return ok && validFileName(n)
}

// validFileName accepts decimal numbers without leading zeros.
func validFileName(name string) bool {
	n, err := strconv.ParseUint(name, 10, 32)
	return err == nil && strconv.FormatUint(n, 10) == name
}
