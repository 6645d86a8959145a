// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
)

// launch gets the job running: taken over, resumed, or started. held says that
// it must not be, and gives the exit status.
func (m *monitor) launch(ctx context.Context) (held bool, status int, err error) {
	if err := m.relock(); err != nil {
		return false, 0, err
	}
	switch {
	case m.orphan != nil:
		err = m.attach()
		m.orphan = nil
	case m.hasImage():
		held, status, err = m.resume(ctx)
		if errors.As(err, new(*engine.MismatchError)) {
			if status, ok := m.goElsewhere(ctx, err); ok {
				return true, status, nil
			}
		}
		err = m.holdIfHopeless(ctx, err)
	case len(m.command) == 0 || m.cfg.Generation != 0:
		err = m.nothingToResume()
	default:
		err = m.start()
	}
	if err != nil || held {
		return held, status, err
	}
	m.watch()
	m.confine()
	h := m.holder()
	if err := m.store.SetHolder(h); err != nil {
		m.note(Event{Level: Warning, Event: "warning", Text: "other commands will not find this job: " + err.Error()})
	}
	return false, 0, nil
}

// goElsewhere gives a job that this host cannot resume back to the queue, for
// another host, where the scheduler can do that.
func (m *monitor) goElsewhere(ctx context.Context, why error) (status int, ok bool) {
	mover, ok := m.cfg.Adapter.(sched.Mover)
	if !ok {
		return 0, false
	}
	a, ok := mover.Elsewhere(ctx, m.cfg.Facts, m.job, why.Error())
	if !ok {
		return 0, false
	}
	m.note(Event{Level: Warning, Event: "left", Status: &a.Exit, Text: fmt.Sprintf("%v; %s", why, a.Note)})
	m.release()
	if !m.perform(ctx, a) {
		return 0, false
	}
	m.awaitKill(ctx, a.Stay)
	return a.Exit, true
}

// holdIfHopeless keeps a job in the queue, with the reason beside it, whose image
// cannot be resumed as things are. Ending it would lose its place, and the next
// job would have another id and so not find the image. Some schedulers are told
// so by the exit status.
func (m *monitor) holdIfHopeless(ctx context.Context, err error) error {
	if m.job.ID == "" || !isDamage(err) && !errors.As(err, new(*engine.MismatchError)) {
		return err
	}
	m.release()
	a := m.cfg.Adapter.Hold(m.job, err.Error())
	m.perform(ctx, a)
	if a.Exit == sched.ExitCannot {
		return err // which has a status that says more
	}
	return Fail(a.Exit, Hint(err), "%w; %s", err, strings.TrimPrefix(a.Note, err.Error()+"; "))
}

// relock takes the lock that went with a job which we had taken over and which
// was lost.
func (m *monitor) relock() (err error) {
	if m.lock == nil && m.orphan == nil {
		m.lock, err = m.store.TryLock()
	}
	return err
}

// watch makes an event of the job's end.
func (m *monitor) watch() {
	proc := m.proc
	m.spawn(func() {
		status, err := proc.Wait()
		m.ends <- ending{status, err}
	})
}

func (m *monitor) nothingToResume() error {
	if m.cfg.Generation != 0 {
		return Fail(ExitNotFound, "`esky-wrap list` shows what there is", "%s has no image %d", m.key, m.cfg.Generation)
	}
	return Fail(ExitNotFound, "`esky-wrap list` shows what there is", "%s has no image to resume", m.key)
}

func (m *monitor) hasImage() bool {
	gens, err := m.candidates()
	return err == nil && len(gens) > 0
}

// candidates are the images to try, in order.
func (m *monitor) candidates() ([]store.Generation, error) {
	all, err := m.store.Generations()
	all = m.withNear(all)
	if err != nil || m.cfg.Generation == 0 {
		return all, err
	}
	return slices.DeleteFunc(all, func(g store.Generation) bool { return g.Number != m.cfg.Generation }), nil
}

