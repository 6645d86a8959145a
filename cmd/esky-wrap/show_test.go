// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeptBeside: show tells of the files that a resume has kept beside the image.
func TestKeptBeside(t *testing.T) {
	job := t.TempDir()
	image := filepath.Join(job, "gen-000002")
	if all, err := keptBeside(image); err != nil || len(all) != 0 {
		t.Fatalf("without any: %v, %v", all, err)
	}
	path := filepath.Join(job, "saved", "log.gen-2.from-8192.1")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 2048), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := keptBeside(image)
	if err != nil || len(all) != 1 || all[0] != (kept{path, 2048}) {
		t.Fatalf("%v, %v", all, err)
	}
	if text := (contents{Saved: all}).text(); !strings.Contains(text, path+", 2.0 KiB") {
		t.Errorf("not told: %s", text)
	}
}
