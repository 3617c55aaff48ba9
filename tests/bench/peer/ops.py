"""Times each operation in the official OpenFold3 0.5.0 and in fold, alternating, and writes one JSON row an operation and size.

    python tests/bench/peer/ops.py --threads 2 --tokens 256,384 --rows docs/benchmarks/ops.jsonl [NAME ..]
    python tests/bench/peer/ops.py --table docs/benchmarks/ops.jsonl

Run with the Python of fixtures/openfold3/requirements.txt on a machine with nothing else to do. The operations are those of
`cargo bench --bench ops`; NAME keeps those whose names contain it. The official side is the package's own modules (for softmax
and rotary attention, which it does not have, PyTorch's), built from its own configuration and called as its own stacks call
them on a CPU (preset `predict`, no GPU kernels): chunk sizes, in-place updates and attention options are taken from such a
call, not written here. Weights and inputs are random. Both sides take the best of their timings, residual sums included. A row
of an operation and size replaces the older one.
"""

import sys

sys.path.pop(0)  # this file's folder: a file in it has the package's name

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
ATOMS_A_TOKEN = 8  # as tests/bench/cases.rs


class Settings:
    """The official configuration, and the options that its stacks pass on to each module."""

    def __init__(self):
        import torch
        from openfold3.core.model.latent.msa_module import MSAModuleStack
        from openfold3.core.model.latent.pairformer import PairFormerStack
        from openfold3.projects.of3_all_atom.project_entry import OF3ProjectEntry

        config = OF3ProjectEntry().get_model_config_with_presets(["predict"])
        memory = config.settings.memory.eval
        self.config = config.architecture
        # As OpenFold3.forward calls them where there are no gradients and no GPU.
        options = {
            "chunk_size": memory.chunk_size,
            "use_deepspeed_evo_attention": memory.use_deepspeed_evo_attention,
            "use_cueq_triangle_kernels": memory.use_cueq_triangle_kernels,
            "use_triton_triangle_kernels": False,
            "use_lma": memory.use_lma,
            "inplace_safe": True,
            "_mask_trans": True,
        }
        pairformer, msa = self.config.pairformer, self.config.msa.msa_module
        self.c_s, self.c_z, self.c_m = pairformer.c_s, pairformer.c_z, msa.c_m
        self.pairformer = randomised(PairFormerStack(**{**pairformer, "no_blocks": 1}))
        self.msa = randomised(MSAModuleStack(**{**msa, "no_blocks": 2}))  # the last has no row update
        self.passed = {}
        for block in (self.pairformer.blocks[0], self.msa.blocks[0]):
            for name, module in block.named_modules():
                module.register_forward_pre_hook(self.keeping(name.split(".")[-1]), with_kwargs=True)
        n = 24
        s, z, m = torch.randn(1, n, self.c_s), torch.randn(1, n, n, self.c_z), torch.randn(1, 2, n, self.c_m)
        self.pairformer(s, z, torch.ones(1, n), torch.ones(1, n, n), **options)
        self.msa(m, z, msa_mask=torch.ones(1, 2, n), pair_mask=torch.ones(1, n, n), **options)
        for module in (*self.pairformer.modules(), *self.msa.modules()):
            module._forward_pre_hooks.clear()
            module._forward_pre_hooks_with_kwargs.clear()

    def keeping(self, name):
        import torch

        def hook(module, args, kwargs):
            plain = {k: v for k, v in kwargs.items() if not isinstance(v, (torch.Tensor, list))}
            self.passed[name] = plain

        return hook


def randomised(module):
    """Weights that keep the size of what they are applied to."""
    for parameter in module.parameters():
        scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data.normal_(0.0, scale)
        if parameter.ndim == 1:
            parameter.data.add_(1.0)
    return module.eval()


