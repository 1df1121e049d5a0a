"""What a comparison by turns needs: programs that run one after the other, the memory's read bandwidth around every run,
medians, tables.

Turns, not one program after the other: a machine's speed drifts. Decoding is bound by the read bandwidth, which on a shared
machine has states that last for minutes; a run beside a low sample says little.
"""
import os
import statistics
import subprocess
import sys


def fail(text):
    sys.exit(f"compare: {text}")


def output_of(command, stdin=None):
    done = subprocess.run(command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        fail(f"{os.path.basename(command[0])}: exit code {done.returncode}: {last}")
    return done.stdout


class Turns:
    """Takes turns and notes, for each program, what plain reads gave around its runs."""

    def __init__(self, bandwidth, threads, rounds):
        self.command = [bandwidth, str(threads)]
        self.rounds = rounds
        self.reads = {}  # program: GB/s, two samples a run
        self.load = 0.0  # the highest load average of a minute; above threads + 1 other work ran beside

    def sample(self):
        return float(output_of(self.command))

    def take(self, what, runners):
        """Runs every program of {name: function} once a round. The function's measurements, a list of (key, dict), come
        back as {key: {name: [dict, ...]}}; each dict gets "read", the better of the two samples around it, in bytes/s."""
        found = {}
        for turn in range(self.rounds):
            for name, runner in runners.items():
                before = self.sample()
                measured = runner()
                after = self.sample()
                self.reads.setdefault(name, []).extend((before, after))
                load = os.getloadavg()[0]
                self.load = max(self.load, load)
                for key, values in measured:
                    values["read"] = max(before, after) * 1e9
                    found.setdefault(key, {}).setdefault(name, []).append(values)
                print(f"{what}: round {turn + 1} of {self.rounds}: {name}, memory reads {before:.1f} GB/s before, "
                      f"{after:.1f} after, load {load:.2f}", file=sys.stderr)
        return found


def median(values):
    """None where nothing was measured."""
    return statistics.median(values) if values else None


def ratio(a, b):
    return a / b if a is not None and b else None


def spread(values, digits=1):
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def print_table(title, rows):
    """The first row is the head."""
    print(f"\n{title}")
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip(), flush=True)
