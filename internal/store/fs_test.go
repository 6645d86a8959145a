// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is put in the place of an image's file between a look and the copy is neither
// followed nor waited for.
func TestCopyOfWhatWasSwapped(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(os.WriteFile(at("victim"), []byte("mine"), 0o600), os.Symlink("victim", at("link")), unix.Mkfifo(at("fifo"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"link": "copy", "victim": "link"} {
		if err := (osFS{}).Copy(t.Context(), at(from), at(to)); err == nil {
			t.Errorf("%s was copied to %s", from, to)
		}
	}
	if text, err := os.ReadFile(at("victim")); err != nil || string(text) != "mine" {
		t.Errorf("what the link leads to: %q, %v", text, err)
	}
	done := make(chan error, 1)
	go func() { done <- (osFS{}).Copy(t.Context(), at("fifo"), at("of-fifo")) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("it waits for a writer of the FIFO")
	}
}
