"""A whole prediction by the official OpenFold3 and by fold, one after the other, on the same features: time, memory, ratio.

    python tests/bench/peer/predict.py --query examples/ubiquitin.json --checkpoint full.pt --weights full.safetensors \
        --steps 200 --samples 1 --threads 2 --rows docs/benchmarks/rows.jsonl

Run with the Python of fixtures/openfold3/requirements.txt on a machine with nothing else to do, after `cargo build --release`.
Both processes are timed from start to end, loading included, and their peak memory is that of the process; `predict_step` is
the official program's own prediction without start-up, for a comparison that leaves that out. Rows are appended as JSON.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[3]


def run(command: list) -> dict:
    """Wall and processor seconds and peak memory of a process and its children, and its standard output."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        out.seek(0)
        text = out.read()
    if status != 0:
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 1), "cpu": round(cpu, 1), "peak_mb": usage.ru_maxrss // 1024, "text": text}


def positions(cif: Path) -> np.ndarray:
    """Coordinates of a written structure, in the order of its atoms."""
    columns, rows = [], []
    for line in cif.read_text().splitlines():
        if line.startswith("_atom_site."):
            columns.append(line.split(".")[1].strip())
        elif re.match(r"(ATOM|HETATM)\b", line):
            rows.append(line.split())
    x = [columns.index(f"Cartn_{axis}") for axis in "xyz"]
    return np.array([[float(row[i]) for i in x] for row in rows])


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--query", type=Path, required=True, help="query JSON of one complex")
    ap.add_argument("--checkpoint", type=Path, required=True, help="for the official program")
    ap.add_argument("--weights", type=Path, required=True, help="the same, converted")
    ap.add_argument("--fold", type=Path, default=ROOT / "target/release/fold")
    ap.add_argument("--steps", type=int, default=200)
    ap.add_argument("--samples", type=int, default=1)
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rows", type=Path)
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        official = run(
            [sys.executable, Path(__file__).with_name("openfold3.py"), "--query", args.query, "--checkpoint", args.checkpoint]
            + ["--steps", args.steps, "--samples", args.samples, "--seed", args.seed, "--threads", args.threads]
            + ["--dump", folder / "official"]
        )
        ours = run(
            [args.fold, "predict", args.query, "--weights", args.weights, "--features", folder / "official/features.safetensors"]
            + ["--n-steps", args.steps, "--n-samples", args.samples, "--seeds", args.seed, "--threads", args.threads]
            + ["--out", folder / "fold"]
        )
        want = load_file(folder / "official/outputs.safetensors")["atom_positions_predicted"].reshape(args.samples, -1, 3)
        found = sorted((folder / "fold").glob("*/seed-*_sample-*/*_model.cif"))
        difference = max(float(np.abs(positions(cif) - x).max()) for cif, x in zip(found, want, strict=True))
    row = json.loads(official.pop("text").strip().splitlines()[-1])
    ours.pop("text")
    stages = {k: row[k] for k in ("trunk_cycles", "denoise_step", "confidence", "predict_step")}
    out = {
        "query": row["query"], "n_token": row["n_token"], "n_atom": row["n_atom"], "n_step": args.steps,
        "n_sample": args.samples, "threads": args.threads, "load": round(os.getloadavg()[0], 1), "date": time.strftime("%Y-%m-%d"),
        "official": {"program": row["program"], "torch": row["torch"], **official, **stages}, "fold": ours,
        "time_ratio": round(ours["wall"] / official["wall"], 3),
        "time_ratio_without_official_start": round(ours["wall"] / row["predict_step"], 3),
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
