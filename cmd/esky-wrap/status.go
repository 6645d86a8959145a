// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/store"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "what jobs are doing (all of the store without JOB)",
		UsageText: "esky-wrap status [JOB…]\n   esky-wrap status --of ID",
		Flags:     []cli.Flag{storeFlag(), ofFlag(), jsonFlag()},
		Action:    showStatus,
	}
}

// jobStatus is a job as status shows it.
type jobStatus struct {
	Job     string            `json:"job"`
	State   string            `json:"state"`
	Host    string            `json:"host,omitempty"`
	Where   string            `json:"where,omitempty"`
	Command []string          `json:"command,omitempty"`
	Images  []imageInfo       `json:"images"`
	Unseen  string            `json:"unseen_images,omitempty"` // where there may be more
	Done    *store.DoneRecord `json:"done,omitempty"`
	Monitor *monitor.State    `json:"monitor,omitempty"`
	Ask     string            `json:"no_answer,omitempty"` // why the monitor did not say
}

// imageInfo is a published image in lists.
type imageInfo struct {
	Generation uint32    `json:"generation"`
	Dir        string    `json:"dir"`
	Time       time.Time `json:"time"`
	Bytes      int64     `json:"bytes"`
	Local      bool      `json:"local,omitempty"` // on this host only
}

func imagesOf(p *monitor.Place) ([]imageInfo, error) {
	gens, err := p.Images()
	if err != nil {
		return nil, err
	}
	all := []imageInfo{}
	for _, g := range gens {
		all = append(all, imageInfo{g.Number, g.Dir, g.Time, g.Size, filepath.Dir(g.Dir) != p.Store.Dir()})
	}
	return all, nil
}

func (i imageInfo) where() string {
	if i.Local {
		return ", on this host only"
	}
	return ""
}

func showStatus(c *cli.Context) error {
	if c.IsSet("of") {
		return statusOfAll(c)
	}
	found, err := places(c)
	if err != nil {
		return err
	}
	all := []jobStatus{}
	for _, p := range found {
		s, err := statusOf(c.Context, p)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	u := newUI(c.Bool("json"), false)
	return u.answer(oneOrAll(c, all), func(w io.Writer) error {
		for _, s := range all {
			if _, err := io.WriteString(w, s.text()); err != nil {
				return err
			}
		}
		return nil
	})
}

// oneOrAll makes the answer about one named job an object, not a list of one.
func oneOrAll[T any](c *cli.Context, all []T) any {
	if c.NArg() == 1 && len(all) == 1 {
		return all[0]
	}
	return all
}

// answerTime is how long a monitor may take to say how it is.
const answerTime = 5 * time.Second

func statusOf(ctx context.Context, p *monitor.Place) (jobStatus, error) {
	s := jobStatus{Job: p.Job, State: p.State(), Done: p.Done}
	var err error
	if s.Images, err = imagesOf(p); err != nil {
		return s, err
	}
	s.Unseen = p.Elsewhere()
	if p.Holder != nil {
		s.Host, s.Where, s.Command = p.Holder.Host, monitor.Whereabouts(p.Holder), p.Holder.Command
	}
	if s.State != "running" || !p.Here {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	reply, err := p.Ask(ctx, monitor.Request{Op: "status"}, nil)
	switch {
	case err != nil:
		s.Ask = err.Error()
	case reply.State != nil:
		s.Monitor, s.State = reply.State, reply.State.State
	}
	return s, nil
}

func (s jobStatus) text() string {
	lines := []string{fmt.Sprintf("%s: %s", s.Job, s.State)}
	add := func(format string, args ...any) { lines = append(lines, "  "+printable(fmt.Sprintf(format, args...))) }
	switch s.State {
	case "finished":
		add("ended with status %d on %s, %s", s.Done.Status, s.Done.Host, s.Done.Time.Format(time.DateTime))
	case "saved", "not running":
		if s.Where != "" {
			add("was %s", s.Where)
		}
	default:
		add("%s", s.Where)
	}
	if len(s.Command) > 0 {
		add("runs %s", strings.Join(s.Command, " "))
	}
	if m := s.Monitor; m != nil {
		add("attempt %d, %s of memory, %s of CPU time", m.Attempt, humanize.IBytes(uint64(m.Memory)),
			brief(time.Duration(m.CPU*float64(time.Second))))
		if !m.Next.IsZero() {
			add("next checkpoint %s", m.Next.Format(time.DateTime))
		}
		if !m.Leave.IsZero() {
			add("leaves %s, ahead of the time limit %s", m.Leave.Format(time.DateTime), m.Limit.Format(time.DateTime))
		}
	}
	if s.Ask != "" {
		add("its monitor does not say more: %s", s.Ask)
	}
	for i, g := range s.Images {
		if i == 0 {
			add("newest image %d, %s, %s old%s", g.Generation, humanize.IBytes(uint64(g.Bytes)), time.Since(g.Time).Round(time.Second), g.where())
		}
	}
	if s.Unseen != "" {
		add("newer images may be in %s", s.Unseen)
	}
	return strings.Join(lines, "\n") + "\n"
}
