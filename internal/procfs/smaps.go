// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ParseSmaps reads /proc/PID/smaps.
func ParseSmaps(r io.Reader) ([]Mapping, error) {
	p := mapParser{flags: make(map[string][]string)}
	err := eachLine(r, p.smapsLine)
	if err == nil {
		err = p.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("parse smaps: %w", err)
	}
	return p.maps, nil
}

var errIncomplete = errors.New("mapping has no VmFlags")

// complete checks that the last mapping ended as each must, with VmFlags: a
// file that was cut off between two lines shows in nothing else.
func (p *mapParser) complete() error {
	if n := len(p.maps); n > 0 && !p.ended {
		return fmt.Errorf("%w: %x: %w", errIncomplete, p.maps[n-1].Start, io.ErrUnexpectedEOF)
	}
	return nil
}

// smapsLine tells the lines apart by their first letter: addresses are in
// lower case, the names of fields in upper case.
func (p *mapParser) smapsLine(line []byte) error {
	if len(line) == 0 || line[0] < 'A' || line[0] > 'Z' {
		if err := p.complete(); err != nil {
			return err
		}
		return p.header(line)
	}
	if len(p.maps) == 0 || p.ended {
		return fmt.Errorf("field outside a mapping: %.80q", line)
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return fmt.Errorf("not a field: %.80q", line)
	}
	return p.field(&p.maps[len(p.maps)-1], name, value)
}

func (p *mapParser) field(m *Mapping, name, value []byte) error {
	switch string(name) {
	case "VmFlags":
		m.VmFlags = p.vmFlags(value)
		p.ended = true
		return nil
	case "ProtectionKey":
		v, err := parseInt(trim(value))
		m.ProtectionKey = int(v)
		return err
	}
	dst := m.counter(name)
	if dst == nil {
		return nil
	}
	number, unit := cut(value)
	v, err := parseUint(number, 10)
	if err != nil || string(trim(unit)) != "kB" || v > 1<<53 {
		return fmt.Errorf("%s: not a size in kB: %.40q", name, value)
	}
	*dst = v << 10
	return nil
}

// counter gives the place of a field of smaps, nil for those nobody needs.
func (m *Mapping) counter(name []byte) *uint64 {
	switch string(name) {
	case "Rss":
		return &m.Rss
	case "Pss":
		return &m.Pss
	case "Anonymous":
		return &m.Anonymous
	case "AnonHugePages":
		return &m.AnonHuge
	case "Shared_Clean":
		return &m.SharedClean
	case "Shared_Dirty":
		return &m.SharedDirty
	case "Private_Clean":
		return &m.PrivateClean
	case "Private_Dirty":
		return &m.PrivateDirty
	case "Swap":
		return &m.Swap
	case "Locked":
		return &m.Locked
	case "KernelPageSize":
		return &m.KernelPageSize
	}
	return nil
}

// vmFlags splits `rd wr mr …`; mappings with the same flags share the slice.
func (p *mapParser) vmFlags(value []byte) []string {
	if f, ok := p.flags[string(value)]; ok {
		return f
	}
	flags := make([]string, 0, len(value)/3)
	for rest := value; ; {
		var word []byte
		if word, rest = cut(rest); len(word) == 0 {
			break
		}
		flags = append(flags, p.intern(word))
	}
	p.flags[string(value)] = flags
	return flags
}
