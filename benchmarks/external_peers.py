"""Other tools on the open half of the published faults, each as a change of one plain PyTorch loop.

    pip install --requirement requirements-peers-external.txt
    python -m benchmarks.external_peers --json runs/external-peers.json
    python -m benchmarks.external_peers TP-A1 --peer pytest-torch

Every check of a peer is run on the right loop first: one that objects to that is not counted. A fault is noticed by a
peer if one of the other checks objects. What a peer is asked is in benchmarks/peers_external/checks.py. The faults are
those of the open half (fixtures/external); a held-out one is not translated for the peers before it is graded.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers_external.checks import PEERS, Check, loop_in
from benchmarks.peers_external.faults import CHANGES, LOOP, NOT_HERE, with_fault

CASES = LOOP.with_name("trainparity_cases.py")


def objections(id: str | None, checks: dict[str, Check]) -> dict[str, str]:
    """Check -> what it objects to, of those that object to the loop with this fault; the right loop for None."""
    with tempfile.TemporaryDirectory(prefix="external-peers-") as made:
        folder = Path(made)
        (folder / LOOP.name).write_text(with_fault(id), encoding="utf-8")
        shutil.copy(CASES, folder)
        loop = loop_in(folder)
        return {name: said for name, check in checks.items() if (said := check(loop, folder)) is not None}


def graded(ids: Sequence[str], peer: str) -> dict[str, Any]:
    """What one peer says of the right loop, and of each fault."""
    checks = PEERS[peer]
    of_right = objections(None, checks)
    counted = {name: check for name, check in checks.items() if name not in of_right}
    found = {}
    for id in ids:
        start = time.perf_counter()
        found[id] = objections(id, counted)
        first = next(iter(found[id].items()), ("", "nothing"))
        print(
            f"{peer}  {id}: {': '.join(filter(None, first))}  ({time.perf_counter() - start:.1f} s)",
            flush=True,
        )
    return {"right loop": of_right, "faults": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.external_peers", description=__doc__.splitlines()[0]
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="these alone")
    parser.add_argument("--peer", action="append", help="a peer, or how its name begins; again for another")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    options = parser.parse_args(arguments)
    if unknown := [id for id in options.faults if id not in CHANGES]:
        reason = NOT_HERE.get(unknown[0], "no fault of the open half")
        parser.error(f"{unknown[0]}: {reason}")
    peers = [p for p in PEERS if not options.peer or any(p.startswith(name) for name in options.peer)]
    if not peers:
        parser.error(f"no such peer; there are {', '.join(PEERS)}")
    ids = options.faults or list(CHANGES)
    results = {peer: graded(ids, peer) for peer in peers}
    together = {id for found in results.values() for id, said in found["faults"].items() if said}
    for peer, found in results.items():
        noticed = sum(bool(said) for said in found["faults"].values())
        print(f"{peer}: {noticed} of {len(ids)} faults noticed", end="")
        print("".join(f"; not counted: {name} ({said})" for name, said in found["right loop"].items()))
    print(f"together: {len(together)} of {len(ids)}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"faults": len(ids), "not here": NOT_HERE, "peers": results}, indent=1)
        options.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
