// SPDX-License-Identifier: Apache-2.0

// Package guard is for what root runs on behalf of a user, in prologs, epilogs
// and checkpoint scripts. The user is taken for an enemy who can swap, block and
// swell everything that is found by a path of theirs.
//
// The flow: root's process reads only what the scheduler tells it, and starts a
// Child, another process of the same program, that is the user from its first
// instruction and has an environment of chosen variables. Root's process waits
// for it, for a limited time, hears a limited number of bytes from it, and leaves
// it behind if even SIGKILL does not end it: a process in a system call of a
// user's FUSE file system cannot be killed, nor can one on some dead file servers.
//
// In the child a Dir is a directory of the user's, below which no symbolic link
// is followed and only regular files are opened, none of which can block.
package guard
