// SPDX-License-Identifier: Apache-2.0

package dmtcp

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esky-hpc/esky/plugin"
)

// tools are the programs of DMTCP.
type tools struct{ Launch, Command, Restart string }

// find looks for them on the search path.
func find(options map[string]string) (t tools, err error) {
	for name := range options {
		return t, plugin.Errorf(plugin.Usage, "", "the provider dmtcp has no option %q", name)
	}
	var missing []string
	for name, path := range map[string]*string{"dmtcp_launch": &t.Launch, "dmtcp_command": &t.Command, "dmtcp_restart": &t.Restart} {
		if *path, err = exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return t, plugin.Errorf(plugin.Host, "install DMTCP (https://dmtcp.sourceforge.io), and put it on PATH", "%s cannot be found", strings.Join(missing, ", "))
	}
	return t, nil
}

// place is the directory of one coordinator: it writes its port to a file there, and
// the processes write their images.
type place string

func (p place) portFile() string { return filepath.Join(string(p), "port") }

// make empties the directory.
func (p place) make() error {
	if err := os.RemoveAll(string(p)); err != nil {
		return err
	}
	return os.Mkdir(string(p), 0o700)
}

// images are those that lie there.
func (p place) images() []string {
	all, _ := filepath.Glob(filepath.Join(string(p), "ckpt_*.dmtcp")) // a good pattern
	return all
}

// coordinator are the options of a coordinator of its own, which makes no checkpoints
// by itself.
func (p place) coordinator() []string {
	return []string{"--new-coordinator", "--coord-port", "0", "--port-file", p.portFile(), "--interval", "0", "--ckptdir", string(p), "--quiet", "--quiet"}
}

// launch is the command line that starts a program. Compression is slower than most
// storage.
func (t tools) launch(p place, argv []string) []string {
	return slices.Concat([]string{t.Launch}, p.coordinator(), []string{"--no-gzip"}, argv)
}

// restart is the command line that goes on from images.
func (t tools) restart(p place, images []string) []string {
	return slices.Concat([]string{t.Restart}, p.coordinator(), images)
}

// checkpoint is the command line that makes one and returns when it is there.
func (t tools) checkpoint(p place) ([]string, error) {
	port, err := os.ReadFile(p.portFile())
	if err != nil {
		return nil, plugin.Errorf(plugin.Busy, "try it again in a moment", "DMTCP has not begun yet: %v", err)
	}
	return []string{t.Command, "--coord-port", strings.TrimSpace(string(port)), "--bcheckpoint"}, nil
}
