// SPDX-License-Identifier: Apache-2.0
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** Keeps the compiler, the collector and a pool of threads busy. */
public class Job {
    static long mix(long x) {
        x ^= x >>> 33; x *= 0xff51afd7ed558ccdL; x ^= x >>> 33; x *= 0xc4ceb9fe1a85ec53L;
        return x ^ (x >>> 33);
    }

    /** Builds and drops trees, so that there is something to collect. */
    static final class Tree {
        final Tree left, right; final long v;
        Tree(int depth, long seed) {
            v = mix(seed);
            left = depth == 0 ? null : new Tree(depth - 1, seed * 2);
            right = depth == 0 ? null : new Tree(depth - 1, seed * 2 + 1);
        }
        long sum() { return v + (left == null ? 0 : left.sum() ^ right.sum()); }
    }

    static long round(int n) {
        Map<String, Long> counts = new HashMap<>();
        long sum = new Tree(14, n).sum();
        for (int i = 0; i < 20_000; i++)
            counts.merge("key" + mix(i * 31L + n) % 4001, sum ^ i, Long::sum);
        return counts.entrySet().stream().sorted(Map.Entry.comparingByKey())
            .mapToLong(e -> e.getValue() * e.getKey().hashCode()).reduce(sum, (a, b) -> mix(a ^ b));
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(1);
        var ticks = new java.util.concurrent.atomic.AtomicInteger();
        timer.scheduleAtFixedRate(ticks::incrementAndGet, 10, 10, TimeUnit.MILLISECONDS);
        List<Future<Long>> all = IntStream.range(0, 400)
            .mapToObj(n -> pool.submit(() -> round(n))).collect(Collectors.toList());
        long sum = 0;
        for (int n = 0; n < all.size(); n++) {
            sum = mix(sum ^ all.get(n).get());
            if (n % 50 == 49) System.out.println(n + " " + Long.toHexString(sum));
        }
        pool.shutdown();
        timer.shutdownNow();
        System.out.println(pool.awaitTermination(1, TimeUnit.MINUTES) + " " + (ticks.get() > 20));
    }
}
