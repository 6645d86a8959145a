// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		ProbeMain(os.Args[2:])
	}
	os.Exit(m.Run())
}

func TestProbe(t *testing.T) {
	for _, c := range Probe() {
		t.Logf("%+v", c)
	}
}