func (m *monitor) attach() error {
	proc, err := m.cfg.Engine.Attach(m.orphan.InitPid, m.statusPath())
	if err != nil {
		return Fail(ExitAgain, "try again", "%s has just ended while it was being taken over: %w", m.key, err)
	}
	m.proc = proc
	m.note(Event{Level: Warning, Event: "attached", Text: fmt.Sprintf(
		"%s lost its monitor (process %d) and runs on here: taken over", m.key, m.orphan.MonitorPid)})
	return nil
}

// start starts the program for the first time.
func (m *monitor) start() error {
	m.removeStatus()
	m.warnOfNumbers()
	err := m.inMode(func(mode string) error {
		env, err := m.environment(mode)
		if err != nil {
			return err
		}
		m.proc, err = m.cfg.Engine.Start(engine.StartOptions{
			Argv: m.command, Env: env, Dir: m.cwd, Lock: m.lock, StatusPath: m.statusPath(), Mode: mode,
			Ignore: m.spread(),
		})
		return err
	})
	if err != nil {
		return err
	}
	m.note(Event{Event: "started", Text: fmt.Sprintf("started %s; images go to %s", m.key, m.store.Dir())})
	return nil
}

// resume takes the newest image that is good.
func (m *monitor) resume(ctx context.Context) (held bool, status int, err error) {
	m.noteAfterResume()
	defer m.noteNow()
	gens, err := m.candidates()
	if err != nil {
		return false, 0, err
	}
	for i, g := range gens {
		held, status, err = m.resumeFrom(ctx, g)
		if !isDamage(err) {
			return held, status, err
		}
		if i+1 < len(gens) {
			m.note(Event{Level: Warning, Event: "damaged", Generation: g.Number, Text: fmt.Sprintf(
				"%v: taken as damaged, image %d is tried instead", err, gens[i+1].Number)})
		}
	}
	return false, 0, Fail(ExitDamaged, "--fresh starts the job from the beginning", "%w; %s has no older good one", err, m.key)
}

func isDamage(err error) bool {
	return errors.As(err, new(*image.DamagedError)) || errors.As(err, new(*image.UnsafeError))
}

func (m *monitor) resumeFrom(ctx context.Context, g store.Generation) (held bool, status int, err error) {
	if err := m.adopt(g.Dir); err != nil {
		return false, 0, err
	}
	before, reason, err := m.stuck(g.Number)
	if err != nil {
		return false, 0, err
	}
	if reason != "" {
		status, err := m.hold(ctx, reason)
		return true, status, err
	}
	m.removeStatus()
	report, err := m.resumeImage(ctx, g)
	if err != nil {
		if isDamage(err) || errors.As(err, new(*engine.MismatchError)) || errors.As(err, new(*engine.ChangedError)) ||
			errors.As(err, new(*engine.TakenError)) || errors.As(err, new(*earlyError)) {
			_ = m.store.SetProgress(before) // that was no resume
		}
		return false, 0, err
	}
	m.resumed(g, report)
	return false, 0, nil
}

func (m *monitor) resumeImage(ctx context.Context, g store.Generation) (*engine.ResumeReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	update, done := m.cfg.Reporter.Progress("resume")
	defer done()
	var proc Job
	var report *engine.ResumeReport
	err := m.inMode(func(mode string) error {
		return m.during(func() (err error) {
			proc, report, err = m.cfg.Engine.Resume(ctx, engine.ResumeOptions{
				Image: g.Dir, Lock: m.lock, StatusPath: m.statusPath(), SavedDir: m.store.Saved(), Files: m.cfg.Files, Mode: mode,
			}, update)
			return err
		}, cancel)
	})
	m.proc = proc
	return report, err
}

