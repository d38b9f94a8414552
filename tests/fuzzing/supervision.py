"""Tries thousands of damaged inputs, and exits with 1 if one ended in anything but success or a sentence of ours.

`run.py --recipes 0 --weights 0 --images 1 --case N` repeats one case. Each suite has a process of its own with bounded memory; one that dies or hangs is begun again after the
case that it died of.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from fuzzing.suites import SUITES
from fuzzing.trial import LIMIT, Outcome, ready

COUNTS = {"recipes": 20_000, "weights": 5_000, "images": 5_000}
SEEDS = (0, 1)  # both have found defects, which have tests of their own by now
COMMAND = Path(__file__).with_name("run.py")
MEMORY = 3 * 2**30
"""Bytes of address space beyond what the suite needs before its first case."""


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for suite, count in COUNTS.items():
        parser.add_argument(f"--{suite}", type=int, default=count, metavar="N", help=f"cases (default: {count})")
    parser.add_argument("--seed", type=int, nargs="+", default=SEEDS, help=f"of every choice (default: {SEEDS})")
    parser.add_argument("--case", type=int, metavar="N", help="only this case of each suite that has any")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        suite, *numbers = options.child
        return carry_out(suite, options.seed[0], *map(int, numbers))
    failed = 0
    for seed, suite in itertools.product(options.seed, SUITES):
        count = getattr(options, suite)
        if count:
            first, last = (0, count) if options.case is None else (options.case, options.case + 1)
            failed += supervise(suite, seed, first, last)
    return 1 if failed else 0


def supervise(suite: str, seed: int, first: int, last: int) -> int:
    """Carry out cases in other processes, print what came of them, and give the number of failures."""
    outcomes: list[Outcome] = []
    memory = 0
    while first < last:
        with tempfile.TemporaryFile("w+") as errors:
            begun, found, peak = _one_process(suite, seed, first, last, errors)
            errors.seek(0)
            trace = errors.read()[-3000:]
        outcomes += found
        memory = max(memory, peak)
        if begun is None:
            sys.exit(f"{suite}: could not begin:\n{trace}")
        first = begun + 1
        if not found or found[-1].number != begun:
            outcomes.append(Outcome(begun, "?", refused=False, seconds=LIMIT, failure=f"hung or died:\n{trace}"))
    _print(suite, seed, outcomes, memory)
    return sum(bool(outcome.failure) for outcome in outcomes)


def _one_process(
    suite: str, seed: int, first: int, last: int, errors: IO[str]
) -> tuple[int | None, list[Outcome], int]:
    """The last case that was begun, the outcomes, and the peak of memory in bytes."""
    reading, writing = os.pipe()
    command = [sys.executable, str(COMMAND), "--seed", str(seed), "--child", suite, str(first), str(last), str(writing)]
    begun, outcomes, memory = None, [], 0
    with subprocess.Popen(command, pass_fds=[writing], stdout=subprocess.DEVNULL, stderr=errors) as process:
        os.close(writing)
        with os.fdopen(reading) as lines:
            for line in lines:
                match json.loads(line):
                    case int(number):
                        begun = number
                    case {"memory": peak}:
                        memory = peak
                    case outcome:
                        outcomes.append(Outcome(**outcome))
        process.wait()
    return begun, outcomes, memory


def carry_out(suite: str, seed: int, first: int, last: int, pipe: int) -> int:
    """In a process of its own: say of each case that it begins and how it ended."""
    with os.fdopen(pipe, "w", buffering=1) as report, ready(suite, seed) as trial:
        _say(report, first)
        faulthandler.dump_traceback_later(2 * LIMIT, exit=True)
        trial.attempt(first)  # imports what is imported late
        limit = _address_space() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in range(first, last):
            _say(report, number)
            faulthandler.dump_traceback_later(2 * LIMIT, exit=True)
            outcome = trial.attempt(number)
            faulthandler.cancel_dump_traceback_later()
            _say(report, asdict(outcome))
        _say(report, {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024})
    return 0


def _say(report: IO[str], message: Any) -> None:
    report.write(json.dumps(message) + "\n")


def _address_space() -> int:
    pages = Path("/proc/self/statm").read_text().split()[0]
    return int(pages) * resource.getpagesize()


def _print(suite: str, seed: int, outcomes: list[Outcome], memory: int) -> None:
    failures = [outcome for outcome in outcomes if outcome.failure]
    sound = [outcome for outcome in outcomes if not outcome.failure]
    refused = sum(outcome.refused for outcome in sound)
    slowest = max(outcomes, key=lambda outcome: outcome.seconds)
    print(f"{suite}: {len(outcomes):,} cases with seed {seed}: {len(sound) - refused:,} succeeded, {refused:,} refused in "
          f"a sentence, {len(failures):,} failed")  # fmt: skip
    for target, count in sorted(Counter(outcome.target for outcome in outcomes).items()):
        succeeded = sum(outcome.target == target and not outcome.refused for outcome in sound)
        print(f"  {target}: {count:,} cases, {succeeded:,} succeeded")
    print(
        f"  slowest: case {slowest.number} ({slowest.target}), {slowest.seconds:.2f} s; peak memory {memory / 2**20:,.0f} MiB"
    )
    for outcome in failures:
        print(f"  FAILED: seed {seed}, case {outcome.number} ({outcome.target}): {outcome.failure}")
    sys.stdout.flush()
