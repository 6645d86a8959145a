// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/sched"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "start a job, or resume it if there is a good image of it",
		UsageText: "esky-wrap run [flags] [--] CMD [ARG…]",
		Description: "The same line starts and resumes a job: exec it as the last line of a job script.\n" +
			"The job's exit status is passed on; 75 (or what the scheduler knows) means: saved, run me again.",
		Flags: append(append(lifeFlags(),
			&cli.StringFlag{Name: "name", Usage: "`JOB` key in the store (default: the scheduler's job id, else from CMD and the directory)"},
			&cli.BoolFlag{Name: "fresh", Usage: "forget images and the result of earlier runs, start from the beginning"},
		), later()...),
		Action: runJob,
	}
}

func runJob(c *cli.Context) error {
	signals, stop := monitor.CatchSignals()
	defer stop()
	if err := refuseLater(c); err != nil {
		return err
	}
	cfg, err := life(c)
	if err != nil {
		return err
	}
	if !c.Args().Present() {
		return monitor.Fail(monitor.ExitUsage, "esky-wrap run [flags] [--] CMD [ARG…]", "run needs a command")
	}
	cfg.Command, cfg.Env, cfg.Fresh = c.Args().Slice(), os.Environ(), c.Bool("fresh")
	if c.IsSet("name") {
		cfg.Name = c.String("name")
		if err := checkName(cfg.Name); err != nil {
			return err
		}
	}
	cfg.Signals = signals
	return monitorJob(c, cfg)
}

// monitorJob runs a monitor and turns what it returns into an exit status.
func monitorJob(c *cli.Context, cfg monitor.Config) error {
	facts, err := sched.Gather(cfg.Command)
	if err != nil {
		return err
	}
	if here, err := host.Describe(); err == nil {
		facts.HostLabel = host.Label(here)
	}
	cfg.Facts = facts
	cfg.Reporter = newUI(c.Bool("json"), c.Bool("quiet"))
	cfg.Adapter, _ = findAdapter(c.Context, facts, func(text string) {
		cfg.Reporter.Report(monitor.Event{Level: monitor.Warning, Event: "scheduler", Text: text})
	})
	if err := chooseEngine(c, &cfg); err != nil {
		return err
	}
	defer keepTerminal()()
	code, err := monitor.Run(c.Context, cfg)
	if err != nil {
		return err
	}
	return status(code)
}
