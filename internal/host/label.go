// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Label names the kind of machine that a description is of: a word like
// amd64-3f2a9c01de46 that batch systems can publish for each host and demand
// for a job. It covers what Match compares but for the files: hosts with the
// same label can resume each other's images, if these find their files there.
// Hosts with different labels may still match, where one only has more features.
func Label(h *imagepb.Host) string {
	features := slices.Clone(h.GetCpuFeatures())
	slices.Sort(features)
	sum := sha256.Sum256(fmt.Appendf(nil, "page size %d\nfeatures %q\nstate %#x %d\nvdso %x\n",
		h.GetPageSize(), features, h.GetXcr0(), h.GetXsaveSize(), h.GetVdsoSha256()))
	return h.GetArch() + "-" + hex.EncodeToString(sum[:6])
}
