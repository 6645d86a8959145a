// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
)

func checkpointCommand() *cli.Command {
	return &cli.Command{
		Name:      "checkpoint",
		Usage:     "checkpoint a running job now; returns when the image is published",
		UsageText: "esky-wrap checkpoint [--stop] JOB\n   esky-wrap checkpoint [--stop [--no-requeue]] --of ID",
		Flags: []cli.Flag{
			storeFlag(), &cli.BoolFlag{Name: "stop", Usage: "end the job after it, to be resumed elsewhere"},
			&cli.BoolFlag{Name: "no-requeue", Usage: "with --stop: tell the scheduler nothing; who asks brings the job back"},
			ofFlag(), jsonFlag(), quietFlag(),
		},
		Action: checkpointJob,
	}
}

func checkpointJob(c *cli.Context) error {
	if c.Bool("no-requeue") && !c.Bool("stop") {
		return bad("no-requeue", "it goes with --stop")
	}
	if c.IsSet("of") {
		return checkpointOf(c)
	}
	args, err := names(c, 1, 1)
	if err != nil {
		return err
	}
	place, err := locate(c, args[0])
	if err != nil {
		return err
	}
	u := newUI(c.Bool("json"), c.Bool("quiet"))
	update, done := u.Progress("checkpoint")
	reply, err := place.Ask(c.Context, wished(c), update)
	done()
	if err != nil {
		return err
	}
	if u.quiet && !u.json {
		return nil
	}
	return u.answer(reply.Saved, func(w io.Writer) error { return saidSaved(w, args[0], reply.Saved) })
}

// wished is the request that the flags stand for.
func wished(c *cli.Context) monitor.Request {
	return monitor.Request{Op: "checkpoint", Stop: c.Bool("stop"), Quiet: c.Bool("no-requeue")}
}

func saidSaved(w io.Writer, job string, s *monitor.Saved) error {
	if s == nil {
		return monitor.Fail(monitor.ExitInternal, "", "the monitor of %s did not say what it saved", job)
	}
	then := "the job runs on"
	if s.Stopped {
		then = "the job was ended"
	}
	_, err := fmt.Fprintf(w, "checkpoint %d of %s: %s in %s, it stood still for %s; %s\n", s.Generation, job,
		humanize.IBytes(uint64(s.Bytes)), brief(s.Took), brief(s.Pause), then)
	return err
}

// brief is a duration with as many digits as people read.
func brief(d time.Duration) time.Duration {
	switch {
	case d > time.Minute:
		return d.Round(time.Second)
	case d > time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(10 * time.Microsecond)
}
