// SPDX-License-Identifier: Apache-2.0

package apps

import "testing"

// A program is one row: the directory below programs that it lies in.
type program struct {
	name     string
	uses     string   // what of the system it exercises
	needs    []string // executables
	packages []string // that have them; the version of the first is told
	build    func(t *testing.T, to string)
	quick    bool   // a run takes a few seconds, and its packages are in .ci/run
	shares   string // a file of the directory above, which several programs use
	scratch  string // a directory that it says to be its own: ESKY_SCRATCH
	shim     string // words of the message with which it is refused without namespaces, if it is
}

// segments is why programs are refused without namespaces.
const segments = "System V segments"

func programs() []program {
	return []program{
		// Shells and small tools
		{name: "bash", uses: "a coprocess, traps, background children, process substitution", packages: words("bash"), needs: words("bash"), quick: true},
		{name: "dash", uses: "a FIFO, pipelines, traps, background children", packages: words("dash"), needs: words("/bin/dash"), quick: true},
		{name: "shell", uses: "an interactive bash on a pseudo-terminal: history, jobs that are stopped and go on, ^C", packages: words("bash"), needs: words("bash /usr/bin/python3"), quick: true},
		{name: "script", uses: "a terminal that script(1) records", packages: words("bsdutils"), needs: words("script"), quick: true},
		{name: "tmux", uses: "a server with two windows, and its clients", packages: words("tmux"), needs: words("tmux"), quick: true},
		{name: "bc", uses: "one process that computes", packages: words("bc"), needs: words("bc"), quick: true},
		{name: "sort", uses: "temporary files, threads", scratch: "tmp", packages: words("coreutils"), needs: words("sort"), quick: true},
		{name: "xz", uses: "threads, pipes", packages: words("xz-utils"), needs: words("xz"), quick: true},
		{name: "gcc", uses: "make -j: short-lived processes, vfork, a job server", scratch: "src", packages: words("gcc make"), needs: words("gcc make"), quick: true},
		{name: "gcc-configure", uses: "configure, make -j and make check of a real source tree: GNU libiberty", scratch: "build", packages: words("binutils-source gcc make xz-utils"), needs: words("/usr/src/binutils/debian/rules gcc make xz")},

		// Languages
		{name: "perl", uses: "fork, select on pipes, interval timers", packages: words("perl"), needs: words("perl"), quick: true},
		{name: "ruby", uses: "threads, children behind pipes", packages: words("ruby"), needs: words("ruby"), quick: true},
		{name: "tcl", uses: "an event loop with timers and pipes", packages: words("tcl"), needs: words("tclsh"), quick: true},
		{name: "python-multiprocessing", uses: "a pool of processes, semaphores, shared memory", packages: words("python3"), needs: words("/usr/bin/python3"), quick: true},
		{name: "python-asyncio", uses: "epoll, TCP and unix sockets inside the job, a child, threads", packages: words("python3"), needs: words("/usr/bin/python3")},
		{name: "python-subprocess", uses: "threads that start processes", packages: words("python3"), needs: words("/usr/bin/python3"), quick: true},
		{name: "python-sqlite", uses: "SQLite in WAL mode from threads and a child: locks, mapped files", packages: words("python3"), needs: words("/usr/bin/python3"), quick: true},
		{name: "node", uses: "workers, shared buffers, the thread pool, epoll", packages: words("nodejs"), needs: words("node")},
		{name: "java", uses: "the JIT compiler, G1, thread pools", packages: words("default-jdk-headless"), needs: words("java javac")},

		{name: "go-http", uses: "thousands of goroutines, net/http between two of its own processes", packages: words("golang-go"), needs: words("go"), build: buildGo("go-http")},
		{name: "ipython", uses: "an interactive interpreter on a pseudo-terminal", packages: words("ipython3"), needs: words("/usr/bin/ipython3")},

		// Simulations
		{name: "gromacs", uses: "thread-MPI, OpenMP", packages: words("gromacs"), needs: words("gmx")},
		{name: "lammps", uses: "OpenMPI, two ranks", shim: segments, packages: words("lammps openmpi-bin"), needs: words("lmp mpirun.openmpi")},
		{name: "openmpi", uses: "four ranks over shared memory", shim: segments, shares: "ring.c", packages: words("openmpi-bin libopenmpi-dev"), needs: words("mpirun.openmpi mpicc.openmpi")},
		{name: "mpich", uses: "two ranks over shared memory", shim: segments, shares: "ring.c", packages: words("mpich libmpich-dev"), needs: words("mpirun.mpich mpicc.mpich")},

		// Mathematics
		{name: "r", uses: "BLAS, random numbers, forked workers", packages: words("r-base-core"), needs: words("Rscript")},
		{name: "octave", uses: "BLAS, an integrator", packages: words("octave"), needs: words("octave-cli")},

		// Data
		{name: "sqlite", uses: "bulk insert in WAL mode beside a reader: locks, mapped files", packages: words("sqlite3"), needs: words("sqlite3"), quick: true},
		{name: "redis", uses: "a server with an append-only log and its clients", packages: words("redis-server"), needs: words("redis-server redis-cli")},
		{name: "postgresql", uses: "a server, its many processes and shared memory, pgbench", shim: segments, packages: words("postgresql"), needs: words("pg_ctlcluster")},

		// Pictures
		{name: "povray", uses: "threads", packages: words("povray"), needs: words("povray")},
		{name: "ffmpeg", uses: "threads of x264 and of the pipeline", packages: words("ffmpeg"), needs: words("ffmpeg")},
	}
}
