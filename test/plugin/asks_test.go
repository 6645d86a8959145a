// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/esky-hpc/esky/test/harness"
)

// asks is a program that asks for a checkpoint when it is told to.
func asks(t *testing.T, j *harness.Job) []string {
	source := filepath.Join(harness.Root(), "test/plugin/programs/asks.c")
	return []string{harness.Compile(t, j.Path("asks"), source, "gcc", "-I", filepath.Join(harness.Root(), "shim"))}
}

// TestAsks: a program that asks for a checkpoint gets one from a provider that is a
// plugin, and finds itself resumed in the call; also after the plugin was exchanged.
func TestAsks(t *testing.T) {
	if os.Getenv(providerVar) != "" {
		t.Skip("part of the outer run")
	}
	t.Parallel()
	j := badJob(t, "good")
	j.Argv = asks(t, j)
	r := j.Start()
	answers := ""
	ask := func(what, answer string) {
		t.Helper()
		answers += answer
		j.Write("ask", "")
		r.Until(what, func() bool { return j.Read("answers") == answers })
	}
	ask("the first is answered", "0\n")
	if n := len(j.Generations()); n != 1 {
		t.Errorf("%d images", n)
	}
	r.Crash()
	r = j.Start()
	answers += "1\n"
	r.Until("it is resumed in the call", func() bool { return j.Read("answers") == answers })
	ask("the second is answered", "0\n")
	killPlugins(j.Dir)
	ask("it is answered by another process of the plugin", "0\n")
	j.Write("go", "")
	r.WaitFor(3)
}
