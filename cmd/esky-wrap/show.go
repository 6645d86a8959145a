// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/esky-hpc/esky/internal/store"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "what is in an image",
		UsageText: "esky-wrap show [--generation N] JOB | DIR",
		Flags:     []cli.Flag{storeFlag(), generationFlag("generation `N` (default: the newest)"), jsonFlag()},
		Action:    show,
	}
}

// contents is an image as show shows it.
type contents struct {
	Job        string        `json:"job"`
	Generation uint32        `json:"generation"`
	Dir        string        `json:"dir"`
	Bytes      int64         `json:"bytes"`
	Memory     uint64        `json:"memory_bytes"`
	Created    time.Time     `json:"created"`
	Pause      time.Duration `json:"pause_ns"`
	Attempt    uint32        `json:"attempt"`
	Version    string        `json:"esky_version"`
	Command    []string      `json:"command"`
	Cwd        string        `json:"cwd"`
	Host       string        `json:"host"`
	Arch       string        `json:"arch"`
	Kernel     string        `json:"kernel"`
	CPU        string        `json:"cpu_model"`
	Features   int           `json:"cpu_features"`
	Provider   string        `json:"provider,omitempty"`
	Processes  []process     `json:"processes"`
	Files      []string      `json:"open_files"`
	Mapped     []string      `json:"mapped_files"`
	Saved      []kept        `json:"saved_files"`
}

// kept is a file that a resume has kept beside the images: what it cut off, replaced
// or moved away (docs/files.md).
type kept struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

type process struct {
	Pid     int32  `json:"pid"`
	Ppid    int32  `json:"ppid"`
	Name    string `json:"name"`
	Exe     string `json:"exe,omitempty"`
	State   string `json:"state"`
	Threads int    `json:"threads"`
	Fds     int    `json:"descriptors"`
}

// openNamed opens the image that the command's only argument names: of a job the
// newest.
func openNamed(c *cli.Context) (*image.Reader, error) {
	args, err := names(c, 1, 1)
	if err != nil {
		return nil, err
	}
	all, err := targets(c, args[0])
	if err != nil {
		return nil, err
	}
	return image.Open(all[0].dir)
}

func show(c *cli.Context) error {
	r, err := openNamed(c)
	if err != nil {
		return err
	}
	defer r.Close()
	i := describe(r)
	if i.Saved, err = keptBeside(r.Dir()); err != nil {
		return err
	}
	return newUI(c.Bool("json"), false).answer(i, func(w io.Writer) error {
		_, err := io.WriteString(w, i.text())
		return err
	})
}

// keptBeside lists the files that are kept beside an image of a job.
func keptBeside(image string) ([]kept, error) {
	all := []kept{}
	dir := filepath.Join(filepath.Dir(image), store.SavedDir)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all = append(all, kept{path, info.Size()})
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

func describe(r *image.Reader) contents {
	m := r.Meta()
	i := contents{
		Job: m.GetJob(), Generation: m.GetGeneration(), Dir: r.Dir(), Bytes: r.Size(), Memory: m.GetMemoryBytes(),
		Created: time.Unix(0, m.GetCreatedUnixNs()), Pause: time.Duration(m.GetPauseNs()), Attempt: m.GetAttempt(),
		Version: m.GetEskyVersion(), Command: m.GetCommand(), Cwd: m.GetCwd(), Host: m.GetHost().GetHostname(),
		Arch: m.GetHost().GetArch(), Kernel: m.GetHost().GetKernel(), CPU: m.GetHost().GetCpuModel(),
		Features: len(m.GetHost().GetCpuFeatures()), Processes: []process{}, Files: []string{}, Mapped: m.GetMappedFiles(),
	}
	if f := m.GetForeign(); f != nil {
		i.Provider = f.Provider + " (" + f.Version + ")"
		for _, one := range f.Files {
			i.Files = append(i.Files, one.Path)
		}
	}
	for _, p := range m.GetProcesses() {
		i.Processes = append(i.Processes, process{
			Pid: p.GetPid(), Ppid: p.GetPpid(), Name: p.GetComm(), Exe: p.GetExe(),
			State: strings.ToLower(p.GetState().String()), Threads: len(p.GetThreads()), Fds: len(p.GetFds()),
		})
	}
	for _, f := range m.GetOpenFiles() {
		i.Files = append(i.Files, fileText(f))
	}
	return i
}

func fileText(f *imagepb.OpenFile) string {
	text := strings.ToLower(f.GetKind().String())
	if f.GetPath() != "" {
		text += " " + f.GetPath()
	}
	if f.GetKind() == imagepb.OpenFile_REGULAR {
		text += fmt.Sprintf(" at %d of %d", f.GetOffset(), f.GetSize())
	}
	return text
}

func (i contents) text() string {
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	row("job", "%s, image %d, attempt %d", i.Job, i.Generation, i.Attempt)
	row("made", "%s by esky %s, the job stood still for %s", i.Created.Format(time.DateTime), i.Version, brief(i.Pause))
	row("size", "%s for %s of memory", humanize.IBytes(uint64(i.Bytes)), humanize.IBytes(i.Memory))
	row("in", "%s", i.Dir)
	row("command", "%s", strings.Join(i.Command, " "))
	row("directory", "%s", i.Cwd)
	row("host", "%s, %s, Linux %s, %s, %d CPU features", i.Host, i.Arch, i.Kernel, i.CPU, i.Features)
	if i.Provider != "" {
		row("provider", "%s", i.Provider)
	}
	for _, p := range i.Processes {
		row("process", "%d (child of %d) %s, %s, %d threads, %d descriptors", p.Pid, p.Ppid, p.Name, p.State, p.Threads, p.Fds)
	}
	for _, f := range i.Files {
		row("file", "%s", f)
	}
	for _, f := range i.Mapped {
		row("mapped", "%s", f)
	}
	for _, k := range i.Saved {
		row("kept", "%s, %s", k.Path, humanize.IBytes(uint64(k.Bytes)))
	}
	return b.String()
}
