// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/esky-hpc/esky/internal/guard"
)

// LSF calls echkpnt.METHOD and erestart.METHOD, links to this program, as the
// job's user:
//
//	echkpnt.esky [-c] [-f] [-k | -s] [-d DIR] [-x] PROCESS_GROUP
//	erestart.esky [-c] [-f] DIR
//
// A restart starts nothing: it may write a command to DIR/.restart_cmd, which LSF
// then runs instead of the one that was submitted.

// lsfRecord is the name of a record in a job's checkpoint directory.
const lsfRecord = ".esky"

// lsfJob is the job of the environment, as esky's adapter calls it.
func lsfJob(_ []string, env func(string) string) (job, error) {
	id, index := env("LSB_JOBID"), env("LSB_JOBINDEX")
	if index != "" && index != "0" {
		id += "[" + index + "]"
	}
	if !plainID(id) {
		return job{}, fmt.Errorf("LSB_JOBID is %.40q, not the number of a job", id)
	}
	return job{id: id, user: guard.User{UID: os.Getuid(), GID: os.Getgid()}}, nil
}

func lsfCheckpoint(j job, args []string) error {
	flags := flag.NewFlagSet("echkpnt", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	kill, stop := flags.Bool("k", false, ""), flags.Bool("s", false, "")
	dir := flags.String("d", os.Getenv("LSB_CHKPNT_DIR"), "")
	for _, ignored := range []string{"c", "f", "x"} {
		flags.Bool(ignored, false, "")
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch {
	case *stop:
		return errors.New("-s: esky saves a job and lets it run, or ends it; it does not stop it")
	case *dir == "":
		return errors.New("neither -d nor LSB_CHKPNT_DIR says where the checkpoint directory is")
	}
	text, err := saveNative(j.id, *kill)
	if err != nil {
		return err
	}
	return writeRecord(filepath.Join(*dir, lsfRecord), text)
}

func lsfRestart(_ job, args []string) error {
	dir := os.Getenv("LSB_CHKPNT_DIR")
	if dir == "" && len(args) > 0 {
		dir = args[len(args)-1]
	}
	path := filepath.Join(dir, lsfRecord)
	if _, err := readRecord(path); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	line := fmt.Sprintf("LSB_RESTART_CMD=%s again %s\n", shellWord(self), shellWord(path))
	return writeRecord(filepath.Join(dir, ".restart_cmd"), []byte(line))
}

func shellWord(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// again starts what a record says: "esky-hook again FILE", as its user.
func again(_ job, args []string) error {
	if len(args) != 1 {
		return errors.New("again needs the name of a record")
	}
	return execRecordAt(args[0])
}

// ownJob is for verbs that anybody may call for themselves.
func ownJob([]string, func(string) string) (job, error) {
	return job{user: guard.User{UID: os.Getuid(), GID: os.Getgid()}}, nil
}
