// SPDX-License-Identifier: Apache-2.0

// Package shim carries libesky.so, the library that is preloaded into the
// processes of a job, and knows where in it the tracer's parts lie.
//
// The library is C (src/, built by the Makefile here into build/) and is
// embedded, so that one binary is a complete installation: Install puts it
// where every host of the job finds it, Layout says where the stub, its record
// area and the shared words are, counted from where the library is loaded.
// esky.h is what programs include, esky_abi.h tells the protocol.
package shim

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// The directory, not the file, is embedded: go vet and go list then work
// before the library has been built.
//
//go:embed all:build
var built embed.FS

// ErrNotBuilt is returned where the library was not there when the program
// was compiled: run make.
var ErrNotBuilt = errors.New("libesky.so was not built into this program: run make")

// Library returns the bytes of libesky.so, nil if it was not built in.
func Library() []byte {
	b, err := built.ReadFile("build/libesky.so")
	if err != nil {
		return nil
	}
	return b
}

// Install writes the library into dir, unless the same is there already, and
// returns its path. The name carries a hash of the content: a library that
// running jobs have mapped is never replaced by another.
func Install(dir string) (string, error) { return installAs(dir, Library(), Name()) }

func installAs(dir string, lib []byte, name string) (string, error) {
	if lib == nil {
		return "", ErrNotBuilt
	}
	path := filepath.Join(dir, name)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, lib) {
		return path, nil
	}
	if err := writeFile(dir, path, lib); err != nil {
		return "", fmt.Errorf("install %s: %w", path, err)
	}
	return path, nil
}

// Name is the file name that Install gives the library, "" if it was not built
// in. Where a process has a file of this name mapped, Layout holds for it.
func Name() string { return name() }

var name = sync.OnceValue(func() string { return nameOf("libesky", Library()) })

func nameOf(stem string, lib []byte) string {
	if lib == nil {
		return ""
	}
	sum := sha256.Sum256(lib)
	return fmt.Sprintf("%s-%x.so", stem, sum[:6])
}

// writeFile replaces path by one rename, so that no other host ever sees, or
// maps, half a library. 0755 whatever the umask: dlopen needs no x bit, but
// shared file systems mounted for several users need r.
func writeFile(dir, path string, data []byte) error {
	f, err := os.CreateTemp(dir, ".libesky-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
