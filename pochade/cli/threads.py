"""`--threads`, of the commands that compute."""

import argparse


def add_threads_option(parser: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of the processor (default: one for each core, or what a container's quota allows)",
    )
