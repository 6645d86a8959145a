// SPDX-License-Identifier: Apache-2.0

package dump

import (
	"os"
	"strings"
	"testing"

	"github.com/esky-hpc/esky/internal/procfs"
)

func TestRefuseKind(t *testing.T) {
	for link, want := range map[string]string{
		"/dev/nvidia0": "a GPU", "/dev/nvidiactl": "a GPU", "/dev/kfd": "a GPU", "/dev/dri/renderD128": "a GPU",
		"/dev/infiniband/uverbs0": "UCX_TLS=tcp", "/dev/kvm": "virtual machines", "/dev/fuse": "FUSE", "/dev/sg0": "a device",
		"anon_inode:[io_uring]": "io_uring", "anon_inode:bpf-map": "BPF", "anon_inode:kvm-vcpu:0": "virtual machines",
		"anon_inode:[new]": "this kind of file",
	} {
		if got := refuseKind(link); !strings.Contains(got, want) {
			t.Errorf("%s: %q", link, got)
		}
	}
	gpu := procfs.Mapping{Path: "/dev/nvidia-uvm", VmFlags: []string{"rd", "wr", "sh", "pf", "io"}}
	if got := refuseMap(&gpu); !strings.Contains(got, "a GPU") {
		t.Errorf("its memory: %q", got)
	}
}

func TestRefuseThread(t *testing.T) {
	mine := procfs.Status{Name: "a b", Pid: 7, NSpid: []int{7, 3}}
	for i := range mine.Uid {
		mine.Uid[i] = os.Getuid()
	}
	if why := refuseThread(&mine, &mine); why != "" {
		t.Error(why)
	}
	for want, change := range map[string]func(*procfs.Status){
		"seccomp filter": func(s *procfs.Status) { s.Seccomp = 2 }, "strict": func(s *procfs.Status) { s.Seccomp = 1 },
		"runs as uid": func(s *procfs.Status) { s.Uid[1]++ }, "another group": func(s *procfs.Status) { s.Gid[2]++ },
	} {
		other := mine
		other.Pid, other.NSpid = 8, []int{8, 4}
		change(&other)
		if why := refuseThread(&mine, &other); !strings.Contains(why, want) || !strings.HasPrefix(why, "thread 4 (a b) of pid 3") {
			t.Errorf("%s: %q", want, why)
		}
	}
}

func TestAMXTiles(t *testing.T) {
	state := make([]byte, 11008)
	state[512] = 7
	if amxTiles(state) || amxTiles(nil) {
		t.Error("tiles where there are none")
	}
	state[514] = 1 << 2
	if !amxTiles(state) {
		t.Error("no tiles")
	}
}
