// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is what the numbers belong to.
type machine struct {
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"`
	MemoryMiB  int64  `json:"memory_mib"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d CPUs, %d MiB, Linux %s, images on %s", m.CPU, m.CPUs, m.MemoryMiB, m.Kernel, m.FileSystem)
}

func describeMachine(dir string) machine {
	m := machine{CPU: "unknown CPU", CPUs: runtime.NumCPU(), FileSystem: "unknown file system"}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		m.Kernel = unix.ByteSliceToString(uts.Release[:])
	}
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		m.MemoryMiB = int64(si.Totalram) * int64(si.Unit) >> 20
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil {
		m.FileSystem = fileSystems[fs.Type]
		if m.FileSystem == "" {
			m.FileSystem = fmt.Sprintf("file system %#x", fs.Type)
		}
	}
	info, _ := os.ReadFile("/proc/cpuinfo") // without it the CPU stays unknown
	for _, line := range strings.Split(string(info), "\n") {
		if name, ok := strings.CutPrefix(line, "model name\t: "); ok {
			m.CPU = name
			break
		}
	}
	return m
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.NFS_SUPER_MAGIC: "nfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	0x0bd00bd0: "lustre", 0x47504653: "gpfs",
}

// limits are speeds of the machine in bytes a second.
type limits struct {
	Write       float64 `json:"write_fsync"`
	DirectWrite float64 `json:"direct_write"`
	DirectRead  float64 `json:"direct_read"`
	Memcpy      float64 `json:"memcpy"`
}

const block = 4 << 20

// measureLimits measures the machine with as many bytes as a dump has.
func measureLimits(dir string, bytes int64) (limits, error) {
	buf, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return limits{}, err
	}
	defer unix.Munmap(buf)
	rand.New(rand.NewSource(1)).Read(buf)
	path := filepath.Join(dir, "limit")
	defer os.Remove(path)
	l := limits{Memcpy: memcpy(min(bytes, 1<<30))}
	if l.Write, err = timeWrite(path, buf, bytes, 0); err != nil {
		return l, err
	}
	if l.DirectWrite, err = timeWrite(path, buf, bytes, syscall.O_DIRECT); err != nil {
		return l, nil // such as tmpfs before Linux 6.6: there is no such limit
	}
	l.DirectRead, err = timeRead(path, buf, bytes)
	return l, err
}

func timeWrite(path string, buf []byte, bytes int64, flags int) (float64, error) {
	_ = os.Remove(path) // overwriting would not be what a dump does
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flags, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	start := time.Now()
	for n := int64(0); n < bytes; n += block {
		if _, err := f.Write(buf); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}

func timeRead(path string, buf []byte, bytes int64) (float64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	start := time.Now()
	for n := int64(0); n < bytes; n += block {
		if _, err := f.Read(buf); err != nil {
			return 0, err
		}
	}
	return float64(bytes) / time.Since(start).Seconds(), nil
}

// memcpy copies between two blocks that were touched before.
func memcpy(bytes int64) float64 {
	const part = 64 << 20
	from, to := make([]byte, part), make([]byte, part)
	for i := range from {
		from[i] = byte(i)
	}
	copy(to, from)
	start := time.Now()
	for n := int64(0); n < bytes; n += part {
		copy(to, from)
	}
	return float64(max(bytes, part)) / time.Since(start).Seconds()
}
