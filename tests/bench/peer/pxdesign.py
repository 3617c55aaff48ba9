"""Denoising steps of the official PXDesign, full size, on the CPU in float32: one JSON row beside that of `fold bench pxdesign`.

    python tests/bench/peer/pxdesign.py --tokens 216 --atoms 1334 --samples 4 --steps 3 --threads 2
    fold bench pxdesign --tokens 216 --n-samples 4 --n-steps 8 --json

Needs the packages of fixtures/pxdesign/requirements.txt, and PXDESIGN_SRC and PROTENIX_SRC as its README says. Weights and features are
random: the time does not depend on them. `conditioning` is what the official program does once for a task, its condition embedder;
each of its steps makes the pair conditioning and the attention biases anew.
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
os.environ["LAYERNORM_TYPE"] = "openfold"  # the fused kernel is for CUDA only
sys.path[:0] = [str(ROOT), os.environ["PROTENIX_SRC"], os.environ["PXDESIGN_SRC"]]


def parse() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--tokens", type=int, required=True)
    ap.add_argument("--atoms", type=int, required=True, help="as the row of fold has it")
    ap.add_argument("--samples", type=int, default=4)
    ap.add_argument("--steps", type=int, default=3)
    ap.add_argument("--threads", type=int, default=2)
    return ap.parse_args()


def features(n: int, n_atom: int):
    """A target and a binder of 100 residues of four atoms."""
    import torch
    from torch.nn.functional import one_hot

    binder = min(100, n // 2)
    target = n - binder
    of_target = torch.arange(n_atom - 4 * binder) * target // (n_atom - 4 * binder)
    token = torch.cat([of_target, target + torch.arange(4 * binder) // 4])
    index, chain = torch.arange(n), (torch.arange(n) >= target).long()
    known = (chain[:, None] == 0) & (chain[None] == 0)
    return {
        "restype": one_hot(torch.randint(0, 20, (n,)), 36).float(), "deletion_mean": torch.zeros(n),
        "hotspot": torch.zeros(n), "plddt": torch.zeros(n),
        "conditional_templ": torch.randint(0, 64, (n, n)), "conditional_templ_mask": known.long(),
        "ref_pos": torch.randn(n_atom, 3), "ref_charge": torch.zeros(n_atom), "ref_mask": torch.ones(n_atom).long(),
        "ref_element": one_hot(torch.randint(0, 8, (n_atom,)), 128),
        "ref_atom_name_chars": one_hot(torch.randint(0, 64, (n_atom, 4)), 64),
        "ref_space_uid": token, "atom_to_token_idx": token,
        "asym_id": chain, "entity_id": chain, "sym_id": torch.zeros(n).long(), "residue_index": index, "token_index": index,
    }


def main() -> None:
    args = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    import torch
    from fixtures.pxdesign import checkpoint

    checkpoint.without_evaluation()
    import pxdesign.model.pxdesign as network
    from pxdesign.utils.infer import get_configs

    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    options = {"N_sample": args.samples, "N_step": args.steps, "eta_type": "const", "eta_min": 2.5, "eta_max": 2.5}
    model = network.ProtenixDesign(get_configs(checkpoint.arguments(options))).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some start as zeros, which may be quicker
            parameter.normal_(0.0, 0.02)
    seconds, once = [], []
    begin = lambda times: lambda *_: times.append(-time.perf_counter())  # noqa: E731
    end = lambda times: lambda *_: times.__setitem__(-1, times[-1] + time.perf_counter())  # noqa: E731
    for part, times in ((model.diffusion_module, seconds), (model.design_condition_embedder, once)):
        part.register_forward_pre_hook(begin(times))
        part.register_forward_hook(end(times))
    sys.stdout = sys.stderr
    with torch.no_grad():
        model(features(args.tokens, args.atoms))
    sys.stdout = sys.__stdout__
    seconds.sort()
    row = {
        "program": "PXDesign f788441", "torch": torch.__version__, "tokens": args.tokens, "atoms": args.atoms,
        "samples": args.samples, "threads": args.threads, "load": round(os.getloadavg()[0], 1),
        "conditioning": round(once[0], 3), "denoising_step": round(seconds[len(seconds) // 2], 3),
        "fastest_step": round(seconds[0], 3), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
