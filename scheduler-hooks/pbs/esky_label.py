# SPDX-License-Identifier: Apache-2.0
"""A hook of OpenPBS and PBS Professional: each host publishes which kind of
machine it is, in the resource esky_label.

    qmgr -c "create resource esky_label type=string,flag=h"
    qmgr -c "create hook esky_label event=exechost_startup"
    qmgr -c "import hook esky_label application/x-python default esky_label.py"

It runs as root and executes one program of the site's, without anything of a
user's. Whatever goes wrong in here leaves the host without a label.
"""
import subprocess

import pbs

WRAP = "/usr/local/bin/esky-wrap"

try:
    event = pbs.event()
    answer = subprocess.run(
        [WRAP, "host-label"], stdin=subprocess.DEVNULL, capture_output=True, cwd="/", env={}, timeout=10, check=True
    )
    label = answer.stdout.decode("ascii").strip()
    if not label or len(label) > 64 or not label.replace("-", "").replace("_", "").isalnum():
        raise ValueError("%r is no label" % label)
    event.vnode_list[pbs.get_local_nodename()].resources_available["esky_label"] = label
except Exception as e:  # a hook that fails must not take the host out of service
    pbs.logmsg(pbs.LOG_WARNING, "esky: no label: %s" % e)
