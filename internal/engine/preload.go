// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/esky-hpc/esky/shim"
)

// WithPreload returns the environment of a job that starts with the preload library
// at path, before those that are there already; without a path it is env. In shim
// mode the library of numbers, which is put beside it, comes along.
func WithPreload(env []string, path, mode, statusPath string) ([]string, error) {
	if path == "" {
		return env, nil
	}
	preload := strings.TrimSuffix(path+":"+Getenv(env, "LD_PRELOAD"), ":")
	set := map[string]string{}
	if mode == ModeShim {
		ids, err := shim.InstallIDs(filepath.Dir(path))
		if err != nil {
			return nil, fmt.Errorf("install the library of numbers: %w", err)
		}
		preload = ids + ":" + preload
		set[IDsVariable] = IDsPath(statusPath)
	}
	set["LD_PRELOAD"] = preload
	return Setenv(env, set), nil
}

// Preloadable tells whether LD_PRELOAD can name a file in a directory: there is no
// way to quote what separates paths (ld.so(8)).
func Preloadable(dir string) bool { return !strings.ContainsAny(dir, " :\t\n") }

// NoPreload says that a job's environment wants no preload library, for a program
// that does not bear it. It is served by injection.
func NoPreload(env []string) bool { return Getenv(env, "ESKY_PRELOAD") == "none" }

// Getenv is the value of a variable in an environment, the last one if there are
// several.
func Getenv(env []string, name string) string {
	value := ""
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// Setenv sets variables, each once.
func Setenv(env []string, set map[string]string) []string {
	out := slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		k, _, _ := strings.Cut(kv, "=")
		_, ours := set[k]
		return ours
	})
	names := make([]string, 0, len(set))
	for k := range set {
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		out = append(out, k+"="+set[k])
	}
	return out
}
