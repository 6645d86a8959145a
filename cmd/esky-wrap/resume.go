// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
)

func resumeCommand() *cli.Command {
	return &cli.Command{
		Name:      "resume",
		Usage:     "resume a saved job here, without its command line",
		UsageText: "esky-wrap resume [flags] JOB",
		Flags:     append(lifeFlags(), generationFlag("resume generation `N` and no other (default: the newest good one)")),
		Action:    resumeJob,
	}
}

func resumeJob(c *cli.Context) error {
	signals, stop := monitor.CatchSignals()
	defer stop()
	cfg, err := life(c)
	if err != nil {
		return err
	}
	args, err := names(c, 1, 1)
	if err != nil {
		return err
	}
	if c.IsSet("generation") {
		if cfg.Generation, err = generation(c); err != nil {
			return err
		}
	}
	// Only a job that has been here before: a typing error makes no directory.
	if _, err := locate(c, args[0]); err != nil {
		return err
	}
	cfg.Name, cfg.Env, cfg.Signals = args[0], os.Environ(), signals
	return monitorJob(c, cfg)
}
