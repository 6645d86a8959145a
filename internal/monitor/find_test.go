// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
)

// A scheduler's checkpoint interface names its own job, saves all that runs in it,
// and brings it back itself: the monitor must not ask for that.
func TestCheckpointOfASchedulersJob(t *testing.T) {
	r := newRig(t)
	j := r.start()
	dir, err := runtimeDir()
	if err != nil {
		t.Fatal(err)
	}
	// One that does not answer is somebody's, but holds nobody up for long.
	deaf, err := net.Listen("unix", filepath.Join(dir, "deaf.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	ctx := context.Background()
	if all, err := Of(ctx, "8"); Code(err) != ExitNotFound {
		t.Errorf("another job's: %v, %v", all, err)
	}
	begin := time.Now()
	all, err := Of(ctx, "7")
	if err != nil || len(all) != 1 || all[0].Job != "fake-7" || all[0].Store != r.cfg.Store || all[0].Dir != "/some/dir" {
		t.Fatalf("%+v, %v", all, err)
	}
	if took := time.Since(begin); took > introduction+5*time.Second {
		t.Errorf("took %v", took)
	}
	done, err := CheckpointOf(ctx, all, Request{Op: "checkpoint", Stop: true, Quiet: true})
	if err != nil || len(done) != 1 || done[0].Saved == nil || !done[0].Saved.Stopped {
		t.Errorf("%+v, %v", done, err)
	}
	r.want(ExitAgain, "")
	if !j.killed {
		t.Error("the job was not ended")
	}
	if slices.Contains(r.adapter.asked, "requeue 7") {
		t.Error("the scheduler was asked to bring the job back")
	}
}

func TestCheckpointOfOneThatCannot(t *testing.T) {
	r := newRig(t)
	j := r.start()
	j.onCheckpoint = func(engine.CheckpointOptions) error {
		return &engine.RefusedError{Reasons: []string{"pid 3: io_uring"}}
	}
	all, err := Of(context.Background(), "7")
	if err != nil {
		t.Fatal(err)
	}
	done, err := CheckpointOf(context.Background(), all, Request{Op: "checkpoint", Stop: true, Quiet: true})
	if len(done) != 0 || Code(err) != ExitCannot || !strings.Contains(err.Error(), "fake-7: ") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v", done, err)
	}
	j.exit(0)
	r.want(0, "")
}
