// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/sched"
)

// prognosis is what doctor reads in a job script that is not submitted yet.
type prognosis struct {
	Script    string   `json:"script"`
	Scheduler string   `json:"scheduler,omitempty"`
	Advice    []string `json:"advice"`
}

// doctorScript tells from a job script, or what else describes a job, alone what would happen to the job.
func doctorScript(c *cli.Context, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return monitor.Fail(monitor.ExitNotFound, "", "read the job script: %w", err)
	}
	p := prognosis{Script: path}
	reader, advice := sched.ReadScript(string(text))
	if reader != nil {
		p.Scheduler = reader.Name()
	}
	p.Advice = append([]string{}, advice...)
	return newUI(c.Bool("json"), false).answer(p, p.print)
}

func (p prognosis) print(w io.Writer) error {
	head := p.Script + ": no directives of a batch system that is known"
	if p.Scheduler != "" {
		head = p.Script + ": a job for " + p.Scheduler
	}
	if len(p.Advice) == 0 {
		head += ", nothing to mend"
	}
	for _, line := range append([]string{head}, p.Advice...) {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}
