"""A whole AlphaFold2 prediction by the official network (alphafold-colabfold) on CPU in float32: one JSON row, and the positions.

    python tests/bench/peer/alphafold2.py --params params_model_1_ptm.npz --sequence YYDPETGTWY --recycles 3 --seed 0 --out x.npy

Needs the packages of fixtures/af2/requirements.txt. Single sequence, as ColabFold runs it: one row, one empty extra row, and
parameter sets with templates in the graph without them. Compiled before it runs, and timed apart; with `--cache` a compilation
is kept for the next process, whose memory then is that of the prediction. ColabFold rounds what passes hand on to float16; here
it stays float32.
"""

import time

START = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402


def parse() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--params", type=Path, required=True, help="params_<model>.npz of a pTM model")
    ap.add_argument("--sequence", required=True)
    ap.add_argument("--recycles", type=int, default=3)
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--cache", type=Path, help="folder of compiled programs")
    ap.add_argument("--compile-only", action="store_true")
    ap.add_argument("--out", type=Path, help=".npy of the last positions, [n, 37, 3]")
    return ap.parse_args()


def configuration(recycles: int):
    from alphafold.model import config

    cfg = config.model_config("model_3_ptm")
    cfg.model.num_recycle = cfg.data.common.num_recycle = recycles
    cfg.data.eval.max_msa_clusters = cfg.data.common.max_extra_msa = 1
    cfg.model.calc_extended_ptm = False
    cfg.model.global_config.bfloat16 = False
    return cfg


def features(sequence: str, cfg, seed: int) -> dict:
    from alphafold.data import parsers, pipeline
    from alphafold.model import features

    raw = {
        **pipeline.make_sequence_features(sequence=sequence, description="none", num_res=len(sequence)),
        **pipeline.make_msa_features([parsers.parse_a3m(f">101\n{sequence}\n")]),
    }
    made = features.np_example_to_features(raw, cfg, random_seed=seed)
    return {k: v for k, v in made.items() if not k.startswith("template_")}


def main() -> None:
    args = parse()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    os.environ["JAX_PLATFORMS"] = "cpu"
    if args.cache:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(args.cache.resolve())
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

    import haiku as hk
    import jax
    import numpy as np
    from alphafold.model import modules, utils

    cfg = configuration(args.recycles)
    batch = features(args.sequence, cfg, args.seed)
    with np.load(args.params) as flat:
        params = utils.flat_params_to_haiku({k: flat[k] for k in flat.files if "template" not in k}, fuse=True)
    n, e = len(args.sequence), cfg.model.embeddings_and_evoformer
    prev = {
        "prev_msa_first_row": np.zeros((n, e.msa_channel), np.float32),
        "prev_pair": np.zeros((n, n, e.pair_channel), np.float32),
        "prev_pos": np.zeros((n, 37, 3), np.float32),
    }

    network = hk.transform(lambda batch: modules.AlphaFold_noE(cfg.model)(batch, is_training=False))
    key = jax.random.PRNGKey(args.seed)
    of_pass = lambda r: {k: v[r : r + 1] for k, v in batch.items()}
    start = time.perf_counter()
    apply = jax.jit(network.apply).lower(params, key, {**of_pass(0), "prev": prev}).compile()
    compiled = time.perf_counter() - start
    if args.compile_only:
        return
    passes = []
    for r in range(args.recycles + 1):
        start = time.perf_counter()
        result = jax.block_until_ready(apply(params, key, {**of_pass(r), "prev": prev}))
        prev = result["prev"]
        passes.append(round(time.perf_counter() - start, 2))
    row = {
        "program": f"alphafold-colabfold {version('alphafold-colabfold')}",
        "jax": version("jax"),
        "compile": round(compiled, 2),
        "passes": passes,
        "plddt": round(float(result["mean_plddt"]), 3),
        "ptm": round(float(result["ptm"]), 5),
        "wall": round(time.perf_counter() - START, 2),
    }
    if args.out:
        np.save(args.out, np.asarray(result["structure_module"]["final_atom_positions"], np.float32))
    print(json.dumps(row))


if __name__ == "__main__":
    main()
