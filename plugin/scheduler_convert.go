// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"time"

	"github.com/esky-hpc/esky/plugin/wire"
)

// unixNs and atUnixNs keep the zero time zero.
func unixNs(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func atUnixNs(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

func toFacts(f Facts) *wire.Facts {
	return &wire.Facts{
		Env: toBytes(f.Env), Command: toBytes(f.Command), Dir: []byte(f.Dir), Pid: int64(f.Pid), NowUnixNs: unixNs(f.Now),
		StdoutFile: f.Stdout.File, StdoutAppend: f.Stdout.Append, StdoutPath: []byte(f.Stdout.Path),
		Leader: f.Leader, BeganUnixNs: unixNs(f.Began), Start: f.Start,
	}
}

func fromFacts(w *wire.Facts) Facts {
	f := Facts{
		Env: toStrings(w.GetEnv()), Command: toStrings(w.GetCommand()), Dir: string(w.GetDir()), Pid: int(w.GetPid()),
		Now: atUnixNs(w.GetNowUnixNs()), Leader: w.GetLeader(), Began: atUnixNs(w.GetBeganUnixNs()), Start: w.GetStart(),
	}
	f.Stdout.File, f.Stdout.Append, f.Stdout.Path = w.GetStdoutFile(), w.GetStdoutAppend(), string(w.GetStdoutPath())
	return f
}

func toJob(j Job) *wire.SchedulerJob {
	return &wire.SchedulerJob{
		Scheduler: j.Scheduler, Id: j.ID, Key: j.Key, Attempt: j.Attempt, Sole: j.Sole, Step: j.Step,
		EndUnixNs: unixNs(j.End), GraceNs: int64(j.Grace), TruncatesOutput: j.TruncatesOutput,
		Comment: j.Comment, NoReturn: j.NoReturn, Warnings: j.Warnings,
	}
}

func fromJob(w *wire.SchedulerJob) Job {
	return Job{
		Scheduler: w.GetScheduler(), ID: w.GetId(), Key: w.GetKey(), Attempt: w.GetAttempt(), Sole: w.GetSole(), Step: w.GetStep(),
		End: atUnixNs(w.GetEndUnixNs()), Grace: time.Duration(w.GetGraceNs()), TruncatesOutput: w.GetTruncatesOutput(),
		Comment: w.GetComment(), NoReturn: w.GetNoReturn(), Warnings: w.GetWarnings(),
	}
}

func toAction(a Action) *wire.Action {
	w := &wire.Action{Settled: a.Settled, Exit: int32(a.Exit), WaitForKill: a.WaitForKill, Note: a.Note}
	for _, argv := range a.Commands {
		w.Commands = append(w.Commands, &wire.Command{Argv: toBytes(argv)})
	}
	return w
}

func fromAction(w *wire.Action) Action {
	a := Action{Settled: w.GetSettled(), Exit: int(w.GetExit()), WaitForKill: w.GetWaitForKill(), Note: w.GetNote()}
	for _, c := range w.GetCommands() {
		a.Commands = append(a.Commands, toStrings(c.GetArgv()))
	}
	return a
}
