// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/sched"
	"github.com/esky-hpc/esky/internal/store"
	"github.com/esky-hpc/esky/shim"
)

// Config is what `esky-wrap run` and `esky-wrap resume` ask for.
type Config struct {
	Store      string   // directory of all jobs
	Local      string   // directory on this host for images on their way to the store; empty: none
	Name       string   // job key; empty: the adapter's
	Command    []string // program with arguments; empty: only resume
	Env        []string // what the program gets, but for what esky adds
	Generation uint32   // resume this one and no other; 0: the newest good one
	Fresh      bool     // forget what is in the store

	Every    Span
	Margin   Span
	OnSignal []syscall.Signal // nil: the adapter's; empty: none
	Keep     int
	Codec    image.Codec
	Files    string // rollback, accept or strict
	Mode     string // engine.ModeNamespace, engine.ModeShim; empty: the former where it works
	Version  string // of this program

	Engine   Engine
	Foreign  bool // the engine is not ours: it needs no preload library
	Adapter  sched.Adapter
	Facts    sched.Facts
	Signals  <-chan os.Signal // CatchSignals
	Reporter Reporter

	patience patience
	terminal func() bool // whether a shell may look after us
	stopSelf func()
	library  func(dir string) (path string, err error) // installs the preload library
}

// patience are the time-outs, which tests shorten.
type patience struct {
	lock     time.Duration // for another incarnation to let go of the job
	lockStep time.Duration
	signal   time.Duration // for a signal that has reached the job to reach us
	action   time.Duration // for the scheduler's commands
	kill     time.Duration // for the scheduler to kill us when its commands failed
	gone     time.Duration // for the processes of a saved job to be gone
	cpuNote  time.Duration // after a resume, until its CPU time is recorded
}

var defaultPatience = patience{
	lock: 60 * time.Second, lockStep: time.Second, signal: 250 * time.Millisecond,
	action: 25 * time.Second, kill: 10 * time.Minute, gone: 10 * time.Second,
	cpuNote: time.Minute,
}

// mostRestarts bounds how often one monitor resumes a job that was lost to a
// fault of ours before it leaves the next try to the next incarnation.
const mostRestarts = 3

// monitor is the state of one run. After prepare, the goroutine of Run owns it.
type monitor struct {
	cfg Config

	job     sched.Job
	leaveOn []syscall.Signal
	key     string
	command []string
	cwd     string

	store   *store.Store
	near    *store.Near // nil: images go to the store at once
	place   rendezvous
	claimed *os.File // the lock of living monitors on this host
	keys    *os.File // the lock of those who choose among the keys of this job
	lock    *os.File // the store's; nil where a job that we took over has it
	orphan  *store.Holder
	token   store.Token
	attempt int
	server  *server

	proc     Job
	state    state
	op       *operation
	queue    []*operation
	gone     *ending
	fault    error // of ours, that is ending the job
	received map[syscall.Signal]bool
	backlog  []syscall.Signal
	stopped  bool
	started  time.Time
	last     *Saved
	told     map[string]bool // notes about checkpoints; of the one that is being made
	costs    cost
	plan     plan
	timer    *time.Timer

	bringing context.CancelFunc // of what is being brought to the store; nil: nothing is
	broughts chan brought

	asks    chan ask
	results chan result
	ends    chan ending
	speeds  chan float64
	wg      sync.WaitGroup
	noting  sync.Mutex

	noteMu    sync.Mutex
	noteLater bool
	notes     []Event
}

// Run runs a job to its end on this host and returns the exit status.
func Run(ctx context.Context, cfg Config) (int, error) {
	m := newMonitor(cfg)
	defer m.close()
	status, err := m.run(ctx)
	var early *earlyError
	if errors.As(err, &early) {
		if early.leave {
			return m.handBack(ctx, "signal "+signalName(early.signal)+" came before the job ran")
		}
		return 128 + int(early.signal), nil
	}
	return status, err
}

func newMonitor(cfg Config) *monitor {
	if cfg.patience == (patience{}) {
		cfg.patience = defaultPatience
	}
	if cfg.stopSelf == nil {
		cfg.terminal, cfg.stopSelf = hasTerminal, stopSelf
	}
	if cfg.library == nil {
		cfg.library = shim.Install
	}
	m := &monitor{
		cfg: cfg, command: cfg.Command, cwd: cfg.Facts.Dir,
		received: map[syscall.Signal]bool{}, told: map[string]bool{}, timer: time.NewTimer(time.Hour),
		asks: make(chan ask), results: make(chan result, 1), ends: make(chan ending, 1), speeds: make(chan float64, 1),
		broughts: make(chan brought, 1),
	}
	m.timer.Stop()
	return m
}

func (m *monitor) run(ctx context.Context) (int, error) {
	if err := m.identify(ctx); err != nil {
		return 0, err
	}
	if err := m.openStore(); err != nil {
		return 0, err
	}
	if done, status, err := m.alreadyDone(); done || err != nil {
		return status, err
	}
	if err := m.acquire(); err != nil {
		return 0, err
	}
	// Again, now that nobody else can be about to write it.
	if done, status, err := m.alreadyDone(); done || err != nil {
		return status, err
	}
	if err := m.begins(); err != nil {
		return 0, err
	}
	return m.lives(ctx)
}

