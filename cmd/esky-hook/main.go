// SPDX-License-Identifier: Apache-2.0

// esky-hook is what a site's prolog and epilog call, as root. It becomes the
// job's user before it looks at anything that a user can influence, does one
// small thing, and logs. It never changes what happens to the job or the host.
//
// The verbs:
//
//	prolog  can this host run esky's jobs? Only logs.
//	epilog  end processes of the job that the scheduler lost, and remove the
//	        sockets of monitors that are dead.
//
// Exit status: 0 also when there was nothing to do, 1 if something went wrong,
// 64 for wrong usage. The scripts that call it pass none of these on.
package main

import (
	"fmt"
	"log/syslog"
	"os"
	"time"
)

// limit ends this program whatever it waits for (a user's dead NFS server, …).
const limit = 8 * time.Second

func main() {
	time.AfterFunc(limit, func() {
		report(fmt.Errorf("gave up after %v", limit))
		os.Exit(1)
	})
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 1 && args[0] == probeVerb {
		return probe()
	}
	verbs := map[string]func(job) error{"prolog": prolog, "epilog": epilog}
	if len(args) != 1 || verbs[args[0]] == nil {
		fmt.Fprintln(os.Stderr, "usage: esky-hook prolog|epilog   (called by the scheduler's hook scripts)")
		return 64
	}
	j, err := jobOf(os.Getenv)
	if err == nil {
		os.Clearenv()
		err = j.become()
	}
	if err == nil {
		err = verbs[args[0]](j)
	}
	if err != nil {
		report(fmt.Errorf("%s: %w", args[0], err))
		return 1
	}
	return 0
}

// report writes to the system's log, and to stderr for whoever tries it by hand.
func report(err error) {
	fmt.Fprintf(os.Stderr, "esky-hook: %v\n", err)
	w, dialErr := syslog.New(syslog.LOG_DAEMON|syslog.LOG_WARNING, "esky-hook")
	if dialErr != nil {
		return // no log daemon on this host; stderr has it
	}
	defer w.Close()
	_ = w.Warning(err.Error()) // nowhere left to complain to
}
