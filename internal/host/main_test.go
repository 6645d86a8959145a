// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case Verb:
			ProbeMain(os.Args[2:])
		case spoilVerb:
			spoilMain(os.Args[2])
		case reportVerb:
			reportMain()
		}
	}
	os.Exit(m.Run())
}
