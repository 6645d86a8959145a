// SPDX-License-Identifier: Apache-2.0

// Package version tells which version of esky a program is of.
package version

import "runtime/debug"

// made is set by the Makefile.
var made string

// String is the version that the Makefile gave, or that "go install" has built.
func String() string {
	if made != "" {
		return made
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