func (m *monitor) resumed(g store.Generation, r *engine.ResumeReport) {
	m.last = &Saved{Generation: g.Number, Time: g.Time, Bytes: g.Size}
	if m.costs.took == 0 && r.Took > 0 && r.Bytes > 0 {
		// Better than an assumption until the first dump: storage reads about
		// as fast as it writes.
		m.costs.speed = float64(r.Bytes) / r.Took.Seconds()
	}
	m.plan.cpuNote = time.Now().Add(m.cfg.patience.cpuNote)
	for _, n := range r.Notes {
		m.note(Event{Level: Warning, Event: "note", Text: n})
	}
	m.note(Event{
		Event: "resumed", Generation: g.Number, Bytes: r.Bytes, Took: r.Took,
		Text: fmt.Sprintf("resumed %s from checkpoint %d, made %s, in %s", m.key, g.Number, g.Time.Format(time.DateTime), round(r.Took)),
	})
	m.show(fmt.Sprintf("esky: resumed from checkpoint %d on %s", g.Number, hostname()))
}

// adopt takes from the image what the job was started as.
func (m *monitor) adopt(dir string) error {
	r, err := image.Open(dir)
	if err != nil {
		return err
	}
	defer r.Close()
	meta := r.Meta()
	if len(m.command) > 0 && !slices.Equal(m.command, meta.GetCommand()) {
		m.note(Event{Level: Warning, Event: "warning", Text: fmt.Sprintf(
			"the image of %s was made by %q: that is resumed, not %q (--fresh would start it)",
			m.key, strings.Join(meta.GetCommand(), " "), strings.Join(m.command, " "))})
	}
	m.command, m.cwd = meta.GetCommand(), meta.GetCwd()
	if h := meta.GetHost(); h != nil {
		m.cfg.Facts.ImageLabel = host.Label(h)
	}
	if f := meta.GetForeign(); f != nil && !m.cfg.Foreign {
		return Fail(ExitCannot, "resume it with --provider "+f.GetProvider(), "image %s was made by provider %s", dir, f.GetProvider())
	}
	return refuseTwin(meta.GetOrigin())
}

// statusPath is where the job's init leaves the exit status for a monitor that
// takes over.
func (m *monitor) statusPath() string { return filepath.Join(m.store.Dir(), "status") }

// removeStatus removes that of an earlier incarnation.
func (m *monitor) removeStatus() {
	_ = os.Remove(m.statusPath())
	_ = os.Remove(m.statusPath() + ".job")    // package engine's
	_ = os.Remove(m.statusPath() + ".handle") // package foreign's
	_ = os.Remove(engine.IDsPath(m.statusPath()))
}

// environment is that of the job: ours, who it is, and the preload library
// before those that are there already.
func (m *monitor) environment(mode string) ([]string, error) {
	env := engine.Setenv(m.cfg.Env, map[string]string{
		"ESKY_JOB": m.key, "ESKY_STORE": filepath.Dir(m.store.Dir()), "ESKY_ATTEMPT": strconv.Itoa(m.attempt),
	})
	lib, err := m.installLibrary()
	if err != nil {
		return nil, err
	}
	env, err = engine.WithPreload(env, lib, mode, m.statusPath())
	if err != nil {
		return nil, store.WriteError(filepath.Dir(lib), err)
	}
	return env, nil
}

// installLibrary puts the preload library into the store, where every host of
// the job finds it under the same path. A path that LD_PRELOAD cannot express
// leaves the job without it: it is served by injection then. So does
// ESKY_PRELOAD=none, for a program that does not bear to be preloaded.
func (m *monitor) installLibrary() (string, error) {
	if m.cfg.Foreign || engine.NoPreload(m.cfg.Env) {
		return "", nil
	}
	dir := filepath.Join(filepath.Dir(m.store.Dir()), ".lib")
	if !engine.Preloadable(dir) {
		m.note(Event{Level: Warning, Event: "warning", Text: fmt.Sprintf(
			"the path of the store, %s, has a space or a colon: the preload library is left out, so esky.h does not work in this job", dir)})
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", store.WriteError(dir, err)
	}
	path, err := m.cfg.library(dir)
	if err != nil {
		return "", store.WriteError(dir, err)
	}
	return path, nil
}
