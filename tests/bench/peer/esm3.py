"""ESM3's networks by the official program and by fold, in turn in one run: time, memory, ratio.

    python tests/bench/peer/esm3.py --checkpoints full-size/esm3 --weights converted --rows docs/benchmarks/esm3.jsonl

`--checkpoints` is a folder made by `fixtures/esm3/regen.py --size full --checkpoint-only`, `--weights` the folder into which `fold weights
convert esm3` has converted it. Run with the Python of fixtures/esm3/requirements.txt on a machine with nothing else to do, after
`cargo build --release`. Both compute in float32; the files are read once before, so that both find them in memory. For each length:

- one process each that runs trunk, structure encoder and structure decoder, once to warm up and then `--passes` times;
- one process each from its start to the logits of one sequence.

Peak memory is the process's. Rows are appended as JSON.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from predict import ROOT, run

STAGES = ("trunk", "structure encoder", "structure decoder")
PARTS = ("trunk", "structure_encoder", "structure_decoder")


def load(part: str):
    """As `esm.pretrained` does: a model in float32, then the numbers of the checkpoint into it."""
    import torch
    from esm.models.esm3 import ESM3
    from esm.models.vqvae import StructureTokenDecoder, StructureTokenEncoder
    from fixtures.esm3 import checkpoint

    sizes = checkpoint.SIZES["full"][part]
    if part == "trunk":
        later = dict(structure_encoder_fn=None, structure_decoder_fn=None, function_decoder_fn=None)
        model = ESM3(**sizes, **later, tokenizers=checkpoint.tokenizers(Path("data").resolve()))
    else:
        model = (StructureTokenEncoder if part == "structure_encoder" else StructureTokenDecoder)(**sizes)
    model.load_state_dict(torch.load(checkpoint.FILES[part], map_location="cpu"))
    return model.eval()


def official(args) -> None:
    """In a process of its own: prints what it measured."""
    os.environ.update(INFRA_PROVIDER="1", DISABLE_ITERATIVE_SAMPLING_TQDM="1", HF_HUB_OFFLINE="1")
    sys.path.insert(0, str(ROOT))
    os.chdir(args.checkpoints)
    import torch

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    import esm

    start = time.perf_counter()
    models = {part: load(part) for part in (PARTS if args.official == "passes" else PARTS[:1])}
    seconds = {"load": time.perf_counter() - start}
    n, g = args.residues, torch.Generator().manual_seed(0)
    sequence = torch.randint(4, 24, (1, n + 2), generator=g)
    structure = torch.randint(0, 4096, (1, n + 2), generator=g)
    sequence[0, 0], sequence[0, -1], structure[0, 0], structure[0, -1] = 0, 2, 4098, 4097
    coords = torch.randn(1, n + 2, 3, 3, generator=g) + 3.8 * torch.arange(n + 2)[None, :, None, None]
    runs = {"trunk": lambda: models["trunk"].forward(sequence_tokens=sequence)}
    if args.official == "passes":
        index = torch.arange(1, n + 1)[None]
        runs = {
            "trunk": lambda: models["trunk"].forward(sequence_tokens=sequence, structure_coords=coords),
            "structure encoder": lambda: models["structure_encoder"].encode(coords[:, 1:-1], residue_index=index),
            "structure decoder": lambda: models["structure_decoder"].decode(structure),
        }
    for name, forward in runs.items():
        times = []
        for _ in range(args.passes + 1 if args.official == "passes" else 1):
            start = time.perf_counter()
            forward()
            times.append(time.perf_counter() - start)
        seconds[name] = sorted(times[1:] or times)[len(times[1:]) // 2]
    print(json.dumps({"program": f"esm {esm.__version__}", "torch": torch.__version__, "seconds": seconds}))


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--checkpoints", type=Path, required=True)
    ap.add_argument("--weights", type=Path)
    ap.add_argument("--fold", type=Path, default=ROOT / "target/release/fold")
    ap.add_argument("--residues", type=int, nargs="+", default=[100, 260])
    ap.add_argument("--passes", type=int, default=3)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rows", type=Path)
    ap.add_argument("--official", choices=("passes", "whole"), help=argparse.SUPPRESS)
    args = ap.parse_args()
    if args.official:
        args.residues = args.residues[0]
        return official(args)
    for path in [*args.checkpoints.rglob("*.pth"), *args.weights.glob("*.safetensors")]:
        subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True)
    for n in args.residues:
        common = ["--checkpoints", args.checkpoints, "--residues", n, "--passes", args.passes, "--threads", args.threads]
        peer = lambda what: run([sys.executable, __file__, *common, "--official", what])
        theirs = {what: peer(what) for what in ("passes", "whole")}
        made = {what: json.loads(row.pop("text").strip().splitlines()[-1]) for what, row in theirs.items()}
        bench = ["bench", "esm3", "--json", "--weights", args.weights, "--tokens", n, "--n-cycles", args.passes + 1]
        ours = {"passes": run([args.fold, *bench, "--threads", args.threads])}
        stages = [json.loads(line) for line in ours["passes"].pop("text").splitlines()]
        with tempfile.TemporaryDirectory() as name:
            sequence = "".join(random.Random(n).choices("ACDEFGHIKLMNPQRSTVWY", k=n))
            (Path(name) / "one.fasta").write_text(f">one\n{sequence}\n")
            logits = ["esm3", "logits", Path(name) / "one.fasta", "--weights", args.weights, "--out", Path(name) / "out"]
            ours["whole"] = run([args.fold, *logits, "--threads", args.threads])
            ours["whole"].pop("text")
        ours["passes"]["seconds"] = {row["stage"]: row["seconds"] for row in stages}
        ratio = lambda of: round(of(ours) / of(theirs), 3)
        theirs["passes"]["seconds"], theirs["whole"]["seconds"] = made["passes"]["seconds"], made["whole"]["seconds"]
        out = {
            "model": "esm3", "n_res": n, "threads": args.threads, "load": round(os.getloadavg()[0], 1),
            "date": time.strftime("%Y-%m-%d"), "official": {k: made["passes"][k] for k in ("program", "torch")} | theirs, "fold": ours,
            "time_ratio": {stage: ratio(lambda side, stage=stage: side["passes"]["seconds"][stage]) for stage in STAGES}
            | {"start to logits": ratio(lambda side: side["whole"]["wall"])},
            "memory_ratio": {what: ratio(lambda side, what=what: side[what]["peak_mb"]) for what in ("passes", "whole")},
        }
        print(json.dumps(out, indent=1))
        if args.rows:
            with args.rows.open("a") as rows:
                rows.write(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
