-- SPDX-License-Identifier: Apache-2.0
--
-- For sbatch (CliFilterPlugins=lua): with ESKY_BATCH in the environment ("ESKY_BATCH=-
-- sbatch job.sh", or ESKY_BATCH=every=30m) the job asks for esky by its comment, which
-- job_submit.lua sees; and its output survives a requeue.

function slurm_cli_setup_defaults(options, early)
	return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, offset)
	local wanted = os.getenv("ESKY_BATCH")
	if wanted and wanted ~= "" and options["type"] == "sbatch" then
		options["comment"] = wanted == "-" and "esky" or "esky:" .. wanted
		options["open-mode"] = "append"
		options["requeue"] = "yes"
	end
	return slurm.SUCCESS
end

function slurm_cli_post_submit(offset, job_id, step_id)
	return slurm.SUCCESS
end
