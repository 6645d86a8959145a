// SPDX-License-Identifier: Apache-2.0
// A heat equation on a ring of ranks, with small and large messages, collectives
// and one-sided access to a shared window.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#define N 60000
#ifndef STEPS
#define STEPS 9000
#endif

static double u[N + 2], v[N + 2];

static void step(int left, int right)
{
	MPI_Sendrecv(&u[1], 1, MPI_DOUBLE, left, 1, &u[N + 1], 1, MPI_DOUBLE, right, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	MPI_Sendrecv(&u[N], 1, MPI_DOUBLE, right, 2, &u[0], 1, MPI_DOUBLE, left, 2, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	for (int i = 1; i <= N; i++)
		v[i] = u[i] + 0.25 * (u[i - 1] - 2 * u[i] + u[i + 1]);
	for (int i = 1; i <= N; i++)
		u[i] = v[i];
}

int main(int argc, char **argv)
{
	int rank, size;
	double *window, sum, all;
	MPI_Win win;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	int left = (rank + size - 1) % size, right = (rank + 1) % size;
	for (int i = 1; i <= N; i++)
		u[i] = (i * 7919 + rank * 104729) % 1009;
	MPI_Win_allocate_shared(sizeof *window, sizeof *window, MPI_INFO_NULL, MPI_COMM_WORLD, &window, &win);
	*window = rank;
	for (int s = 0; s < STEPS; s++) {
		step(left, right);
		if (s % 100 != 99)
			continue;
		sum = 0;
		for (int i = 1; i <= N; i++)
			sum += u[i] * (i % 17);
		MPI_Allreduce(&sum, &all, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
		// The whole field goes once round the ring: more than fits a queue.
		MPI_Sendrecv(u, N + 2, MPI_DOUBLE, right, 3, v, N + 2, MPI_DOUBLE, left, 3, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		for (int i = 0; i < N + 2; i++)
			u[i] = v[i];
		double add = s;
		MPI_Win_lock_all(0, win);
		MPI_Accumulate(&add, 1, MPI_DOUBLE, right, 0, 1, MPI_DOUBLE, MPI_SUM, win);
		MPI_Win_unlock_all(win);
		MPI_Barrier(MPI_COMM_WORLD);
		if (rank == 0)
			printf("%d %.10e\n", s, all);
	}
	printf("rank %d of %d ends with %g\n", rank, size, *window);
	MPI_Win_free(&win);
	MPI_Finalize();
	return 0;
}
