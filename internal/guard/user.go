// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// User is whom a hook works for: never root.
type User struct {
	UID, GID int
	Groups   []int // supplementary ones besides GID
}

// Number reads the number of a job, a user or a group other than root's.
func Number(what, text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is %.40q, not a positive number", what, text)
	}
	return int(n), nil
}

// lookup is how long the name service may take to tell a user's groups.
const lookup = 3 * time.Second

// AllGroups adds the user's supplementary groups, for what lies in a directory
// of a project. id(1) asks the name service as the site has it, which a static
// program cannot. Without an answer the user has the one group.
func (u User) AllGroups() User {
	out, err := ask("id", "-G", "--", strconv.Itoa(u.UID))
	if err != nil {
		return u
	}
	for _, word := range strings.Fields(out) {
		if g, err := Number("a group", word); err == nil && g != u.GID {
			u.Groups = append(u.Groups, g)
		}
	}
	return u
}

// ask runs a program that asks the name service.
func ask(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookup)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/"+name, args...)
	cmd.Env, cmd.WaitDelay = []string{}, time.Second
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %.100q: %w", name, args, err)
	}
	return string(out), nil
}

// Named finds a user and a group by their names, as the site's name service has
// them. Root is not found.
func Named(user, group string) (User, error) {
	uid, err := ask("id", "-u", "--", user)
	if err != nil {
		return User{}, err
	}
	entry, err := ask("getent", "--", "group", group)
	if err != nil {
		return User{}, err
	}
	fields := strings.Split(entry, ":") // name:password:number:members
	if len(fields) != 4 || fields[0] != group {
		return User{}, fmt.Errorf("the group %.40q is not known", group)
	}
	u := User{}
	if u.UID, err = Number("the user's number", strings.TrimSpace(uid)); err != nil {
		return u, err
	}
	u.GID, err = Number("the group's number", fields[2])
	return u, err
}

func (u User) groups() []int { return append([]int{u.GID}, u.Groups...) }

// Become gives up root for the user, for good: the supplementary groups first,
// while we still may, then the group, then the user with all three ids. Called
// by the user in question it does nothing.
func (u User) Become() error {
	if os.Geteuid() == u.UID && os.Getuid() == u.UID {
		return u.Check()
	}
	if err := syscall.Setgroups(u.groups()); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(u.GID, u.GID, u.GID); err != nil {
		return fmt.Errorf("set group %d: %w", u.GID, err)
	}
	if err := syscall.Setresuid(u.UID, u.UID, u.UID); err != nil {
		return fmt.Errorf("set user %d: %w", u.UID, err)
	}
	return u.Check()
}

// Check tells whether this process is the user and nothing more.
func (u User) Check() error {
	if r, e, s := unix.Getresuid(); r != u.UID || e != u.UID || s != u.UID || u.UID == 0 {
		return fmt.Errorf("the process has the user ids %d, %d, %d and not only %d", r, e, s, u.UID)
	}
	if syscall.Setresuid(-1, 0, -1) == nil {
		return fmt.Errorf("user %d can become root again", u.UID)
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return fmt.Errorf("ask for the capabilities: %w", err)
	}
	for _, c := range caps {
		if c.Effective|c.Permitted != 0 {
			return errors.New("the process has kept capabilities of root's")
		}
	}
	return nil
}
