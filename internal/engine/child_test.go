// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"os/signal"
	"syscall"
)

func notifyChild(c chan os.Signal) { signal.Notify(c, syscall.SIGCHLD) }
