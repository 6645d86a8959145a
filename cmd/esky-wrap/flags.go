// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
)

func storeFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "store", Usage: "where images live: those of a job in `DIR`/JOB/", EnvVars: []string{"ESKY_STORE"}, Value: ".esky",
	}
}

func jsonFlag() cli.Flag { return &cli.BoolFlag{Name: "json", Usage: "for programs: JSON"} }

func quietFlag() cli.Flag {
	return &cli.BoolFlag{Name: "quiet", Usage: "say nothing but warnings and errors"}
}

func generationFlag(usage string) cli.Flag {
	return &cli.UintFlag{Name: "generation", Usage: usage}
}

// lifeFlags are those of run and resume.
func lifeFlags() []cli.Flag {
	return []cli.Flag{
		storeFlag(),
		&cli.StringFlag{Name: "local", EnvVars: []string{"ESKY_LOCAL"}, Usage: "write images to `DIR` on this host first, and bring them to the store afterwards"},
		&cli.StringFlag{Name: "every", Usage: "checkpoint periodically, every `DUR` (30m, 2h), or auto: as often as it pays"},
		&cli.StringFlag{Name: "on-signal", Usage: "`SIG,…` that mean \"checkpoint and leave\"; none: all go to the job (default: by scheduler)"},
		&cli.StringFlag{Name: "margin", Value: "auto", Usage: "leave `DUR` before the wall-clock limit; auto: as long as the dump takes"},
		&cli.IntFlag{Name: "keep", Value: 2, Usage: "generations to keep, `N`"},
		&cli.StringFlag{Name: "compress", Value: "none", Usage: "none, s2 or zstd[:LEVEL]"},
		&cli.StringFlag{Name: "files", Value: "rollback", Usage: "files that changed since the checkpoint: rollback, accept or strict"},
		&cli.StringFlag{Name: "mode", EnvVars: []string{"ESKY_MODE"}, Usage: "how the job keeps its process numbers: namespace or shim (default: namespace where the host allows it)"},
		&cli.StringFlag{Name: "provider", Usage: "who saves the job: native, application (the program itself), or the plugin `NAME` (default: who made its images, else native)"},
		&cli.StringSliceFlag{Name: "provider-opt", Usage: "an option of the provider's own, `NAME=VALUE`; may be repeated"},
		jsonFlag(), quietFlag(),
	}
}

// life turns the flags of run and resume into a configuration.
func life(c *cli.Context) (monitor.Config, error) {
	cfg := monitor.Config{
		Store: c.String("store"), Local: c.String("local"), Keep: c.Int("keep"), Files: c.String("files"), Mode: c.String("mode"), Version: c.App.Version,
	}
	var err error
	if cfg.Every, err = span(c, "every", false); err != nil {
		return cfg, err
	}
	if cfg.Margin, err = span(c, "margin", true); err != nil {
		return cfg, err
	}
	if list := c.String("on-signal"); list != "" {
		if cfg.OnSignal, err = monitor.ParseSignals(list); err != nil {
			return cfg, err
		}
	}
	if cfg.Codec, err = image.ParseCodec(c.String("compress")); err != nil {
		return cfg, bad("compress", "%w", err)
	}
	if cfg.Keep < 1 {
		return cfg, bad("keep", "%d is less than 1", cfg.Keep)
	}
	switch cfg.Mode {
	case "", engine.ModeNamespace, engine.ModeShim:
	default:
		return cfg, bad("mode", "%q is neither namespace nor shim", cfg.Mode)
	}
	switch cfg.Files {
	case "rollback", "accept", "strict":
	default:
		return cfg, bad("files", "%q is none of rollback, accept, strict", cfg.Files)
	}
	return cfg, nil
}

// span is a duration or auto. Without the flag a period is never.
func span(c *cli.Context, name string, mayBeZero bool) (monitor.Span, error) {
	text := c.String(name)
	switch text {
	case "":
		if c.IsSet(name) {
			return monitor.Span{}, bad(name, "it is empty")
		}
		return monitor.Span{}, nil
	case "auto":
		return monitor.Span{Auto: true}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return monitor.Span{}, bad(name, "%q is neither a duration such as 90s or 1h30m, nor auto", text)
	}
	if d < 0 || d == 0 && !mayBeZero {
		return monitor.Span{}, bad(name, "%s is not a time to wait", text)
	}
	return monitor.Span{D: d}, nil
}

func bad(flag, format string, args ...any) error {
	return monitor.Fail(monitor.ExitUsage, "", "--"+flag+": "+format, args...)
}

// later are flags of the command line's contract that this version does not
// serve: refused, never ignored.
func later() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "portable", Hidden: true},
		&cli.StringFlag{Name: "cpu-baseline", Hidden: true},
	}
}

func refuseLater(c *cli.Context) error {
	for _, name := range []string{"portable", "cpu-baseline"} {
		if c.IsSet(name) {
			return monitor.Fail(monitor.ExitUsage, "leave it out", "--%s is not served by this version of esky", name)
		}
	}
	return nil
}

// checkName refuses what cannot be a job's key before it becomes a path.
func checkName(job string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	if job == "" || len(job) > 200 || job[0] == '.' || strings.Trim(job, allowed) != "" {
		return monitor.Fail(monitor.ExitUsage, "use letters, digits, '.', '_' and '-', at most 200, no '.' in front", "%q cannot be the name of a job", job)
	}
	return nil
}

// names returns the positional arguments: at least least, at most most of them
// (most < 0: any number).
func names(c *cli.Context, least, most int) ([]string, error) {
	args := c.Args().Slice()
	for _, a := range args {
		// Flags after a name would be taken for names; a --stop that is not
		// obeyed is worse than an error.
		if strings.HasPrefix(a, "-") {
			return nil, monitor.Fail(monitor.ExitUsage, "flags go before the names", "%q comes after a name", a)
		}
	}
	switch {
	case len(args) < least:
		return nil, monitor.Fail(monitor.ExitUsage, "`esky-wrap list` shows the jobs", "%s needs the name of a job", c.Command.Name)
	case most >= 0 && len(args) > most:
		return nil, monitor.Fail(monitor.ExitUsage, "", "%s takes one name, not %d", c.Command.Name, len(args))
	}
	return args, nil
}
