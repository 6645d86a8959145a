// SPDX-License-Identifier: Apache-2.0

// Host shows how a program of yours runs jobs by esky's provider: it starts one,
// saves it, kills it, and brings it back.
//
//	go run ./contrib/plugins/host bin/esky-provider DIR PROGRAM [ARG…]
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/plugin"
)

func main() {
	if len(os.Args) < 4 {
		log.Fatal("usage: host ESKY-PROVIDER DIR PROGRAM [ARG…]")
	}
	run(context.Background(), os.Args[1], os.Args[2], os.Args[3:])
}

func must(err error) {
	if err != nil {
		log.Fatal("host: ", err)
	}
}

func run(ctx context.Context, path, dir string, argv []string) {
	p, err := plugin.Open(plugin.HostConfig{Found: plugin.Found{Path: path}, Log: func(line string) { log.Print(line) }})
	must(err)
	defer p.Close()
	provider, quiet := p.Provider(), func(plugin.Progress) {}
	state, image := filepath.Join(dir, "state"), filepath.Join(dir, "image")
	must(errors.Join(os.MkdirAll(state, 0o700), os.MkdirAll(image, 0o700)))
	streams := plugin.Streams{Stdout: plugin.Stream(filepath.Join(dir, "stdout")), Stderr: plugin.Stream(filepath.Join(dir, "stderr"))}

	job, err := provider.Start(ctx, plugin.StartOptions{Argv: argv, Env: os.Environ(), Dir: dir, Streams: streams, StateDir: state})
	must(err)
	time.Sleep(time.Second)
	saved, err := provider.Checkpoint(ctx, job, plugin.CheckpointOptions{Dir: image}, quiet)
	must(err)
	fmt.Printf("saved %d bytes, it stood still for %s\n", saved.Bytes, saved.Pause)
	must(provider.Signal(ctx, job, syscall.SIGKILL, true))
	end, err := provider.Wait(ctx, job)
	must(err)
	fmt.Println("killed: status", end.Status())

	resumed, err := provider.Resume(ctx, plugin.ResumeOptions{Dir: image, StateDir: state, Streams: streams}, quiet)
	must(err)
	end, err = provider.Wait(ctx, resumed.Job)
	must(err)
	fmt.Println("ended: status", end.Status())
	must(provider.RemoveImage(ctx, image))
}
