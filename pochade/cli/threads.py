"""`--threads`, of the commands that compute."""

import argparse


def add_threads_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of CPU threads (default: one per core, within a container's CPU quota)",
    )
