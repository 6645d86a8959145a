// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// group makes a directory of a hierarchy with these files.
func group(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func mountLine(root, point, kind, options string) string {
	return fmt.Sprintf("35 31 0:32 %s %s rw,relatime shared:9 - %s %s rw,%s\n", root, point, kind, kind, options)
}

func TestRoom(t *testing.T) {
	old := func(limit, usage string) map[string]string {
		return map[string]string{"memory.limit_in_bytes": limit + "\n", "memory.usage_in_bytes": usage + "\n",
			"memory.stat": "cache 7\ntotal_inactive_file 20\ntotal_active_file 5\n"}
	}
	modern := func(limit, usage string) map[string]string {
		return map[string]string{"memory.max": limit + "\n", "memory.current": usage + "\n",
			"memory.stat": "anon 7\ninactive_file 20\nactive_file 5\n"}
	}
	dir := t.TempDir()
	group(t, dir+"/v1", old("9223372036854771712", "900"))
	group(t, dir+"/v1/job", old("1000", "700"))
	group(t, dir+"/v1/job/step", old("9223372036854771712", "400"))
	group(t, dir+"/v2", nil)
	group(t, dir+"/v2/job", modern("500", "300"))
	group(t, dir+"/v2/job/step", modern("max", "300"))
	group(t, dir+"/v2/full", modern("500", "600"))
	v1, v2 := mountLine("/", dir+"/v1", "cgroup", "cpuset,memory"), mountLine("/", dir+"/v2", "cgroup2", "nsdelegate")
	for _, tt := range []struct {
		name, groups, mounts string
		want                 int64
	}{
		{"a limit above", "4:cpuset,memory:/job/step\n0::/\n", v1, 325},
		{"no limit", "4:cpuset,memory:/\n0::/\n", v1, Unlimited},
		{"version 2", "0::/job/step\n", v2, 225},
		{"more than it may", "0::/full\n", v2, 0},
		{"both, the lesser", "4:memory:/job\n0::/job\n", v1 + v2, 225},
		{"the mount shows a group", "0::/docker/x/step\n", mountLine("/docker/x", dir+"/v2/job", "cgroup2", ""), 225},
		{"a path of the host", "0::/system.slice/docker.scope\n", mountLine("/", dir+"/v2/job", "cgroup2", ""), 225},
		{"no controller", "3:cpu:/job\n", v1, Unlimited},
	} {
		if got := room([]byte(tt.groups), []byte(tt.mounts)); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}
