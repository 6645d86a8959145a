// SPDX-License-Identifier: Apache-2.0

// Package cgroup tells how much memory a process and its like may still take before
// the kernel kills one of them (cgroups(7), memory controller, both versions).
package cgroup

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Unlimited is the room where nothing limits it.
const Unlimited = math.MaxInt64

// files are what the two versions call the same.
type files struct {
	limit, usage string
	cached       []string // in memory.stat: file pages, which the kernel takes back
}

var (
	v1 = files{"memory.limit_in_bytes", "memory.usage_in_bytes", []string{"total_inactive_file", "total_active_file"}}
	v2 = files{"memory.max", "memory.current", []string{"inactive_file", "active_file"}}
)

// Room is how many bytes the groups that a process is in leave it. What cannot be
// read limits nothing that we could know of.
func Room(pid int) int64 {
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return Unlimited
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Unlimited
	}
	return room(groups, mounts)
}

func room(groups, mounts []byte) int64 {
	left := int64(Unlimited)
	for _, m := range parseMounts(mounts) {
		path, ok := pathIn(groups, m.v2)
		if !ok {
			continue
		}
		f := v1
		if m.v2 {
			f = v2
		}
		for dir := m.dir(path); ; dir = filepath.Dir(dir) {
			left = min(left, f.room(dir))
			if dir == m.point || len(dir) <= len(m.point) {
				break
			}
		}
	}
	return left
}

// room is what one group leaves.
func (f files) room(dir string) int64 {
	limit, err := number(filepath.Join(dir, f.limit))
	if err != nil {
		return Unlimited // "max", or no limit at this level
	}
	usage, err := number(filepath.Join(dir, f.usage))
	if err != nil || limit > 1<<60 {
		return Unlimited
	}
	stat, _ := os.ReadFile(filepath.Join(dir, "memory.stat"))
	for line := range strings.Lines(string(stat)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, c := range f.cached {
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && name == c {
				usage -= n
			}
		}
	}
	return max(limit-max(usage, 0), 0)
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
}

// mount is where the groups of the memory controller are seen.
type mount struct {
	root, point string
	v2          bool
}

// dir is the directory of a group. In a container the path may be one of the host,
// and the mount show this group itself.
func (m mount) dir(path string) string {
	rest, below := strings.CutPrefix(path, strings.TrimSuffix(m.root, "/"))
	dir := filepath.Join(m.point, rest)
	if _, err := os.Stat(dir); !below || err != nil {
		return m.point
	}
	return dir
}

// parseMounts reads /proc/PID/mountinfo.
func parseMounts(b []byte) []mount {
	var all []mount
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		before, after, _ := strings.Cut(s.Text(), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if len(f) < 5 || len(g) < 3 {
			continue
		}
		switch {
		case g[0] == "cgroup2":
			all = append(all, mount{f[3], f[4], true})
		case g[0] == "cgroup" && has(g[2], "memory"):
			all = append(all, mount{f[3], f[4], false})
		}
	}
	return all
}

// pathIn finds the group in /proc/PID/cgroup: that without a hierarchy number, or
// that of the memory controller.
func pathIn(b []byte, v2 bool) (string, bool) {
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && (v2 && f[0] == "0" && f[1] == "" || !v2 && has(f[1], "memory")) {
			return f[2], true
		}
	}
	return "", false
}

func has(list, name string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if part == name {
			return true
		}
	}
	return false
}
