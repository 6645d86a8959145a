// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
)

// processor is what programs can see of it.
type processor struct {
	model     string
	features  []string // sorted, names of /proc/cpuinfo
	xcr0      uint64   // components of the state that the kernel saves
	xsaveSize uint32   // and its size in memory
}

var readCPU = sync.OnceValues(func() (processor, error) {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return processor{}, err
	}
	defer f.Close()
	c, err := parseCPUInfo(f)
	if err != nil {
		return processor{}, fmt.Errorf("read /proc/cpuinfo: %w", err)
	}
	c.xcr0, c.xsaveSize = extendedState()
	return c, nil
})

// parseCPUInfo reads the first processor: Linux shows programs the features
// that all of them have.
func parseCPUInfo(r io.Reader) (processor, error) {
	var c processor
	s := bufio.NewScanner(r)
	for s.Scan() && s.Text() != "" {
		name, value, _ := strings.Cut(s.Text(), ":")
		switch strings.TrimSpace(name) {
		case "model name", "CPU part":
			c.model = strings.TrimSpace(value)
		case "flags", "Features": // x86, ARM
			c.features = usable(strings.Fields(value))
		}
	}
	if err := s.Err(); err != nil {
		return processor{}, err
	}
	if len(c.features) == 0 {
		return processor{}, errors.New("no CPU features")
	}
	return c, nil
}

// usable keeps the features that a program can use; the rest, more than half,
// tells of the kernel, of virtualization or of speed alone.
func usable(flags []string) []string {
	kept := slices.DeleteFunc(flags, func(f string) bool { return !programCanUse(f) })
	slices.Sort(kept)
	return slices.Compact(kept)
}
