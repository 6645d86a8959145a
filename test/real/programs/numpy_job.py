# SPDX-License-Identifier: Apache-2.0
"""Products of matrices in the threads of the BLAS, one line of hash a step.

The entries are small whole numbers, so that the sums are exact and the order
in which the threads add does not show.
"""
import hashlib
import os
import sys

import numpy as np

lines = int(sys.argv[1])
rng = np.random.default_rng(7)
a = rng.integers(0, 97, (500, 500)).astype(np.float64)
b = rng.integers(0, 97, (500, 500)).astype(np.float64)
out = open("out", "w")
a @ b
threads = len(os.listdir("/proc/self/task"))
print("threads", threads, flush=True)
for i in range(lines):
    for _ in range(2):
        a = (a @ b + i) % 97
    digest = hashlib.sha256(a.tobytes()).hexdigest()
    print(i, digest, flush=True)
    out.write(f"{i} {rng.integers(1 << 60)} {digest[:8]}\n")
out.close()
