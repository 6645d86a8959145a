// SPDX-License-Identifier: Apache-2.0

// esky-wrap is the command in job scripts: `exec esky-wrap run -- ./prog args`
// starts a job, or resumes it if it was saved. The other verbs look at jobs and
// images. docs/command.md describes it, docs/exit-codes.md its exit statuses.
//
// There is a file a verb; what they share is in flags.go, target.go, ui.go and
// progress.go. The work is done by package monitor and those below it.
package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/providers"
	_ "github.com/esky-hpc/esky/internal/schedulers" // each registers its adapter
	"github.com/esky-hpc/esky/internal/version"
)

func main() {
	if providers.Main(os.Args) {
		return
	}
	if os.Getpid() == 1 {
		code, err := asFirst(os.Args)
		if err != nil {
			newUI(wantsJSON(os.Args), false).fail(err)
			code = monitor.Code(err)
		}
		os.Exit(code)
	}
	os.Exit(run(os.Args))
}

// run is the whole program but for its hidden verbs; it returns the exit status.
func run(args []string) int {
	err := app().Run(args)
	var exit status
	if errors.As(err, &exit) {
		return int(exit)
	}
	if err != nil {
		newUI(wantsJSON(args), false).fail(err)
	}
	return monitor.Code(err)
}

// status is an exit status that needs no message: the job's, or one that was
// explained already.
type status int

func (status) Error() string { return "exit" }

func app() *cli.App {
	a := &cli.App{
		Name:            "esky-wrap",
		Usage:           "checkpoint and restart for batch jobs",
		Version:         version.String(),
		HideHelpCommand: true,
		Writer:          os.Stdout,
		ErrWriter:       os.Stderr,
		ExitErrHandler:  func(*cli.Context, error) {}, // run decides
		OnUsageError:    usageError,
		Action:          noVerb,
		Commands: []*cli.Command{
			runCommand(), checkpointCommand(), resumeCommand(), statusCommand(), listCommand(), showCommand(),
			verifyCommand(), matchCommand(), labelCommand(), doctorCommand(), pruneCommand(), adoptCommand(),
		},
	}
	for _, c := range a.Commands {
		c.OnUsageError = usageError
		c.HideHelpCommand = true // `run help` runs a program called help
	}
	return a
}

// noVerb is for a first argument that is none, or not known.
func noVerb(c *cli.Context) error {
	if c.Args().Present() {
		return monitor.Fail(monitor.ExitUsage, "`esky-wrap --help` lists them", "there is no command %q", c.Args().First())
	}
	if err := cli.ShowAppHelp(c); err != nil {
		return err
	}
	return status(monitor.ExitUsage)
}

func usageError(c *cli.Context, err error, _ bool) error {
	name := "esky-wrap"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		name += " " + c.Command.Name
	}
	return monitor.Fail(monitor.ExitUsage, "see `"+name+" --help`", "%w", err)
}

// wantsJSON looks for --json among our own flags, for errors that come before
// they are parsed.
func wantsJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--json", "-json":
			return true
		case "--":
			return false
		}
	}
	return false
}
