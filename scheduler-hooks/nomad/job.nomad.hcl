# SPDX-License-Identifier: Apache-2.0
job "my-simulation" {
  type = "batch"

  group "main" {
    restart { # after leaving with an image, on this client
      attempts = 3
      interval = "24h"
      delay    = "15s"
      mode     = "fail"
    }
    reschedule { # then on others
      attempts  = 10
      interval  = "168h"
      unlimited = false
    }
    task "main" {
      driver       = "exec"
      kill_signal  = "SIGTERM"
      kill_timeout = "120s" # max_kill_timeout of the client bounds it
      config {
        command = "/usr/local/bin/esky-wrap"
        args    = ["run", "--", "/opt/my/program", "args"]
      }
      env {
        ESKY_STORE       = "/shared/esky" # on a file system that all clients share
        ESKY_NOMAD_GRACE = "120"
      }
    }
  }
}
