// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
)

func listCommand() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "the jobs of a store and their images",
		UsageText: "esky-wrap list [JOB…]",
		Flags:     []cli.Flag{storeFlag(), jsonFlag()},
		Action:    list,
	}
}

// jobList is a job as list shows it.
type jobList struct {
	Job    string      `json:"job"`
	State  string      `json:"state"`
	Images []imageInfo `json:"images"`
	Unseen string      `json:"unseen_images,omitempty"` // where there may be more
}

func list(c *cli.Context) error {
	found, err := places(c)
	if err != nil {
		return err
	}
	all := []jobList{}
	for _, p := range found {
		l, err := listed(p)
		if err != nil {
			return err
		}
		all = append(all, l)
	}
	return newUI(c.Bool("json"), false).answer(all, func(w io.Writer) error { return table(w, all) })
}

func listed(p *monitor.Place) (jobList, error) {
	images, err := imagesOf(p)
	return jobList{p.Job, p.State(), images, p.Elsewhere()}, err
}

func table(w io.Writer, all []jobList) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "JOB\tSTATE\tIMAGE\tMADE\tSIZE")
	for _, l := range all {
		if l.Unseen != "" {
			fmt.Fprintf(t, "%s\t%s\t?\tperhaps in %s\t\n", l.Job, l.State, l.Unseen)
		}
		if len(l.Images) == 0 {
			fmt.Fprintf(t, "%s\t%s\t-\t\t\n", l.Job, l.State)
		}
		for _, g := range l.Images {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s%s\n", l.Job, l.State, g.Generation, g.Time.Format(time.DateTime), humanize.IBytes(uint64(g.Bytes)), g.where())
		}
	}
	return t.Flush()
}
