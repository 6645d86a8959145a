// SPDX-License-Identifier: Apache-2.0

package criu

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/freeze"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/keeper"
	"github.com/esky-hpc/esky/internal/procfs"
	"github.com/esky-hpc/esky/plugin"
)

// stateName is the file with what is in an image besides what criu writes.
const stateName = "job.json"

// state is what has to be known of a job before criu is called again.
type state struct {
	Command []string
	Dir     string
	Host    *imagepb.Host
	Numbers []int        // of processes and threads
	Streams []streamFile // standard input, output, error
	Files   []openFile   // that the job writes
}

// streamFile is where a standard stream of the job led.
type streamFile struct {
	Key string // by which criu knows it; empty: it makes it again by itself
	openFile
	Offset int64
}

// openFile is a regular file.
type openFile struct {
	Path string
	Size int64
}

// describe looks at a job that stands still.
func (t *trade) describe(main int) (*state, error) {
	s := &state{Command: t.Command, Dir: t.Dir}
	var err error
	if s.Host, err = host.Describe(); err != nil {
		return nil, err
	}
	streams := map[string]bool{}
	for _, f := range keeper.Streams() {
		one := describeStream(f)
		s.Streams = append(s.Streams, one)
		streams[one.Path] = true
	}
	pids, err := freeze.Descendants(main)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, pid := range append(pids, main) {
		tids, err := procfs.Tasks(pid)
		if err != nil {
			return nil, err
		}
		s.Numbers = append(s.Numbers, tids...)
		for _, f := range written(pid) {
			if !seen[f.Path] && !streams[f.Path] {
				seen[f.Path] = true
				s.Files = append(s.Files, f)
			}
		}
	}
	return s, nil
}

// describeStream says by which name criu knows a descriptor (criu(8), --inherit-fd).
func describeStream(f *os.File) streamFile {
	link, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
	fi, err := f.Stat()
	switch {
	case err != nil:
		return streamFile{}
	case strings.HasPrefix(link, "pipe:"):
		return streamFile{Key: link}
	case fi.Mode().IsRegular():
		offset, _ := f.Seek(0, io.SeekCurrent) // a regular file has one
		return streamFile{Key: strings.TrimPrefix(link, "/"), openFile: openFile{link, fi.Size()}, Offset: offset}
	}
	return streamFile{}
}

// written lists the regular files that a process has open to write.
func written(pid int) (files []openFile) {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	fds, _ := os.ReadDir(dir) // it stands still
	for _, e := range fds {
		fd, _ := strconv.Atoi(e.Name())
		info, err := procfs.ReadFdInfo(pid, fd)
		if err != nil || info.Flags&unix.O_ACCMODE == unix.O_RDONLY {
			continue
		}
		fi, err := os.Stat(dir + e.Name())
		if err != nil || !fi.Mode().IsRegular() {
			continue
		}
		path, _ := os.Readlink(dir + e.Name())
		if there, err := os.Stat(path); err == nil && os.SameFile(fi, there) { // else criu has a copy of it
			files = append(files, openFile{path, fi.Size()})
		}
	}
	return files
}

func (s *state) write(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, stateName), b, 0o600)
}

func readState(dir string) (*state, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateName))
	if err != nil {
		return nil, err
	}
	s := &state{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, plugin.Errorf(plugin.Damaged, "use an older one", "%s: %v", filepath.Join(dir, stateName), err)
	}
	return s, nil
}

// taken tells which of the job's process numbers another process has.
func (s *state) taken() error {
	for _, n := range s.Numbers {
		// Threads are found, too: /proc/TID is there, though it is not listed (proc(5)).
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", n)); err == nil {
			return taken(strconv.Itoa(n))
		}
	}
	return nil
}

// cutBack gives the files that the job writes the size that they had: criu refuses
// any other. Nothing is touched unless all can be put right.
func (s *state) cutBack(files string) (notes []string, err error) {
	var grown []openFile
	for _, f := range s.Files {
		fi, err := os.Stat(f.Path)
		switch {
		case err != nil:
			return nil, plugin.Errorf(plugin.Changed, "put it back", "a file of the job is not there: %v", err)
		case fi.Size() == f.Size:
		case fi.Size() < f.Size:
			return nil, plugin.Errorf(plugin.Changed, "put it back", "%s has become shorter since the checkpoint: %d bytes instead of %d", f.Path, fi.Size(), f.Size)
		case files == "accept" || files == "strict":
			return nil, plugin.Errorf(plugin.Changed, "resume with files rollback", "%s has grown since the checkpoint, and criu resumes no job whose files have another size", f.Path)
		default:
			grown = append(grown, f)
		}
	}
	for _, f := range grown {
		if err := os.Truncate(f.Path, f.Size); err != nil {
			return nil, fmt.Errorf("put back %s: %w", f.Path, err)
		}
		notes = append(notes, f.Path+" was cut back to what it was at the checkpoint")
	}
	return notes, nil
}
