// SPDX-License-Identifier: Apache-2.0

// Package procfs holds exact parsers of the files below /proc/PID that describe
// a process: maps, smaps, stat, status, fdinfo, timers, sched, and the
// directories of its threads and descriptors.
//
// Every format has a ParseX(io.Reader), which knows nothing of processes and is
// what the tests feed, and a ReadX(pid, …), which opens the file and parses it.
// The readers run while a job is stopped, so they are lean: raw descriptors,
// pooled buffers, strings that repeat are allocated once a call. Slices and
// strings of one result may therefore share memory: treat them as read-only.
//
// A file that ends in the middle of a line or of a record is an error, never a
// short result: whatever is missing from it would be missing from the image.
//
// Process ids are those of the pid namespace that the mounted /proc belongs to,
// wherever the reader or the process lives.
package procfs
