// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Prefixes of the names of plugin programs: the provider foo is the program
// esky-provider-foo.
const (
	ProviderPrefix  = "esky-provider-"
	SchedulerPrefix = "esky-scheduler-"
)

// PathVariable names the directories in which plugins are looked for, before that
// of the installation, separated by colons.
const PathVariable = "ESKY_PLUGIN_PATH"

// PinsFile is the name of a file, beside plugins, with lines as sha256sum(1) writes
// them. Where it is there, a plugin of this directory must be in it.
const PinsFile = "SHA256SUMS"

// Found is the program of a plugin.
type Found struct {
	Name     string // without its prefix
	Path     string
	Checksum string // that is pinned; empty if none is
}

// Path returns the directories in which plugins are looked for.
func Path() []string {
	var dirs []string
	for _, d := range filepath.SplitList(os.Getenv(PathVariable)) {
		if filepath.IsAbs(d) { // another directory would be another one tomorrow
			dirs = append(dirs, d)
		}
	}
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(filepath.Dir(exe)), "libexec", "esky", "plugins"))
	}
	return dirs
}

// Find looks for a plugin by its name, or, if there is a slash in it, by its path.
func Find(prefix, name string) (Found, error) {
	if strings.Contains(name, "/") {
		f := Found{Name: strings.TrimPrefix(filepath.Base(name), prefix), Path: name}
		return f, f.pin()
	}
	if !validName(name) {
		return Found{}, Errorf(Usage, "", "%.60q cannot be the name of a plugin", name)
	}
	dirs := Path()
	for _, dir := range dirs {
		f := Found{Name: name, Path: filepath.Join(dir, prefix+name)}
		if _, err := os.Stat(f.Path); err == nil {
			return f, f.pin()
		}
	}
	return Found{}, Errorf(NotFound, "set "+PathVariable+" to the directory that it is in",
		"there is no %s%s in %s", prefix, name, strings.Join(dirs, ", "))
}

// List returns all plugins of a kind, each name once.
func List(prefix string) []Found {
	var all []Found
	for _, dir := range Path() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it need not be there
		}
		for _, e := range entries {
			name, ok := strings.CutPrefix(e.Name(), prefix)
			known := slices.ContainsFunc(all, func(f Found) bool { return f.Name == name })
			if ok && !known && validName(name) {
				f := Found{Name: name, Path: filepath.Join(dir, e.Name())}
				if f.pin() == nil {
					all = append(all, f)
				}
			}
		}
	}
	return all
}

// pin finds the checksum that the plugin must have.
func (f *Found) pin() error {
	file := filepath.Join(filepath.Dir(f.Path), PinsFile)
	r, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Errorf(Host, "", "plugin %s: %v", f.Path, err)
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		sum, name, _ := strings.Cut(lines.Text(), " ")
		if strings.TrimLeft(name, " *") == filepath.Base(f.Path) {
			f.Checksum = sum
			return nil
		}
	}
	return Errorf(Host, "add it: sha256sum "+filepath.Base(f.Path)+" >> "+file, "plugin %s is not trusted: it is not in %s", f.Path, file)
}

// validName refuses what cannot be a part of a file name, or a key.
func validName(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return s != "" && len(s) <= 200 && s[0] != '.' && strings.Trim(s, allowed) == ""
}
