// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"testing"
)

func TestNeedsNumbers(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		self: "is written in Go", "/bin/sh": "", "/etc/passwd": "", "/nowhere": "", "../../shim/build/esky-spin": "is static",
	} {
		if got := NeedsNumbers(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