// lives starts or resumes the job and sees it through; again, if it was lost to
// a fault of ours and there is an image.
func (m *monitor) lives(ctx context.Context) (int, error) {
	for tries := 0; ; tries++ {
		if held, status, err := m.launch(ctx); err != nil || held {
			return status, err
		}
		o := m.live()
		if o.kind == lost && tries < mostRestarts && m.hasImage() {
			m.noteAfterResume()
			m.note(Event{Level: Warning, Event: "lost", Text: fmt.Sprintf("the job was lost (%v): it is resumed from its last image", o.err)})
			m.refuseQueue(o)
			m.forget()
			continue
		}
		return m.end(ctx, o)
	}
}

// identify finds out which job this is.
func (m *monitor) identify(ctx context.Context) error {
	j, err := m.cfg.Adapter.Describe(ctx, m.cfg.Facts)
	if err != nil {
		return Fail(ExitCannot, "", "which job is this? %w", err)
	}
	m.job, m.leaveOn = j, j.Leave
	if m.cfg.OnSignal != nil {
		m.leaveOn = m.cfg.OnSignal
	}
	if m.key = m.cfg.Name; m.key == "" {
		err = m.chooseKey()
	}
	for _, w := range j.Warnings {
		m.note(Event{Level: Warning, Event: "warning", Text: w})
	}
	return err
}

func (m *monitor) openStore() error {
	s, err := store.Open(m.cfg.Store, m.key)
	if err != nil {
		return notWritable(err)
	}
	m.store = s
	if m.place, err = meet(filepath.Dir(s.Dir()), m.key); err == nil {
		m.openNear()
	}
	return err
}

func notWritable(err error) error {
	return Fail(ExitNotWritable, "choose another place with --store or ESKY_STORE", "%w", err)
}

// alreadyDone keeps a requeued incarnation of a finished job from running it
// a second time.
func (m *monitor) alreadyDone() (bool, int, error) {
	if m.cfg.Fresh {
		return false, 0, nil
	}
	d, err := m.store.Done()
	if d == nil || err != nil {
		return false, 0, err
	}
	m.note(Event{Level: Warning, Event: "done", Status: &d.Status, Text: fmt.Sprintf(
		"%s has finished already, with status %d on %s at %s: it is not run again (--fresh would)",
		m.key, d.Status, d.Host, d.Time.Format(time.DateTime))})
	return true, d.Status, m.comePast()
}

// begins makes this process the incarnation that counts.
func (m *monitor) begins() error {
	m.started = time.Now()
	token, err := m.takeIncarnation()
	if err != nil {
		return err
	}
	m.keyIsChosen()
	m.token, m.attempt = token, int(token)-1
	if m.cfg.Fresh && m.orphan == nil {
		if err := m.startOver(); err != nil {
			return err
		}
	}
	m.server, err = serve(m.place.socket, m.ask)
	return err
}

// startOver forgets earlier runs of the job.
func (m *monitor) startOver() error {
	if err := errors.Join(m.store.RemoveImages(), m.emptyNear()); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(m.store.Dir(), "done.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return store.WriteError(m.store.Dir(), err)
	}
	return m.store.SetProgress(store.Progress{})
}

// forget makes room for the next life in this process.
func (m *monitor) forget() {
	m.proc, m.gone, m.fault, m.op, m.queue = nil, nil, nil, nil, nil
	m.state, m.stopped, m.plan = starting, false, plan{}
}

// note tells the user. While a resume may cut standard error back to what it
// was at the checkpoint, and with it what we say there, it waits.
func (m *monitor) note(e Event) {
	e.Job = m.key
	m.noteMu.Lock()
	defer m.noteMu.Unlock()
	if m.noteLater {
		m.notes = append(m.notes, e)
		return
	}
	m.cfg.Reporter.Report(e)
}

func (m *monitor) noteAfterResume() {
	m.noteMu.Lock()
	defer m.noteMu.Unlock()
	m.noteLater = true
}

func (m *monitor) noteNow() {
	m.noteMu.Lock()
	defer m.noteMu.Unlock()
	m.noteLater = false
	for _, e := range m.notes {
		m.cfg.Reporter.Report(e)
	}
	m.notes = nil
}

// close gives up everything that is held, in the end or after an error.
func (m *monitor) close() {
	m.timer.Stop()
	m.noteNow()
	m.haltBringing()
	m.letGo()
	m.wg.Wait()
}

// letGo lets the next incarnation have the job.
func (m *monitor) letGo() {
	m.closeServer()
	for _, f := range []**os.File{&m.lock, &m.claimed, &m.keys} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

func (m *monitor) closeServer() {
	if m.server != nil {
		m.server.close()
		m.server = nil
	}
}
