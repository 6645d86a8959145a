// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/foreign"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/monitor"
	"github.com/esky-hpc/esky/internal/native"
	"github.com/esky-hpc/esky/internal/providers"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
	"github.com/esky-hpc/esky/plugin"
)

// chooseEngine sets the engine of the provider that was asked for. Without one it
// is the provider that made the job's images, and our own where there are none.
func chooseEngine(c *cli.Context, cfg *monitor.Config) error {
	name := c.String("provider")
	if name == "" {
		name = madeBy(cfg)
	}
	options, err := providerOptions(c.StringSlice("provider-opt"))
	if err != nil {
		return err
	}
	if name == native.Name {
		if len(options) > 0 {
			return bad("provider-opt", "the provider %s has none: use the flags of this command", name)
		}
		cfg.Engine = monitor.Native{}
		return nil
	}
	f, err := provider(c, name, func(text string) {
		cfg.Reporter.Report(monitor.Event{Level: monitor.Warning, Event: "provider", Job: cfg.Name, Text: text})
	})
	if err != nil {
		return err
	}
	f.Options = options
	cfg.Engine, cfg.Foreign = foreign.New(f), true
	return nil
}

// provider finds one that is not our own engine.
func provider(c *cli.Context, name string, say func(text string)) (f foreign.Config, err error) {
	f = foreign.Config{Name: name, Say: say}
	if f.Silence, err = silence(); err != nil {
		return f, err
	}
	if make, ok := providers.All[name]; ok {
		f.Builtin = make(c.App.Version)
	} else if f.Found, err = plugin.Find(plugin.ProviderPrefix, name); err != nil {
		return f, pluginError(err)
	}
	return f, nil
}

// findAdapter is the scheduler that we run under: of a plugin, since a site knows
// best, or one of ours.
func findAdapter(ctx context.Context, f sched.Facts, say func(text string)) (sched.Adapter, bool) {
	if s, ok := foreign.FindScheduler(ctx, f, say); ok {
		return s, true
	}
	return sched.Find(f.Env)
}

// silenceVariable names how long a plugin may go without a word of progress.
const silenceVariable = "ESKY_PLUGIN_SILENCE"

func silence() (time.Duration, error) {
	text := os.Getenv(silenceVariable)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, monitor.Fail(monitor.ExitUsage, "", "%s: %q is no duration such as 5m", silenceVariable, text)
	}
	return d, nil
}

// pluginError makes an error of ours of one of package plugin.
func pluginError(err error) error {
	var e *plugin.Error
	if !errors.As(err, &e) {
		return err
	}
	code := monitor.ExitCannot
	if e.Kind == plugin.Usage {
		code = monitor.ExitUsage
	}
	return monitor.Fail(code, e.Hint, "%w", err)
}

// madeBy is the provider that made the newest image of a job.
func madeBy(cfg *monitor.Config) string {
	if cfg.Name == "" {
		return native.Name
	}
	s, err := store.Existing(cfg.Store, cfg.Name)
	if err != nil {
		return native.Name
	}
	all, err := s.Generations()
	if err != nil || len(all) == 0 {
		return native.Name
	}
	r, err := image.Open(all[0].Dir)
	if err != nil {
		return native.Name
	}
	defer r.Close()
	if f := r.Meta().GetForeign(); f != nil {
		return f.Provider
	}
	return native.Name
}

func providerOptions(list []string) (map[string]string, error) {
	options := map[string]string{}
	for _, o := range list {
		name, value, ok := strings.Cut(o, "=")
		if !ok || name == "" {
			return nil, bad("provider-opt", "%q is not NAME=VALUE", o)
		}
		options[name] = value
	}
	return options, nil
}
