// SPDX-License-Identifier: Apache-2.0

package native

import (
	"os"
	"testing"

	"github.com/esky-hpc/esky/internal/engine"
	"github.com/esky-hpc/esky/internal/host"
	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
	"github.com/esky-hpc/esky/test/harness"
)

func TestMain(m *testing.M) {
	if engine.WorkerMain(os.Args) {
		return
	}
	if len(os.Args) > 1 && os.Args[1] == host.Verb {
		host.ProbeMain(os.Args[2:])
	}
	os.Exit(harness.AsUser(m, nil))
}

// TestConformance: the same suite inside this process, and over gRPC. A new
// Provider knows as little of the jobs of another as a new process would.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(*testing.T) plugin.Provider{
		"in process": func(*testing.T) plugin.Provider { return New("test") },
		"over gRPC":  func(t *testing.T) plugin.Provider { return plugintest.OverWire(t, New("test")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plugintest.Provider(t, plugintest.ProviderCase{Open: open, Close: func(*testing.T, plugin.Provider) {}})
		})
	}
}
