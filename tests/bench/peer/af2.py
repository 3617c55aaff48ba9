"""A whole AlphaFold2 prediction by the official JAX network and by fold, one after the other: time, memory, ratio.

    python tests/bench/peer/af2.py --residues 128 --params params_model_1_ptm.npz --weights af2-model_1_ptm.safetensors \
        --recycles 3 --threads 2 --cache compiled --compile-only
    python tests/bench/peer/af2.py ... --cache compiled --rows docs/benchmarks/rows.jsonl      # the same, now timed

Run with the Python of fixtures/af2/requirements.txt on a machine with nothing else to do, after `cargo build --release`.
A single sequence in float32, both from the sequence on: the same seed gives the same masked letters. Both processes are timed
from start to end. The official one finds its compiled program in the folder of the first command, so that its memory is without the
compiler, and the time it takes to make ready what it finds is taken off. Memory is the process's peak. Rows are appended as JSON.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from predict import ROOT, run

LETTERS = "ARNDCQEGHILKMFPSTWYV"
ATOMS = (
    "N CA C CB O CG CG1 CG2 OG OG1 SG CD CD1 CD2 ND1 ND2 OD1 OD2 SD CE CE1 CE2 CE3 NE NE1 NE2 OE1 OE2 CH2 NH1 NH2 OH CZ CZ2 CZ3 NZ OXT"
).split()


def positions(pdb: Path, n: int) -> np.ndarray:
    """Coordinates of a written structure as atom37 `[n, 37, 3]`; what it does not have is zero."""
    out = np.zeros((n, 37, 3))
    for line in pdb.read_text().splitlines():
        if line.startswith("ATOM"):
            at = int(line[22:26]) - 1, ATOMS.index(line[12:16].strip())
            out[at] = [float(line[30 + 8 * k : 38 + 8 * k]) for k in range(3)]
    return out


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--residues", type=int, required=True, help="length of a random sequence")
    ap.add_argument("--params", type=Path, required=True, help="params_<model>.npz, for the official program")
    ap.add_argument("--weights", type=Path, required=True, help="the same, converted")
    ap.add_argument("--fold", type=Path, default=ROOT / "target/release/fold")
    ap.add_argument("--recycles", type=int, default=3)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--cache", type=Path, required=True, help="folder of compiled programs")
    ap.add_argument("--compile-only", action="store_true", help="fill it")
    ap.add_argument("--rows", type=Path)
    args = ap.parse_args()
    sequence = "".join(random.Random(args.residues).choices(LETTERS, k=args.residues))
    command = [sys.executable, Path(__file__).with_name("alphafold2.py"), "--params", args.params, "--sequence", sequence]
    command += ["--recycles", args.recycles, "--seed", args.seed, "--threads", args.threads, "--cache", args.cache]
    if args.compile_only:
        print(run(command + ["--compile-only"]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        query = folder / "query.fasta"
        query.write_text(f">query\n{sequence}\n")
        official = run(command + ["--out", folder / "official.npy"])
        ours = run(
            [args.fold, "predict", query, "--model", "af2", "--weights", args.weights, "--num-recycle", args.recycles]
            + ["--seeds", args.seed, "--threads", args.threads, "--output-style", "colabfold", "--out", folder / "fold"]
        )
        want = np.load(folder / "official.npy")
        (pdb,) = (folder / "fold").rglob("*rank_001*.pdb")
        got = positions(pdb, args.residues)
        difference = float(np.abs(got - want)[got.any(-1)].max())
    made = json.loads(official.pop("text").strip().splitlines()[-1])
    ours.pop("text")
    alone = official["wall"] - made["compile"]
    out = {
        "query": f"random{args.residues}", "n_token": args.residues, "recycles": args.recycles, "threads": args.threads,
        "load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d"),
        "official": {**{k: made[k] for k in ("program", "jax", "compile", "passes")}, **official}
        | {"wall_without_compilation": round(alone, 1)},
        "fold": ours,
        "time_ratio": round(ours["wall"] / alone, 3),
        "time_ratio_of_passes_alone": round(ours["wall"] / sum(made["passes"]), 3),
        "memory_ratio": round(ours["peak_mb"] / official["peak_mb"], 3),
        "largest_difference_A": round(difference, 6),
    }
    print(json.dumps(out, indent=1))
    if args.rows:
        args.rows.parent.mkdir(parents=True, exist_ok=True)
        with args.rows.open("a") as rows:
            rows.write(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
