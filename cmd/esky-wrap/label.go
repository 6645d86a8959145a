// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

func labelCommand() *cli.Command {
	return &cli.Command{
		Name:      "host-label",
		Usage:     "one word for the kind of machine that this host is, or that an image needs",
		UsageText: "esky-wrap host-label [[--generation N] JOB | DIR]",
		Flags:     []cli.Flag{storeFlag(), generationFlag("generation `N` (default: the newest)"), jsonFlag()},
		Action:    hostLabel,
	}
}

// machine is the answer to host-label.
type machine struct {
	Label string `json:"label"`
}

func hostLabel(c *cli.Context) error {
	h, err := machineOf(c)
	if err != nil {
		return err
	}
	m := machine{Label: host.Label(h)}
	return newUI(c.Bool("json"), false).answer(m, m.print)
}

// machineOf describes the host of the image that is named, or this one.
func machineOf(c *cli.Context) (*imagepb.Host, error) {
	if !c.Args().Present() {
		return host.Describe()
	}
	r, err := openNamed(c)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.Meta().GetHost(), nil
}

func (m machine) print(w io.Writer) error {
	_, err := fmt.Fprintln(w, m.Label)
	return err
}
