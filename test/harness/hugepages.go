// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

const hugePages = "/proc/sys/vm/nr_hugepages"

// HugePages sees to it that this host has some huge pages, until the end of the
// test.
func HugePages(t testing.TB, n int) {
	t.Helper()
	b, err := os.ReadFile(hugePages)
	if err != nil {
		t.Skipf("no huge pages here: %v", err)
	}
	before, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if before >= n {
		return
	}
	_ = os.WriteFile(hugePages, []byte(strconv.Itoa(n)), 0)
	t.Cleanup(func() { _ = os.WriteFile(hugePages, b, 0) })
	after, _ := os.ReadFile(hugePages)
	if now, _ := strconv.Atoi(strings.TrimSpace(string(after))); now < n {
		t.Skipf("only %d huge pages here: as root, sysctl vm.nr_hugepages=%d", now, n)
	}
}

// NoHugePages takes those away again that nobody uses.
func NoHugePages(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(hugePages, []byte("0"), 0); err != nil {
		t.Skipf("huge pages cannot be taken away: %v", err)
	}
}
