// SPDX-License-Identifier: Apache-2.0

// esky-hook is what a site's prolog and epilog call, and schedulers' checkpoint
// interfaces, mostly as root. It learns from the scheduler which job it is about,
// and becomes that job's user before it looks at anything that a user can
// influence (package guard). It does one small thing, in limited time, and logs.
// It never changes what happens to the host.
//
// Exit status: 0 also when there was nothing to do, 1 if something went wrong,
// 64 for wrong usage. The scripts that prologs and epilogs are pass none of these
// on; a checkpoint interface is told.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/guard"
)

// verb is one thing that a scheduler can ask for.
type verb struct {
	does string // for the usage
	// whose tells, as root, from nothing but what the scheduler says, which job
	// it is about.
	whose func(args []string, env func(string) string) (job, error)
	// do does it, in a process of its own that is the job's user.
	do func(j job, args []string) error
	// keep takes what do has written to standard output, at most so many bytes,
	// as root. Without it that is for the log.
	keep func(args []string, answer []byte) error
	most int
	// inPlace says that do does not return: this very process becomes the user,
	// and then another program.
	inPlace bool
	// env are the variables that the user's process has of ours, besides those
	// that whose looks at.
	env []string
	// limit bounds it, whatever it waits for (a user's dead NFS server, …).
	limit time.Duration
	// inTurn says that it touches the user's own file systems: one at a time, and
	// none behind one that hangs. The site may give another limit, in seconds.
	inTurn bool
}

// verbs are all of them. A new one is a line here and a file that has its do.
var verbs = map[string]verb{
	"prolog": {
		does:  "can this host run esky's jobs? Only logs",
		whose: slurmJob, do: prolog, limit: 8 * time.Second,
	},
	"epilog": {
		does:  "end processes of the job that Slurm lost, remove sockets of dead monitors",
		whose: slurmJob, do: epilog, limit: 8 * time.Second,
	},
	"drain": {
		does:  "bring images that a killed job has left on this host to their store [SECONDS]",
		whose: slurmJobInGroups, do: drain, limit: time.Minute, inTurn: true,
	},
	"stage": {
		does:  "bring the image of a job that is run again to this host (ESKY_LOCAL) [SECONDS]",
		whose: slurmJobInGroups, do: stage, limit: time.Minute, inTurn: true,
		env: []string{commentVariable, dirVariable, localVariable},
	},
	"pbs-checkpoint": {
		does:  "save a job for MoM, and let it run",
		whose: pbsJob, do: answerRecord(false), keep: pbsKeep, most: longestRecord, limit: time.Hour,
	},
	"pbs-abort": {
		does:  "save a job for MoM, and end it",
		whose: pbsJob, do: answerRecord(true), keep: pbsKeep, most: longestRecord, limit: time.Hour,
	},
	"pbs-restart": {
		does:  "start a job that MoM has had saved",
		whose: pbsSaved, do: goOn, inPlace: true,
	},
	"torque-checkpoint": {
		does:  "save a job for Torque's MoM",
		whose: torqueJob, do: torqueCheckpoint, limit: time.Hour,
	},
	"torque-restart": {
		does:  "start a job that Torque's MoM has had saved",
		whose: torqueJob, do: torqueRestart, inPlace: true,
	},
	"lsf-checkpoint": {
		does:  "save a job for LSF (echkpnt)",
		whose: lsfJob, do: lsfCheckpoint, env: append(runtimeDir, "LSB_CHKPNT_DIR"), limit: time.Hour,
	},
	"lsf-restart": {
		does:  "tell LSF how to start a job that it has had saved (erestart)",
		whose: lsfJob, do: lsfRestart, env: []string{"LSB_CHKPNT_DIR"}, limit: time.Minute,
	},
	"again": {
		does:  "start what the record of a checkpoint says",
		whose: ownJob, do: again, inPlace: true,
	},
	"ge-checkpoint": {
		does:  "ckpt_command of Grid Engine: save the job, which runs on",
		whose: gridengineJob, do: geCheckpoint, env: runtimeDir, limit: 8 * time.Second,
	},
	"ge-migrate": {
		does:  "migr_command of Grid Engine: save the job and end it",
		whose: gridengineJob, do: geMigrate, env: runtimeDir, limit: time.Hour,
	},
	"ge-clean": {
		does:  "clean_command of Grid Engine: what the job left on this host",
		whose: gridengineJob, do: geClean, limit: 8 * time.Second,
	},
}

