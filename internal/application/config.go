// SPDX-License-Identifier: Apache-2.0

package application

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/BurntSushi/toml"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/plugin"
)

// Config says how a program saves itself. It is a file of TOML; docs/providers.md
// explains it.
type Config struct {
	Restart []string `toml:"restart" json:"restart,omitempty"` // empty: as it was started
	Files   []string `toml:"files" json:"files,omitempty"`     // patterns of what belongs to a checkpoint
	Link    bool     `toml:"link" json:"link,omitempty"`       // files are never changed in place: a hard link is enough
	Timeout string   `toml:"timeout" json:"timeout,omitempty"`
	Ask     Ask      `toml:"ask" json:"ask"`
	Done    Done     `toml:"done" json:"done"`
}

// Ask is how the program is asked for a checkpoint. Nothing of it: the program makes
// them by itself now and then, and the last one counts.
type Ask struct {
	Signal  string   `toml:"signal" json:"signal,omitempty"`
	File    string   `toml:"file" json:"file,omitempty"` // is made, and removed when the checkpoint is there
	Command []string `toml:"command" json:"command,omitempty"`
}

// Done is how a checkpoint is known to be complete. All that is given must hold.
type Done struct {
	File   string `toml:"file" json:"file,omitempty"`     // a pattern: such a file is new, and nobody writes to it
	Output string `toml:"output" json:"output,omitempty"` // an expression: a line of the output matches it
	Exit   []int  `toml:"exit" json:"exit,omitempty"`     // the program ends with one of these
}

// defaultTimeout is how long a program may take for a checkpoint.
const defaultTimeout = 10 * time.Minute

// OptionConfig is the option that names the file with the configuration.
const OptionConfig = "config"

// readConfig reads the file that the options name. A path is relative to the job's
// directory.
func readConfig(options map[string]string, dir string) (Config, error) {
	var c Config
	for name := range options {
		if name != OptionConfig {
			return c, plugin.Errorf(plugin.Usage, "it has only config=FILE", "the provider application has no option %q", name)
		}
	}
	path := options[OptionConfig]
	if path == "" {
		return c, plugin.Errorf(plugin.Usage, "say --provider-opt config=FILE; docs/providers.md tells what is in it", "the provider application needs to know how the program saves itself")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	md, err := toml.DecodeFile(path, &c)
	if err != nil {
		return c, plugin.Errorf(plugin.Usage, "", "read the configuration %s: %v", path, err)
	}
	if unknown := md.Undecoded(); len(unknown) > 0 {
		return c, plugin.Errorf(plugin.Usage, "docs/providers.md has all words", "configuration %s: %q is not known", path, unknown[0].String())
	}
	if err := c.check(); err != nil {
		return c, plugin.Errorf(plugin.Usage, "docs/providers.md has all words", "configuration %s: %v", path, err)
	}
	return c, nil
}

func (c Config) check() error {
	if c.Done.File == "" && len(c.Files) == 0 {
		return fmt.Errorf("neither files nor done.file say which files a checkpoint consists of")
	}
	if c.Done.File == "" && c.Done.Output == "" && len(c.Done.Exit) == 0 {
		return fmt.Errorf("[done] does not say how a checkpoint is known to be there")
	}
	if !c.asks() && (c.Done.Output != "" || len(c.Done.Exit) > 0) {
		return fmt.Errorf("a program that is not asked for checkpoints can be judged by done.file only")
	}
	for _, p := range append([]string{c.Done.File, c.Ask.File}, c.Files...) {
		if _, err := filepath.Match(p, ""); err != nil || p != "" && !filepath.IsLocal(p) {
			return fmt.Errorf("%q is not a pattern of names below the job's directory", p)
		}
	}
	if _, err := regexp.Compile(c.Done.Output); err != nil {
		return fmt.Errorf("done.output: %v", err)
	}
	if c.Ask.Signal != "" && c.signal() == 0 {
		return fmt.Errorf("ask.signal: there is no signal %q", c.Ask.Signal)
	}
	if _, err := c.timeout(); err != nil {
		return fmt.Errorf("timeout: %q is not a time such as 10m", c.Timeout)
	}
	return nil
}

func (c Config) asks() bool {
	return c.Ask.Signal != "" || c.Ask.File != "" || len(c.Ask.Command) > 0
}

// leaves tells whether the program ends by its checkpoint.
func (c Config) leaves() bool { return len(c.Done.Exit) > 0 }

func (c Config) signal() syscall.Signal {
	return unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(c.Ask.Signal), "SIG"))
}

func (c Config) timeout() (time.Duration, error) {
	if c.Timeout == "" {
		return defaultTimeout, nil
	}
	d, err := time.ParseDuration(c.Timeout)
	if err == nil && d <= 0 {
		err = fmt.Errorf("no time")
	}
	return d, err
}

// restart is the command line that goes on from a checkpoint: "{command}" stands for
// the words it was started with, "{file}" for the file that done.file has found.
func (c Config) restart(command []string, file string) []string {
	if len(c.Restart) == 0 {
		return command
	}
	var argv []string
	for _, word := range c.Restart {
		if word == "{command}" {
			argv = append(argv, command...)
			continue
		}
		argv = append(argv, strings.ReplaceAll(word, "{file}", file))
	}
	return argv
}
