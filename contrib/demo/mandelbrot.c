/* SPDX-License-Identifier: Apache-2.0 */

/* Draws the Mandelbrot set with characters. Threads compute the rows, each
 * pixel from a grid of samples; the main thread prints a row as soon as all
 * rows above it are there. It knows nothing of checkpoints.
 *
 * usage: mandelbrot SAMPLES, where the time grows with its square */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { WIDTH = 78, HEIGHT = 32, LIMIT = 2000 };

static char picture[HEIGHT][WIDTH + 1];
static int ready[HEIGHT], samples = 20;
static atomic_int next_row;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static int steps(double cx, double cy)
{
	double x = 0, y = 0;
	int n;

	for (n = 0; n < LIMIT && x * x + y * y < 4; n++) {
		double t = x * x - y * y + cx;

		y = 2 * x * y + cy;
		x = t;
	}
	return n;
}

static char pixel(int row, int column)
{
	static const char shades[] = " .,:;-~=+*o&%$#@";
	long sum = 0;

	for (int i = 0; i < samples * samples; i++) {
		double x = column + (i % samples) / (double)samples;
		double y = row + (i / samples) / (double)samples;
		int n = steps(-2.2 + 3.2 * x / WIDTH, -1.25 + 2.5 * y / HEIGHT);

		sum += n < 60 ? n : 60;
	}
	return shades[sum * 15 / (60L * samples * samples)];
}

static void *work(void *unused)
{
	int row;

	while ((row = atomic_fetch_add(&next_row, 1)) < HEIGHT) {
		for (int column = 0; column < WIDTH; column++)
			picture[row][column] = pixel(row, column);
		pthread_mutex_lock(&lock);
		ready[row] = 1;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return unused;
}

int main(int argc, char **argv)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t thread;

	if (argc > 1)
		samples = atoi(argv[1]);
	for (long i = 0; i < (cpus < 8 ? cpus : 8); i++)
		if (pthread_create(&thread, NULL, work, NULL) != 0)
			return 1;
	for (int row = 0; row < HEIGHT; row++) {
		pthread_mutex_lock(&lock);
		while (!ready[row])
			pthread_cond_wait(&changed, &lock);
		pthread_mutex_unlock(&lock);
		puts(picture[row]);
		fflush(stdout);
	}
	return 0;
}
