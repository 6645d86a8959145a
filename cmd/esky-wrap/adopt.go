// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
)

func adoptCommand() *cli.Command {
	return &cli.Command{
		Name:      "adopt",
		Usage:     "checkpoint a program that was started without esky, with all its children",
		UsageText: "esky-wrap adopt [flags] PID",
		Description: "The process PID, all that descends from it, and all in the sessions and process groups that these lead\n" +
			"become a job: `esky-wrap resume JOB` brings it back, with the same pids, here or on another host.",
		Flags: []cli.Flag{
			storeFlag(),
			&cli.StringFlag{Name: "name", Usage: "`JOB` key in the store (default: the program's name and PID)"},
			&cli.BoolFlag{Name: "stop", Usage: "end it (SIGKILL) as soon as the image is published and checked"},
			&cli.BoolFlag{Name: "cut", Usage: "pipes that lead to other processes come back with nobody at the other end (default: refused)"},
			&cli.IntFlag{Name: "keep", Value: 2, Usage: "generations to keep, `N`"},
			&cli.StringFlag{Name: "compress", Value: "none", Usage: "none, s2 or zstd[:LEVEL]"},
			jsonFlag(), quietFlag(),
		},
		Action: adopt,
	}
}

func adopt(c *cli.Context) error {
	cfg, err := adoptConfig(c)
	if err != nil {
		return err
	}
	// Until the image is complete these leave the processes running, and no image.
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	u := newUI(c.Bool("json"), c.Bool("quiet"))
	cfg.Reporter = u
	a, err := monitor.Adopt(ctx, cfg)
	if err != nil {
		return err
	}
	if u.quiet && !u.json {
		return nil
	}
	return u.answer(a, func(w io.Writer) error { return saidAdopted(w, c, a) })
}

func adoptConfig(c *cli.Context) (monitor.AdoptConfig, error) {
	cfg := monitor.AdoptConfig{Store: c.String("store"), Stop: c.Bool("stop"), Cut: c.Bool("cut"), Keep: c.Int("keep"), Version: c.App.Version}
	args := c.Args().Slice()
	if len(args) != 1 {
		return cfg, monitor.Fail(monitor.ExitUsage, "esky-wrap adopt [flags] PID; flags go before it", "adopt needs one process id")
	}
	pid, err := strconv.Atoi(args[0])
	if err != nil || pid < 1 {
		return cfg, monitor.Fail(monitor.ExitUsage, "`pgrep -u $USER -a` shows yours", "%q is not a process id", args[0])
	}
	cfg.Pid = pid
	if c.IsSet("name") {
		cfg.Name = c.String("name")
		if err := checkName(cfg.Name); err != nil {
			return cfg, err
		}
	}
	if cfg.Keep < 1 {
		return cfg, bad("keep", "%d is less than 1", cfg.Keep)
	}
	if cfg.Codec, err = image.ParseCodec(c.String("compress")); err != nil {
		return cfg, bad("compress", "%w", err)
	}
	return cfg, nil
}

func saidAdopted(w io.Writer, c *cli.Context, a *monitor.Adopted) error {
	then := "it runs on"
	if a.Stopped {
		then = "it was ended"
	}
	again := "esky-wrap resume"
	if c.IsSet("store") {
		again += " --store " + c.String("store")
	}
	_, err := fmt.Fprintf(w, "adopted process %d as %s: %s in %s, it stood still for %s; %s; `%s %s` brings it back from %s\n",
		a.Pid, a.Job, humanize.IBytes(uint64(a.Bytes)), brief(a.Took), brief(a.Pause), then, again, a.Job, a.Dir)
	return err
}
