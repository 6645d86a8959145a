// SPDX-License-Identifier: Apache-2.0

// Package jobfiles knows the job's files that have a name: what they were at a
// checkpoint, what has become of them, and how they are put back.
//
// A Rollback works in three steps, so that a resume that fails leaves the user's
// files alone:
//
//	Check    compares every file with its record; nothing is touched
//	Stage    makes files that are not there under temporary names beside their
//	         places, where the job can open them (Now)
//	PutBack  cuts off, rewrites and renames, when nothing else can fail any more
//
// Whatever PutBack cuts off or replaces is copied to a directory first.
package jobfiles

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// Policy says what to do about files that have changed since the checkpoint.
type Policy string

// The policies of run's --files.
const (
	Rollback Policy = "rollback" // put back the job's own files; refuse what others changed
	Accept   Policy = "accept"   // put back the job's own files; take what others changed as it is
	Strict   Policy = "strict"   // refuse any change
)

// ChangedError says that files are not what they were at the checkpoint.
type ChangedError struct{ Reasons []string }

func (e *ChangedError) Error() string { return strings.Join(e.Reasons, "; ") }

// shared are the directories of a host for everybody's temporary files.
var shared = []string{"/tmp", "/var/tmp", "/dev/shm"}

// Local says whether a path is one that another host is not expected to have:
// below one of the usual directories, or of those that scratch names.
func Local(path string, scratch []string) bool {
	for _, dir := range append(shared, scratch...) {
		if dir != "" && Below(path, dir) {
			return true
		}
	}
	return false
}

// Below says whether a path is that of a directory or of something in it.
func Below(path, dir string) bool {
	dir = filepath.Clean(dir)
	rest, ok := strings.CutPrefix(path, dir)
	return ok && (rest == "" || rest[0] == '/' || dir == "/")
}

// Scratch returns the directories for temporary files that an environment names,
// and among them those that are the job's alone: ESKY_SCRATCH, and the TMPDIR
// that a scheduler has made for the job, which has the job's number in its name.
func Scratch(getenv func(string) string) (all, private []string) {
	if dir := getenv("ESKY_SCRATCH"); filepath.IsAbs(dir) {
		all, private = append(all, dir), append(private, dir)
	}
	dir := getenv("TMPDIR")
	if !filepath.IsAbs(dir) {
		return all, private
	}
	all = append(all, dir)
	for _, name := range []string{"SLURM_JOB_ID", "JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID"} {
		id, _, _ := strings.Cut(getenv(name), ".")
		if id != "" && strings.Contains(filepath.Base(dir), id) {
			return all, append(private, dir)
		}
	}
	return all, private
}

// Describe sets in a record what the inode of an open or named file tells. It
// returns the bytes that the file occupies.
func Describe(f *imagepb.JobFile, st *unix.Statx_t) (occupied uint64) {
	f.Ino, f.Size, f.Mode = st.Ino, st.Size, uint32(st.Mode)&0o7777
	f.MtimeNs, f.CtimeNs = nano(st.Mtime), nano(st.Ctime)
	if st.Mask&unix.STATX_BTIME != 0 {
		f.BtimeNs = nano(st.Btime)
	}
	return st.Blocks * 512
}

func nano(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// Stat is statx(2) with all that Describe wants to know.
func Stat(path string, flags int) (st unix.Statx_t, err error) {
	err = unix.Statx(unix.AT_FDCWD, path, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	return st, err
}
