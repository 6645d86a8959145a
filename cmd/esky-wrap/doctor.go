// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/sched"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "what this host allows, what is missing, and what to ask the administrator for",
		UsageText: "esky-wrap doctor [flags]",
		Flags: []cli.Flag{storeFlag(), jsonFlag(), &cli.StringFlag{
			Name: "script", Usage: "say what would happen to the job of this script, which need not be submitted yet", TakesFile: true,
		}},
		Action: doctor,
	}
}

// diagnosis is the answer of doctor.
type diagnosis struct {
	Host      string         `json:"host"`
	Version   string         `json:"esky_version"`
	OK        bool           `json:"ok"`
	Mode      string         `json:"mode"` // namespace or shim
	Checks    []host.Check   `json:"checks"`
	Scheduler string         `json:"scheduler"`
	Job       string         `json:"job,omitempty"`
	Limit     time.Time      `json:"time_limit,omitzero"`
	Grace     float64        `json:"grace_seconds,omitempty"`
	Outlook   *sched.Outlook `json:"outlook,omitempty"`
	Warnings  []string       `json:"warnings"`
}

func doctor(c *cli.Context) error {
	if c.Args().Present() {
		return monitor.Fail(monitor.ExitUsage, "", "doctor takes no names")
	}
	if path := c.String("script"); path != "" {
		return doctorScript(c, path)
	}
	d := diagnosis{Version: c.App.Version, Warnings: []string{}}
	d.Host, _ = os.Hostname()
	d.Checks = append(host.Probe(), storeCheck(c.String("store")))
	d.chooseMode()
	d.OK = len(host.Missing(d.Checks)) == 0
	d.schedule(c.Context)
	if err := newUI(c.Bool("json"), false).answer(d, d.print); err != nil {
		return err
	}
	if !d.OK {
		return status(monitor.ExitCannot)
	}
	return nil
}

// schedule asks the scheduler that we run under, if any.
func (d *diagnosis) schedule(ctx context.Context) {
	facts, err := sched.Gather(nil)
	if err != nil {
		d.Warnings = append(d.Warnings, err.Error())
		return
	}
	adapter, found := findAdapter(ctx, facts, func(text string) { d.Warnings = append(d.Warnings, text) })
	d.Scheduler = adapter.Name()
	if !found {
		return
	}
	j, err := adapter.Describe(ctx, facts)
	if err != nil {
		d.Warnings = append(d.Warnings, err.Error())
		return
	}
	d.Job, d.Limit, d.Grace = j.ID, j.End, j.Grace.Seconds()
	d.Warnings = append(d.Warnings, j.Warnings...)
	if fc, ok := adapter.(sched.Forecaster); ok {
		o := fc.Forecast(facts, j)
		d.Outlook = &o
	}
}

// storeCheck tells whether images could be written, without making anything.
func storeCheck(dir string) host.Check {
	check := host.Check{Name: "store", Needed: true}
	abs, err := filepath.Abs(dir)
	if err != nil {
		check.Detail, check.Fix = err.Error(), "a working directory that exists"
		return check
	}
	at := abs
	for at != "/" {
		if _, err := os.Stat(at); err == nil {
			break
		}
		at = filepath.Dir(at) // it is made when it is needed
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		check.Detail = fmt.Sprintf("%s cannot be written: %v", at, err)
		check.Fix = "a directory that all hosts of the job share, for --store or ESKY_STORE"
		return check
	}
	check.OK, check.Detail = true, abs+" can be written"
	return check
}

func (d diagnosis) print(w io.Writer) error {
	for _, c := range d.Checks {
		mark := "ok     "
		switch {
		case !c.OK && c.Needed:
			mark = "MISSING"
		case !c.OK:
			mark = "reduced"
		}
		if _, err := fmt.Fprintf(w, "%s  %s\n", mark, printable(c.String())); err != nil {
			return err
		}
	}
	for _, line := range d.conclusions() {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

func (d diagnosis) conclusions() []string {
	var lines []string
	if d.Job != "" {
		line := fmt.Sprintf("job %s of %s", d.Job, d.Scheduler)
		if !d.Limit.IsZero() {
			line += ", ends at " + d.Limit.Format(time.DateTime)
		}
		if d.Grace > 0 {
			line += fmt.Sprintf(", %g s between the signal to end and the kill", d.Grace)
		}
		lines = append(lines, line)
	}
	if o := d.Outlook; o != nil {
		lines = append(lines, "  how it hears of its end: "+o.Warned, "  who brings it back: "+o.Back, "  its output: "+o.Output)
		for _, s := range o.User {
			lines = append(lines, "  you can: "+s)
		}
		for _, s := range o.Admin {
			lines = append(lines, "  your site can: "+s)
		}
	}
	for _, w := range d.Warnings {
		lines = append(lines, "warning: "+w)
	}
	if d.OK {
		return append(lines, d.Host+" can run, save and resume jobs")
	}
	return append(lines, d.Host+" cannot run jobs under esky: see MISSING")
}
