// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/sha256"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Describe describes this host, without the files that a job maps.
func Describe() (*imagepb.Host, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	c, err := readCPU()
	if err != nil {
		return nil, err
	}
	h := &imagepb.Host{
		Hostname:    unix.ByteSliceToString(u.Nodename[:]),
		Arch:        runtime.GOARCH,
		Kernel:      unix.ByteSliceToString(u.Release[:]),
		PageSize:    uint32(os.Getpagesize()),
		CpuFeatures: c.features,
		CpuModel:    c.model,
		Xcr0:        c.xcr0,
		XsaveSize:   c.xsaveSize,
	}
	_, code, err := VDSO()
	if err != nil {
		return nil, err
	}
	if code != nil {
		sum := sha256.Sum256(code)
		h.VdsoSha256 = sum[:]
	}
	return h, nil
}
