"""Command `bench`: measures this project on this machine, beside what a user would write without it.

A benchmark is a module with ``OPTIONS`` (name, default, help) and ``run(args)``, and a line in `BENCHMARKS`.
"""

from __future__ import annotations

import argparse

from streetrecall.benchmarks import embed, index, scrape

BENCHMARKS = {
    "scrape": (scrape, "pictures per second by browsers, beside a plain Selenium loop"),
    "embed": (embed, "pictures per second from JPEG bytes to descriptors"),
    "index": (index, "queries per second at a recall@10 of 0.99, beside faiss and hnswlib"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)
    for name, (module, text) in BENCHMARKS.items():
        sub = commands.add_parser(name, help=text, description=text)
        for option, default, help_text in module.OPTIONS:
            sub.add_argument(f"--{option}", type=int, default=default, help=f"{help_text} (%(default)s)")


def main(args: argparse.Namespace) -> None:
    BENCHMARKS[args.benchmark][0].run(args)
