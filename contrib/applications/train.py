#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Training as a script does that saves itself: stands for one that uses PyTorch.

train.py [--resume FILE] [--steps N] [--pace SECONDS]
"""
import argparse
import glob
import os
import pickle
import random
import signal
import time

args = argparse.ArgumentParser()
args.add_argument("--resume")
args.add_argument("--steps", type=int, default=200)
args.add_argument("--pace", type=float, default=0.02)
args = args.parse_args()

asked = False


def ask(*_):
    global asked
    asked = True


signal.signal(signal.SIGUSR1, ask)


def save(step, weights):
    """A checkpoint has its name only when it is complete. Two are kept."""
    path = f"checkpoints/step-{step:06d}.pt"
    with open(path + ".new", "wb") as f:
        pickle.dump((step, weights, random.getstate()), f)
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".new", path)
    for old in sorted(glob.glob("checkpoints/step-*.pt"))[:-2]:
        os.remove(old)


os.makedirs("checkpoints", exist_ok=True)
random.seed(42)
step, weights = 0, [0.0] * 1000
if args.resume:
    with open(args.resume, "rb") as f:
        step, weights, state = pickle.load(f)
    random.setstate(state)
with open("begun", "a") as f:
    print(step, file=f)

while step < args.steps:
    step += 1
    weights = [w * 0.99 + random.gauss(0, 0.01) for w in weights]
    with open("progress", "w") as f:
        print(step, file=f)
    time.sleep(args.pace)
    if asked:
        asked = False
        save(step, weights)

print(f"loss {sum(w * w for w in weights):.12f}")
