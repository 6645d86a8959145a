-- SPDX-License-Identifier: Apache-2.0
--
-- For slurmctld (JobSubmitPlugins=lua): jobs that ask for it by --comment=esky, or
-- --comment=esky:every=30m,keep=3, and all jobs of the partitions below, run their
-- whole batch script under esky-wrap. It only puts a launcher in front of the
-- script's own interpreter. A site with a job_submit.lua of its own calls
-- esky_batch(job_desc) from there.

local launcher = "/opt/esky/slurm/batch"
local partitions = {} -- for example { preempt = true }

-- What a job asks for: options, "-" without any, nil for not at all.
local function asked(job_desc)
	local comment = job_desc.comment or ""
	if comment == "esky" then
		return "-"
	end
	local options = comment:match("^esky:([%w=.,:_/+-]+)$")
	if not options and partitions[job_desc.partition or ""] then
		options = "-"
	end
	return options
end

function esky_batch(job_desc)
	local options = asked(job_desc)
	if not options or not job_desc.script then
		return
	end
	local interpreter, rest = job_desc.script:match("^#!%s*([^\n]*)(\n.*)$")
	-- The kernel reads no more than 255 bytes of the first line (execve(2)).
	if not interpreter or interpreter:find(launcher, 1, true) or #interpreter > 150 then
		return
	end
	job_desc.script = "#!" .. launcher .. " " .. options .. " " .. interpreter .. rest
	job_desc.requeue = 1
end

function slurm_job_submit(job_desc, part_list, submit_uid)
	esky_batch(job_desc)
	return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
	return slurm.SUCCESS
end

return slurm.SUCCESS
