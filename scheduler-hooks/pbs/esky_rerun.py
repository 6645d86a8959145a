# SPDX-License-Identifier: Apache-2.0
"""A hook of OpenPBS and PBS Professional: jobs that esky has saved run again.

    qmgr -c "create hook esky event='execjob_launch,execjob_epilogue'"
    qmgr -c "import hook esky application/x-python default esky_rerun.py"

At the launch it tells the job that it is there; a job that then ends with
status 99 is queued again, under its id. Whatever goes wrong in here leaves the
job as it is.
"""
import pbs

AGAIN = 99

try:
    event = pbs.event()
    if event.type == pbs.EXECJOB_LAUNCH:
        event.env["ESKY_PBS_RERUN"] = "1"
    elif event.type == pbs.EXECJOB_EPILOGUE and event.job.Exit_status == AGAIN:
        event.job.rerun()
        pbs.logmsg(pbs.LOG_DEBUG, "esky: %s was saved and runs again" % event.job.id)
except Exception as e:  # a hook that fails must not hurt the job
    pbs.logmsg(pbs.LOG_WARNING, "esky: %s" % e)
