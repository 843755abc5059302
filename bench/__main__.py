"""Run the named benchmarks, or every one, in a process of its own, one after the other."""

import argparse
import subprocess
import sys
from pathlib import Path

SCRIPTS = {script.stem: script for script in sorted(Path(__file__).parent.glob("[a-z]*.py"))}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        epilog="examples: `python -m bench store study`; `python bench/chain.py --help` for its options",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of {', '.join(SCRIPTS)}")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in SCRIPTS]:
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose from {', '.join(SCRIPTS)}")
    for name in names or SCRIPTS:
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, str(SCRIPTS[name])], check=True)


main()
