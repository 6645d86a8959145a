// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Mismatch is one thing that an image needs and this host does not have.
type Mismatch struct {
	What string // architecture, page size, CPU, CPU state, vDSO, or the path of a file
	Want string // what the image needs
	Have string // what is here
}

// String is one sentence.
func (m Mismatch) String() string {
	return m.What + ": the image needs " + m.Want + ", this host has " + m.Have
}

// Match compares what an image needs with this host and gives everything that
// is missing. An empty result means that the image can be resumed here.
func Match(img *imagepb.Host) []Mismatch {
	here, err := Describe()
	if err != nil {
		return []Mismatch{{What: "host", Want: "a description of it", Have: "none: " + err.Error()}}
	}
	out := matchMachine(img, here)
	if img.GetArch() != here.GetArch() {
		return out // every file and feature would differ as well
	}
	if m, ok := matchPids(img.GetMaxPid(), pidMax(here.GetKernel())); !ok {
		out = append(out, m)
	}
	for _, f := range img.GetFiles() {
		if m, ok := matchFile(f); !ok {
			out = append(out, m)
		}
	}
	return out
}

// matchMachine compares two descriptions without files.
func matchMachine(img, here *imagepb.Host) []Mismatch {
	if img.GetArch() != here.GetArch() {
		return []Mismatch{{"architecture", img.GetArch(), here.GetArch()}}
	}
	var out []Mismatch
	if img.GetPageSize() != here.GetPageSize() {
		out = append(out, Mismatch{"page size", bytesOf(img.GetPageSize()), bytesOf(here.GetPageSize())})
	}
	for _, f := range img.GetCpuFeatures() {
		if !slices.Contains(here.GetCpuFeatures(), f) {
			out = append(out, Mismatch{"CPU", "the feature " + f, model(here) + " without it"})
		}
	}
	if img.GetXcr0() != here.GetXcr0() || img.GetXsaveSize() != here.GetXsaveSize() {
		out = append(out, Mismatch{"CPU state", state(img), state(here)})
	}
	if !bytes.Equal(img.GetVdsoSha256(), here.GetVdsoSha256()) {
		out = append(out, Mismatch{
			"vDSO", "the one of kernel " + img.GetKernel() + " (" + short(img.GetVdsoSha256()) + ")",
			"another, of kernel " + here.GetKernel() + " (" + short(here.GetVdsoSha256()) + ")",
		})
	}
	return out
}

func bytesOf(n uint32) string { return fmt.Sprintf("%d bytes", n) }

func state(h *imagepb.Host) string {
	return fmt.Sprintf("%d bytes of it with the components %#x", h.GetXsaveSize(), h.GetXcr0())
}

func model(h *imagepb.Host) string {
	if h.GetCpuModel() == "" {
		return "a CPU"
	}
	return h.GetCpuModel()
}

// short abbreviates a hash, for people.
func short(sum []byte) string {
	if len(sum) == 0 {
		return "none"
	}
	return fmt.Sprintf("%x", sum[:min(len(sum), 8)])
}

// matchFile compares one file that the job maps with the one here.
func matchFile(want *imagepb.MappedFile) (Mismatch, bool) {
	m := Mismatch{What: want.GetPath(), Want: identity(want)}
	have, err := MappedFile(want.GetPath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.Have = "no such file"
	case err != nil:
		m.Have = "none that can be examined: " + err.Error()
	case same(want, have):
		return m, true
	default:
		m.Have = identity(have)
	}
	return m, false
}

// same compares by the best that the image has. A file that could be read there
// and cannot be read here is not known to be the same.
func same(want, have *imagepb.MappedFile) bool {
	if want.GetSize() != have.GetSize() {
		return false
	}
	switch {
	case len(want.GetBuildId()) > 0:
		return bytes.Equal(want.GetBuildId(), have.GetBuildId())
	case len(want.GetSha256()) > 0:
		return bytes.Equal(want.GetSha256(), have.GetSha256())
	}
	return want.GetMtimeNs() == have.GetMtimeNs()
}

func identity(f *imagepb.MappedFile) string {
	switch {
	case len(f.GetBuildId()) > 0:
		return fmt.Sprintf("the file of %d bytes with build id %x", f.GetSize(), f.GetBuildId())
	case len(f.GetSha256()) > 0:
		return fmt.Sprintf("the file of %d bytes with sha256 %s…", f.GetSize(), short(f.GetSha256()))
	}
	return fmt.Sprintf("the file of %d bytes modified at %s", f.GetSize(), modified(f))
}

func modified(f *imagepb.MappedFile) string {
	return time.Unix(0, f.GetMtimeNs()).UTC().Format(time.RFC3339Nano)
}
