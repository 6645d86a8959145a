// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// kernel is one that was unpacked.
type kernel struct {
	vmlinux string
	modules string // a directory
}

// find returns a kernel of Debian, which is fetched only once: nothing is installed.
func find(t testing.TB, version string) kernel {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "esky-guest", version)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	k := kernel{vmlinux: filepath.Join(dir, "vmlinux"), modules: filepath.Join(dir, "root", "lib", "modules")}
	if _, err := os.Stat(k.vmlinux); err == nil {
		return k
	}
	name, err := packageOf(version)
	if err != nil {
		t.Skip(err)
	}
	if err := fetch(dir, name); err != nil {
		t.Skipf("no kernel %s here: %v", version, err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "root", "boot", "vmlinuz-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("package %s has the kernels %v (%v)", name, found, err)
	}
	if err := unpack(found[0], k.vmlinux); err != nil {
		t.Fatal(err)
	}
	return k
}

// packageOf is the newest package of a kernel.
func packageOf(version string) (string, error) {
	out, err := exec.Command("apt-cache", "pkgnames", "linux-image-"+version+".").Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache pkgnames: %w", err)
	}
	plain := regexp.MustCompile(`^linux-image-[0-9.]+([-+][0-9a-z]+)?-amd64$`)
	var names []string
	for _, name := range strings.Fields(string(out)) {
		if plain.MatchString(name) && exec.Command("apt-cache", "show", name).Run() == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("this machine's sources of packages have no kernel %s", version)
	}
	return slices.MaxFunc(names, func(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }), nil
}

// numbers are those in the name of a package, which are its order.
func numbers(name string) (list []int) {
	for _, text := range regexp.MustCompile(`[0-9]+`).FindAllString(name, -1) {
		n := 0
		_, _ = fmt.Sscan(text, &n) // digits
		list = append(list, n)
	}
	return list
}

// fetch unpacks a package into dir/root.
func fetch(dir, name string) error {
	cmd := exec.Command("apt-get", "download", name)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", name, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(found) == 0 {
		return fmt.Errorf("apt-get has put no package %s in %s", name, dir)
	}
	if out, err := exec.Command("dpkg", "-x", found[0], filepath.Join(dir, "root")).CombinedOutput(); err != nil {
		return fmt.Errorf("dpkg -x %s: %w: %s", found[0], err, out)
	}
	return os.Remove(found[0])
}

// unpack takes the kernel itself out of a bzImage. Its own unpacker takes seconds
// when it is emulated; qemu starts what comes out by its PVH entry.
func unpack(bzImage, to string) error {
	b, err := os.ReadFile(bzImage)
	if err != nil {
		return err
	}
	for magic, open := range map[string]func([]byte) []byte{
		"\xfd7zXZ\x00":     unxz,
		"\x28\xb5\x2f\xfd": unzstd,
	} {
		for rest := b; ; {
			i := bytes.Index(rest, []byte(magic))
			if i < 0 {
				break
			}
			if elf := open(rest[i:]); bytes.HasPrefix(elf, []byte("\x7fELF")) {
				return os.WriteFile(to, elf, 0o600)
			}
			rest = rest[i+1:]
		}
	}
	return fmt.Errorf("%s is packed in a way that is not known here", bzImage)
}

// unxz and unzstd return what they can: something follows.
func unxz(b []byte) []byte {
	cmd := exec.Command("xz", "-dcq", "--single-stream")
	cmd.Stdin = bytes.NewReader(b)
	out, _ := cmd.Output()
	return out
}

func unzstd(b []byte) []byte {
	r, err := zstd.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	defer r.Close()
	out, _ := io.ReadAll(r)
	return out
}
