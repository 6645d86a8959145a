// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Trust tells whether a program may be started as a plugin: it and every directory
// on its path belong to this user or to root, and nobody else can write to them.
// With a checksum (SHA-256, in hex) it must also be that very program. path may be
// a symbolic link; the path without links is returned.
func Trust(path, checksum string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", Errorf(NotFound, "", "plugin %s: %v", path, err)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", Errorf(NotFound, "", "plugin %s: %v", path, err)
	}
	// Both: who can exchange a link can exchange what it leads to.
	for _, p := range []string{real, abs} {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			if err := trustOne(path, dir, true); err != nil {
				return "", err
			}
			if dir == "/" {
				break
			}
		}
	}
	if err := trustOne(path, real, false); err != nil {
		return "", err
	}
	if checksum != "" {
		return real, compareSum(path, real, checksum)
	}
	return real, nil
}

func trustOne(plugin, path string, dir bool) error {
	fi, err := os.Stat(path)
	if err != nil {
		return Errorf(NotFound, "", "plugin %s: %v", plugin, err)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	const others = 0o022
	switch {
	case !ok:
		return Errorf(Internal, "", "plugin %s: the owner of %s is not known", plugin, path)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return Errorf(Host, "plugins must belong to you or to root", "plugin %s is not trusted: %s belongs to uid %d", plugin, path, st.Uid)
	// In a directory with the sticky bit, as /tmp, nobody can exchange what is not theirs.
	case fi.Mode().Perm()&others != 0 && !(dir && fi.Mode()&os.ModeSticky != 0):
		return Errorf(Host, "chmod go-w "+path, "plugin %s is not trusted: others can write to %s (mode %04o)", plugin, path, fi.Mode().Perm())
	case !dir && !fi.Mode().IsRegular():
		return Errorf(NotFound, "", "plugin %s: %s is no ordinary file", plugin, path)
	case !dir && fi.Mode().Perm()&0o111 == 0:
		return Errorf(Host, "chmod +x "+path, "plugin %s: %s is not executable", plugin, path)
	}
	return nil
}

func compareSum(plugin, path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return Errorf(Host, "a plugin whose checksum is pinned must be readable", "plugin %s: %v", plugin, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return Errorf(Host, "", "plugin %s: read %s: %v", plugin, path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return Errorf(Host, "if the program was changed on purpose, change the pin", "plugin %s is not trusted: its SHA-256 is %s, pinned is %s", plugin, got, want)
	}
	return nil
}