// runtimeDir is where monitors can be told to have their sockets.
var runtimeDir = []string{"ESKY_RUNTIME_DIR"}

const (
	program = "esky-hook"
	// asUser is the hidden first argument of the user's process.
	asUser = "__as-user"
)

// calledAs are the verbs by which schedulers call a program that takes no words
// of ours: links of these names lead here.
var calledAs = map[string]string{
	"echkpnt.esky": "lsf-checkpoint", "erestart.esky": "lsf-restart",
	"torque-checkpoint": "torque-checkpoint", "torque-restart": "torque-restart",
}

func main() {
	args := os.Args[1:]
	if name, ok := calledAs[filepath.Base(os.Args[0])]; ok {
		args = append([]string{name}, args...)
	}
	os.Exit(run(args))
}

func run(args []string) int {
	if len(args) == 1 && args[0] == probeVerb {
		return probe()
	}
	child := len(args) > 0 && args[0] == asUser
	if child {
		args = args[1:]
	}
	if len(args) == 0 || verbs[args[0]].do == nil {
		usage(os.Stderr)
		return 64
	}
	v, name := verbs[args[0]], args[0]
	seen := map[string]string{}
	j, err := v.whose(args[1:], func(key string) string { seen[key] = os.Getenv(key); return seen[key] })
	switch {
	case err == nil && child:
		return asTheUser(v, j, args[1:])
	case err == nil && v.inPlace:
		if err = j.user.AllGroups().Become(); err == nil {
			err = v.do(j, args[1:])
		}
	case err == nil:
		err = v.delegate(j, args, seen)
	}
	if err != nil {
		guard.Log(program, fmt.Sprintf("%s: job %s: %v", name, cmp.Or(j.id, "unknown"), err))
		return 1
	}
	return 0
}

// delegate starts the user's process, and logs what it says.
func (v verb) delegate(j job, args []string, env map[string]string) error {
	for _, key := range v.env {
		env[key] = os.Getenv(key)
	}
	c := guard.Child{User: j.user, Args: append([]string{asUser}, args...), Limit: v.limit}
	if v.inTurn && os.Geteuid() == 0 {
		if err := takeTurn(&c, args[1:]); err != nil {
			return err
		}
		defer c.Turn.Close()
	}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		if env[key] != "" {
			c.Env = append(c.Env, key+"="+env[key])
		}
	}
	said, err := v.start(c, args[1:])
	said = strings.TrimSpace(said)
	var status *guard.Status
	switch {
	case said == "":
		return err
	case errors.As(err, &status):
		return errors.New(said)
	}
	guard.Log(program, fmt.Sprintf("%s: job %s: %s", args[0], j.id, said))
	return err
}

// takeTurn waits for the child's turn, which is part of its time.
func takeTurn(c *guard.Child, args []string) error {
	begin := time.Now()
	if len(args) > 0 {
		seconds, err := guard.Number("the limit", args[0])
		if err != nil {
			return err
		}
		c.Limit = time.Duration(seconds) * time.Second
	}
	var err error
	c.Turn, err = guard.TakeTurn(c.User, c.Limit)
	c.Limit = max(c.Limit-time.Since(begin), time.Second)
	return err
}

func (v verb) start(c guard.Child, args []string) (string, error) {
	if v.keep == nil {
		return c.Run()
	}
	answer, said, err := c.Ask(v.most)
	if err == nil {
		err = v.keep(args, answer)
	}
	return said, err
}

// asTheUser is the user's process. What it writes is logged by root's.
func asTheUser(v verb, j job, args []string) int {
	syscall.Umask(0o077)
	err := j.user.Check()
	if err == nil {
		err = v.do(j, args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func usage(w io.Writer) {
	fmt.Fprintf(w, "usage: %s VERB …   (called by schedulers)\n", program)
	for _, name := range slices.Sorted(maps.Keys(verbs)) {
		fmt.Fprintf(w, "  %-18s %s\n", name, verbs[name].does)
	}
}
