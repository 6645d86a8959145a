// SPDX-License-Identifier: Apache-2.0
//
// A SPANK plugin: "sbatch --esky[=OPTIONS] SCRIPT" runs the whole batch script under
// esky-wrap, with no change to the script. One line in plugstack.conf:
//
//     optional /opt/esky/slurm/spank_esky.so launcher=/opt/esky/slurm/batch
//
// All that it does is to put the launcher in the script's place when slurmstepd is
// about to execute it, and to tell it the script by ESKY_BATCH_SCRIPT. If anything
// goes wrong the script runs as if the option had not been given.

#include <slurm/slurm.h>
#include <slurm/spank.h>
#include <string.h>
#include <unistd.h>

SPANK_PLUGIN(esky, 1);

#define LAUNCHER "launcher="

// What --esky was given; NULL: it was not. It lives as long as the process.
static const char *options;

static int take_option(int val, const char *optarg, int remote)
{
	(void)val;
	(void)remote;
	options = optarg ? strdup(optarg) : "";
	return options ? 0 : -1;
}

static struct spank_option esky_option = {
	"esky", "[options]",
	"run the batch script under esky-wrap; options as every=30m,keep=3",
	2 /* an argument may follow */, 0, take_option,
};

int slurm_spank_init(spank_t sp, int ac, char **av)
{
	(void)ac;
	(void)av;
	switch (spank_context()) {
	case S_CTX_ALLOCATOR: // sbatch
	case S_CTX_REMOTE:    // slurmstepd, which hears what sbatch was given
		return spank_option_register(sp, &esky_option);
	default:
		return 0;
	}
}

// In the script's process, as the user, just before it is executed.
int slurm_spank_task_init(spank_t sp, int ac, char **av)
{
	uint32_t step;
	int argc;
	char **argv;
	static char launcher[4096];

	if (!options || spank_get_item(sp, S_JOB_STEPID, &step) || step != SLURM_BATCH_SCRIPT)
		return 0;
	for (int i = 0; i < ac; i++)
		if (!strncmp(av[i], LAUNCHER, strlen(LAUNCHER)))
			strncpy(launcher, av[i] + strlen(LAUNCHER), sizeof launcher - 1);
	if (!launcher[0] || access(launcher, X_OK)) {
		slurm_error("esky: no launcher %s: the script runs without esky", launcher);
		return 0;
	}
	if (spank_get_item(sp, S_JOB_ARGV, &argc, &argv) || argc < 1 ||
	    spank_setenv(sp, "ESKY_BATCH_SCRIPT", argv[0], 1) || spank_setenv(sp, "ESKY_BATCH_OPTIONS", options, 1)) {
		slurm_error("esky: cannot tell the script: it runs without esky");
		return 0;
	}
	argv[0] = launcher; // the array is slurmstepd's own, which executes it next
	return 0;
}