def cases(settings: Settings) -> dict:
    """Name -> function of the number of tokens that gives what is to be timed."""
    import torch
    from openfold3.core.model.layers.diffusion_transformer import DiffusionTransformer, DiffusionTransformerBlock
    from openfold3.core.model.layers.transition import ConditionedTransitionBlock, ReLUTransition
    from openfold3.core.model.primitives import AdaLN, LayerNorm, Linear
    from openfold3.core.model.primitives.attention import _attention
    from openfold3.core.utils.tensor_utils import add, permute_final_dims

    block, msa_block, passed = settings.pairformer.blocks[0], settings.msa.blocks[0], settings.passed
    pair, c_s, c_z, c_m = block.pair_stack, settings.c_s, settings.c_z, settings.c_m
    diffusion = settings.config.diffusion_module
    tokens, atoms = diffusion.diffusion_transformer, diffusion.atom_attn_enc
    c_token, c_atom, c_atompair = tokens.c_a, atoms.c_atom, atoms.c_atom_pair
    precise = {"use_high_precision_attention": True}  # OpenFold3._rollout and the input embedder
    sizes = ("c_a", "c_s", "c_z", "c_hidden", "no_heads", "n_transition", "n_query", "n_key", "inf")

    def pairs(n):
        return torch.randn(1, n, n, c_z), torch.ones(1, n, n)

    def pair_block(n):
        z, mask = pairs(n)
        return lambda: pair(z=z, pair_mask=mask, **passed["pair_stack"])

    def multiplication(name):
        def make(n):
            (z, mask), module = pairs(n), getattr(pair, name)
            return lambda: module(z, mask=mask, **without(passed[name], "mask"))

        return make

    def attention(name, turned):
        def make(n):
            (z, mask), module = pairs(n), getattr(pair, name)
            z, mask = (z.transpose(-2, -3), mask.transpose(-1, -2)) if turned else (z, mask)
            return lambda: add(z, module(z, mask=mask, **without(passed[name], "mask")), inplace=True)

        return make

    def pair_transition(n):
        z, mask = pairs(n)
        return lambda: add(z, pair.pair_transition(z, mask=mask, **without(passed["pair_transition"], "mask")), inplace=True)

    def single_transition(n):
        s, mask = torch.randn(1, n, c_s), torch.ones(1, n)
        options = without(passed["single_transition"], "mask")
        return lambda: add(s, block.single_transition(s, mask=mask, **options), inplace=True)

    def conditioned_transition(n):
        module = randomised(ConditionedTransitionBlock(c_token, c_s, tokens.n_transition))
        a, s, mask = torch.randn(1, n, c_token), torch.randn(1, n, c_s), torch.ones(1, n)
        return lambda: a + module(a=a, s=s, mask=mask)

    def layer_norm(n):
        (z, _), module = pairs(n), randomised(LayerNorm(c_z))
        return lambda: module(z)

    def norm_linear(n):
        (z, _), norm, linear = pairs(n), randomised(LayerNorm(c_z)), randomised(Linear(c_z, c_z, bias=False))
        return lambda: linear(norm(z))

    def linear(shape, c_out):
        def make(n):
            x = torch.randn(*shape(n))
            module = randomised(Linear(x.shape[-1], c_out, bias=False))
            return lambda: module(x)

        return make

    def sigmoid_gate(n):
        x, g = torch.randn(1, n, n, c_z), torch.randn(1, n, n, c_z)
        return lambda: x * torch.sigmoid(g)

    def pair_bias(n):
        (z, _), module = pairs(n), block.attn_pair_bias
        return lambda: permute_final_dims(module.linear_z(module.layer_norm_z(z)), [2, 0, 1])

    def single_attention(n):
        s, mask, (z, _) = torch.randn(1, n, c_s), torch.ones(1, n), pairs(n)
        options = {k: v for k, v in passed["attn_pair_bias"].items() if k.startswith("use_")}
        return lambda: block.attn_pair_bias(a=s, z=z, mask=mask, **options)

    def token_block(whole):
        def make(n):
            module = randomised(DiffusionTransformerBlock(**{k: tokens[k] for k in sizes}))
            a, s, (z, _), mask = torch.randn(1, n, c_token), torch.randn(1, n, c_s), pairs(n), torch.ones(1, n)
            if whole:
                return lambda: module(a=a, s=s, z=z, mask=mask, **precise)
            return lambda: a + module.attention_pair_bias(a=a, z=z, s=s, mask=mask, **precise)

        return make

    def ada_norm(n):
        module, a, s = randomised(AdaLN(c_token, c_s)), torch.randn(1, n, c_token), torch.randn(1, n, c_s)
        return lambda: module(a, s)

    def local_attention(n):
        # Queries and keys are in blocks already, which in the program takes a gather.
        n_block, heads, d = ATOMS_A_TOKEN * n // atoms.n_query, atoms.no_heads, atoms.c_hidden
        q, gate = (torch.randn(1, n_block, heads, atoms.n_query, d) for _ in range(2))
        k, v = (torch.randn(1, n_block, heads, atoms.n_key, d) for _ in range(2))
        hidden = torch.zeros(1, n_block, 1, atoms.n_query, atoms.n_key)
        bias = torch.randn(1, n_block, heads, atoms.n_query, atoms.n_key)
        return lambda: _attention(q / d**0.5, k, v, [hidden, bias], use_high_precision=True) * torch.sigmoid(gate)

    def atom_transformer(n):
        config = {"c_a": c_atom, "c_s": c_atom, "c_z": c_atompair, "inf": atoms.inf, "no_blocks": 1}
        module = randomised(DiffusionTransformer(**config, **{k: atoms[k] for k in sizes[3:-1]}))
        n_atom = ATOMS_A_TOKEN * n
        a, s, mask = torch.randn(1, n_atom, c_atom), torch.randn(1, n_atom, c_atom), torch.ones(1, n_atom)
        p = torch.randn(1, n_atom // atoms.n_query, atoms.n_query, atoms.n_key, c_atompair)
        return lambda: module(a=a, s=s, z=p, mask=mask, **precise)

    def outer_product_mean(rows):
        def make(n):
            (z, _), m, mask = pairs(n), torch.randn(1, rows, n, c_m), torch.ones(1, rows, n)
            options = without(passed["outer_product_mean"], "mask")
            return lambda: add(z, msa_block.outer_product_mean(m, mask=mask, **options), inplace=True)

        return make

    def pair_weighted_average(rows):
        def make(n):
            (z, mask), m = pairs(n), torch.randn(1, rows, n, c_m)
            options = without(passed["msa_att_row"], "z", "mask")
            return lambda: add(m, msa_block.msa_att_row(m, z=z, mask=mask, **options), inplace=True)

        return make

    def relu_transition(n):
        (z, mask), module = pairs(n), randomised(ReLUTransition(c_z, 4))
        return lambda: add(z, module(z, mask=mask, **without(passed["pair_transition"], "mask")), inplace=True)

    def softmax(n):
        x = torch.randn(1, 16, n, n)
        return lambda: torch.softmax(x, dim=-1)

    def rope_attention(n):
        # ESM3 is not in this package: PyTorch's own layers and scaled_dot_product_attention, put together as esm does.
        c, heads = 1536, 24
        d = c // heads
        norm, qkv, out = randomised(torch.nn.LayerNorm(c)), torch.nn.Linear(c, 3 * c, bias=False), torch.nn.Linear(c, c, bias=False)
        q_norm, k_norm = (randomised(torch.nn.LayerNorm(c, bias=False)) for _ in range(2))
        angle = torch.arange(n)[:, None] * 10000.0 ** (-torch.arange(0, d, 2) / d)
        cos, sin = (f(angle).repeat(1, 2)[:, None] for f in (torch.cos, torch.sin))
        x = torch.randn(1, n, c)

        def turned(x):
            x = x.view(1, n, heads, d)
            left, right = x.chunk(2, dim=-1)
            return (x * cos + torch.cat((-right, left), dim=-1) * sin).transpose(1, 2)

        def run():
            q, k, v = qkv(norm(x)).chunk(3, dim=-1)
            v = v.view(1, n, heads, d).transpose(1, 2)
            o = torch.nn.functional.scaled_dot_product_attention(turned(q_norm(q)), turned(k_norm(k)), v)
            return out(o.transpose(1, 2).reshape(1, n, c))

        return run

    return {
        "pair_block": pair_block,
        "triangle_multiplication_out": multiplication("tri_mul_out"),
        "triangle_multiplication_in": multiplication("tri_mul_in"),
        "triangle_attention_start": attention("tri_att_start", turned=False),
        "triangle_attention_end": attention("tri_att_end", turned=True),
        "pair_transition": pair_transition,
        "single_transition": single_transition,
        "conditioned_transition": conditioned_transition,
        "layer_norm": layer_norm,
        "norm_linear": norm_linear,
        "linear_pair": linear(lambda n: (1, n, n, c_z), c_z),
        "linear_token": linear(lambda n: (1, n, c_token), 2 * c_token),
        "sigmoid_gate": sigmoid_gate,
        "pair_bias": pair_bias,
        "single_attention": single_attention,
        "token_attention": token_block(whole=False),
        "token_transformer_block": token_block(whole=True),
        "ada_norm": ada_norm,
        "local_attention": local_attention,
        "atom_transformer": atom_transformer,
        "outer_product_mean_1": outer_product_mean(1),
        "outer_product_mean_256": outer_product_mean(256),
        "pair_weighted_average_256": pair_weighted_average(256),
        "relu_transition": relu_transition,
        "softmax": softmax,
        "rope_attention": rope_attention,
    }


def without(options: dict, *names) -> dict:
    return {k: v for k, v in options.items() if k not in names}


def milliseconds(run) -> list[float]:
    """At least five calls after a warm-up, and more while they fit in half a second: as tests/bench/ops.rs."""
    run()
    times, begun = [], time.perf_counter()
    while len(times) < 5 or (len(times) < 200 and time.perf_counter() - begun < 0.5):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def torch_gemm() -> float:
    """GFLOP/s of PyTorch's own large square product."""
    import torch

    n = 2048
    x, w, y = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    return 2e-6 * n**3 / min(milliseconds(lambda: torch.mm(x, w, out=y)))


def bench_program() -> Path:
    """The compiled `cargo bench --bench ops`."""
    command = ["cargo", "bench", "--bench", "ops", "--no-run", "--message-format", "json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [m for m in map(json.loads, lines) if m.get("executable") and m["target"]["name"] == "ops"]
    return Path(found[-1]["executable"])


def fold_row(program: Path, name: str, n: int, threads: int, *options) -> dict:
    command = [program, name, "--tokens", n, "--threads", threads, *options]
    text = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    return next(row for row in map(json.loads, text.splitlines()) if row["op"] == name)


def compare(program: Path, name: str, n: int, threads: int, make) -> dict:
    import torch

    run, theirs, ours = make(n), [], []
    for options in ([], ["--reference"]):
        ours.append(fold_row(program, name, n, threads, *options))
        theirs += milliseconds(run)
    best = min(ours, key=lambda row: row["best_ms"])
    fold, candle, official = best["best_ms"], ours[-1]["candle_ms"], min(theirs)
    peak = max(row["peak_gflop_per_s"] for row in ours)
    speed = best["gflop"] / fold * 1e3
    return {
        "op": name, "n": n, "threads": threads, "fold_ms": fold, "candle_ms": candle, "torch_ms": round(official, 3),
        "fold_over_candle": round(fold / candle, 3), "fold_over_torch": round(fold / official, 3),
        "fold_median_ms": best["ms"], "torch_median_ms": round(statistics.median(theirs), 3),
        "gflop": best["gflop"], "gflop_per_s": round(speed, 1), "peak_gflop_per_s": peak,
        "fraction_of_peak": round(speed / peak, 3), "torch_gemm_gflop_per_s": round(torch_gemm(), 1),
        "openfold3": version("openfold3"), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def table(path: Path) -> None:
    """Rows as a table for docs/benchmarks/README.md."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    print("| | tokens | fold, ms | candle | openfold3 | fold / candle | fold / openfold3 | of the gemm peak |")
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        peak = f"{r['fraction_of_peak']:.0%}" if r["gflop"] else ""
        times = " | ".join(f"{r[key]:.3g}" if r[key] < 100 else f"{r[key]:.0f}" for key in ("fold_ms", "candle_ms", "torch_ms"))
        print(f"| {r['op'].replace('_', ' ')} | {r['n']} | {times} | {r['fold_over_candle']:.2f} | {r['fold_over_torch']:.2f} | {peak} |")


def write(path: Path, rows: list[dict]) -> None:
    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    kept = {(row["op"], row["n"]): row for row in old + rows}
    path.write_text("".join(json.dumps(row) + "\n" for row in kept.values()))


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("names", nargs="*")
    ap.add_argument("--tokens", default="256,384")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--rows", type=Path)
    ap.add_argument("--table", type=Path, help="print this file of rows as a table and do nothing else")
    args = ap.parse_args()
    if args.table:
        return table(args.table)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch is loaded
    import torch

    torch.set_num_threads(args.threads)
    program = bench_program()
    with torch.inference_mode():
        for name, make in cases(Settings()).items():
            if args.names and not any(part in name for part in args.names):
                continue
            for n in map(int, args.tokens.split(",")):
                row = compare(program, name, n, args.threads, make)
                print(json.dumps(row), flush=True)
                if args.rows:
                    write(args.rows, [row])


if __name__ == "__main__":
    sys.exit(main())
