// SPDX-License-Identifier: Apache-2.0

package main

import "golang.org/x/sys/unix"

// keepTerminal returns a function that gives our terminal its present modes back:
// a program that is taken away cannot do it. From the background it would stop us
// (tcsetattr(3)).
func keepTerminal() func() {
	modes, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	return func() {
		if front, err := unix.IoctlGetInt(unix.Stdin, unix.TIOCGPGRP); err == nil && front == unix.Getpgrp() {
			_ = unix.IoctlSetTermios(unix.Stdin, unix.TCSETS, modes)
		}
	}
}
