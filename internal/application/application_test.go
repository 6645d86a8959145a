// SPDX-License-Identifier: Apache-2.0

package application

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/esky-hpc/esky/plugin"
	"github.com/esky-hpc/esky/plugin/plugintest"
)

func TestMain(m *testing.M) {
	if KeeperMain(os.Args) {
		return
	}
	if os.Getenv(passerByHandle) != "" {
		if err := passBy(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// counter is plugintest.Counter, which saves itself when it gets SIGUSR1 or finds the
// file please, and ends then if it is told to.
const counter = `
n=0 sum=0 want=
if [ "$1" = resume ]; then . ./state; fi
echo $((n + 1)) >> begun
trap 'want=1' USR1
while [ $n -lt 40 ]; do
	n=$((n + 1)) sum=$(((sum * 31 + n) % 1000003))
	echo $n > progress.new && mv progress.new progress
	sleep 0.03
	if [ -e please ]; then want=1; fi
	if [ -n "$want" ]; then
		want=
		echo "n=$n sum=$sum" > state.new && mv state.new state
		echo "saved step $n" >&2
		if [ "$leave" = yes ]; then exit 75; fi
	fi
done
echo "sum $sum"
exit 3`

// TestConformance: programs that are asked in all ways, and answer in all ways.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name, leave, config string
		wire                bool
	}{
		{name: "signal, file", config: "[ask]\nsignal = \"USR1\"\n[done]\nfile = \"state\""},
		{name: "signal, file, over gRPC", wire: true, config: "[ask]\nsignal = \"USR1\"\n[done]\nfile = \"stat?\""},
		{name: "file, exit", leave: "leave=yes", config: "files = [\"state\"]\n[ask]\nfile = \"please\"\n[done]\nexit = [75]"},
		{name: "command, output", config: "files = [\"state\"]\nlink = true\n[ask]\ncommand = [\"sh\", \"-c\", \"kill -USR1 $ESKY_PID\"]\n[done]\noutput = '^saved step \\d+$'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			script, config := filepath.Join(dir, "counter"), filepath.Join(dir, "counter.toml")
			write(t, script, c.leave+counter)
			write(t, config, "restart = [\"{command}\", \"resume\"]\n"+c.config)
			plugintest.Provider(t, plugintest.ProviderCase{
				Open: func(t *testing.T) plugin.Provider {
					if c.wire {
						return plugintest.OverWire(t, New("test"))
					}
					return New("test")
				},
				Close:   func(*testing.T, plugin.Provider) {},
				Exact:   true,
				Program: []string{"/bin/sh", script},
				Options: map[string]string{OptionConfig: config},
			})
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
