// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Files and functions that are longer are cut into pieces that say what they
// are.
const (
	longestFile     = 450
	longestFunction = 70
)

// sources calls see with each file of the project that people write, and its
// path from the top.
func sources(t *testing.T, see func(path string, data []byte)) {
	t.Helper()
	const top = "../.."
	seen := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, top+"/")
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "build", "testdata"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".c", ".h", ".S", ".sh", ".py", ".pl", ".proto"}, filepath.Ext(name)) {
			return nil
		}
		data, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil // somebody's temporary file
		}
		seen++
		see(name, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 50 {
		t.Fatalf("only %d sources were found", seen)
	}
}

func TestLicence(t *testing.T) {
	sources(t, func(path string, data []byte) {
		if !bytes.Contains(data[:min(len(data), 200)], []byte("SPDX-License-Identifier: Apache-2.0")) {
			t.Errorf("%s: no line with its licence on top", path)
		}
	})
}

// TestLength leaves out tests, which may be long tables.
func TestLength(t *testing.T) {
	sources(t, func(path string, data []byte) {
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, ".pb.go") || strings.HasSuffix(path, "_test.go") {
			return
		}
		if n := bytes.Count(data, []byte("\n")); n > longestFile {
			t.Errorf("%s has %d lines, more than %d", path, n, longestFile)
		}
		functions(t, path, data)
	})
}

func functions(t *testing.T, path string, data []byte) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, data, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > longestFunction {
			t.Errorf("%s: %s has %d lines, more than %d", path, f.Name.Name, n, longestFunction)
		}
	}
}
