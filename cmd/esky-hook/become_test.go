// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// becomeVar makes this test binary the process that gives up root.
const becomeVar = "ESKY_HOOK_TEST_BECOME"

func TestMain(m *testing.M) {
	if os.Getenv(becomeVar) == "" {
		os.Exit(m.Run())
	}
	if err := (job{id: "1", uid: 5001, gid: 5002}).become(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Stdout.Write(status)
}

func TestBecomeGivesUpEverything(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{becomeVar + "=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		"Uid:\t5001\t5001\t5001\t5001\n", "Gid:\t5002\t5002\t5002\t5002\n", "Groups:\t5002 \n",
		"CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "Umask:\t0077\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
