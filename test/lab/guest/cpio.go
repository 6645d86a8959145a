// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed init
var initScript []byte

// needed are the modules without which a guest has no root.
var needed = []string{"virtio_pci", "9pnet_virtio", "9p", "overlay"}

// initramfs writes the first root: busybox, init, and modules in their order.
func (k kernel) initramfs(to string, more []string) error {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var c cpio
	for _, dir := range []string{"bin", "mods", "proc", "sys", "dev", "lower", "upper", "root"} {
		c.add(dir, 0o040755, nil)
	}
	c.add("bin/busybox", 0o100755, busybox)
	c.add("init", 0o100755, initScript)
	l := loader{files: map[string]string{}}
	if err := l.find(k.modules); err != nil {
		return err
	}
	for _, name := range slices.Concat(needed, more) {
		if err := l.load(name); err != nil {
			return err
		}
	}
	for i, m := range l.loaded {
		c.add(fmt.Sprintf("mods/%03d.ko", i), 0o100644, m)
	}
	c.add("TRAILER!!!", 0, nil)
	return os.WriteFile(to, c.Bytes(), 0o600)
}

// cpio is an archive in the format "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
type cpio struct {
	bytes.Buffer
	inode int
}

func (c *cpio) add(name string, mode int, data []byte) {
	c.inode++
	// magic, inode, mode, uid, gid, links, mtime, size, four numbers of devices, length of the name, no checksum
	fmt.Fprintf(c, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.WriteString(name + "\x00")
	c.pad()
	c.Write(data)
	c.pad()
}

func (c *cpio) pad() {
	for c.Len()%4 != 0 {
		c.WriteByte(0)
	}
}

// loader brings modules into the order in which they can be loaded.
type loader struct {
	files  map[string]string // by name
	loaded [][]byte
}

func (l *loader) find(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(path), ".ko"); ok && err == nil && d.Type().IsRegular() {
			l.files[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	})
}

// load takes a module after those that it needs. One that the package does not have
// is part of the kernel itself.
func (l *loader) load(name string) error {
	path, ok := l.files[name]
	if !ok {
		return nil
	}
	delete(l.files, name)
	module, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.HasSuffix(path, ".xz") {
		module = unxz(module)
	}
	needs, err := depends(module)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, n := range needs {
		if err := l.load(n); err != nil {
			return err
		}
	}
	l.loaded = append(l.loaded, module)
	return nil
}

// depends reads which other modules one needs.
func depends(module []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no module: it has no section .modinfo")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	for line := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(line, "depends="); ok {
			return strings.FieldsFunc(strings.ReplaceAll(list, "-", "_"), func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
