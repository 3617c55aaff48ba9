"""Times the official OpenFold3 0.5.0 on CPU, through its own predict path, and prints one JSON row.

    python tests/bench/peer/openfold3.py --query q.json --checkpoint full.pt --steps 200 --samples 1 --threads 2 --dump out

Needs the packages of fixtures/openfold3/requirements.txt. Settings are the program's own, but for what a CPU without a
network demands: no GPU kernels, no MSA server, no template search, one data worker. `--dump` saves the features and what
came out, so that another implementation can be run on the same features and compared; `--features` gives it features
saved before. Seconds are wall time; `wall` is from the start of the interpreter to after the files are written.
"""

import time

START = time.perf_counter()

import sys  # noqa: E402

sys.path.pop(0)  # this file's folder: the file has the package's name

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
from contextlib import redirect_stdout  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402


def parse() -> argparse.Namespace:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--query", type=Path, required=True, help="query JSON of one complex")
    ap.add_argument("--checkpoint", type=Path, required=True)
    ap.add_argument("--update", type=Path, help="JSON with a model_update, for a model of other sizes (tiny.json)")
    ap.add_argument("--features", type=Path, help="safetensors that replace the features of the same name")
    ap.add_argument("--steps", type=int, default=200)
    ap.add_argument("--samples", type=int, default=1)
    ap.add_argument("--cycles", type=int, help="passes through the trunk [default: the model's]")
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--dump", type=Path, help="folder for features.safetensors and outputs.safetensors")
    args = ap.parse_args()
    for key in ("query", "checkpoint", "update", "features", "dump"):
        if path := getattr(args, key):
            setattr(args, key, path.resolve())
    return args


def merged(base: dict, extra: dict) -> dict:
    out = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def experiment(args, work: Path):
    from openfold3.entry_points.validator import InferenceExperimentConfig

    shared = {"diffusion": {"no_full_rollout_samples": args.samples, "no_full_rollout_steps": args.steps}}
    if args.cycles is not None:
        shared["num_recycles"] = args.cycles - 1
    custom = json.loads(args.update.read_text())["model_update"] if args.update else {}
    cpu = {"settings": {"memory": {"eval": {"use_triton_triangle_kernels": False}}}, "architecture": {"shared": shared}}
    settings = {"mode": "predict", "output_dir": work / "out", "seeds": [args.seed], "use_msa_server": False}
    return InferenceExperimentConfig.model_validate(
        {
            "inference_ckpt_path": args.checkpoint,
            "cache_path": str(work / "cache"),
            "experiment_settings": settings | {"use_templates": False},
            "model_update": {"presets": ["predict"], "custom": merged(custom, cpu)},
            "pl_trainer_args": {"accelerator": "cpu", "devices": 1},
            "data_module_args": {"num_workers": 1},
        }
    )


class Clock:
    """Wall seconds of each call of a module, by stage."""

    def __init__(self):
        self.seconds: dict[str, list[float]] = {}

    def on(self, stage: str, module) -> None:
        begun = []
        module.register_forward_pre_hook(lambda *_: begun.append(time.perf_counter()))

        def after(*_):
            self.seconds.setdefault(stage, []).append(time.perf_counter() - begun.pop())

        module.register_forward_hook(after)


def watch(model, clock: Clock) -> None:
    for stage in ("input_embedder", "template_embedder", "msa_module_embedder", "msa_module", "pairformer_stack"):
        clock.on(stage, getattr(model, stage))
    clock.on("denoise", model.diffusion_module)
    clock.on("confidence", model.aux_heads)


def flat(tree: dict, prefix: str = ""):
    import torch

    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, torch.Tensor):
            value = value.int() if value.dtype == torch.bool else value
            yield f"{prefix}{key}", value.detach().clone().contiguous()


def patch(module, clock: Clock, args, row: dict) -> None:
    from safetensors.torch import load_file, save_file

    original = module.predict_step

    def predict_step(batch, batch_idx):
        row["before_predict"] = time.perf_counter() - START
        if args.features:
            for key, value in load_file(args.features).items():
                if key in batch and key != "seed":
                    value = value.to(batch[key].dtype)
                    batch[key] = value if value.ndim == batch[key].ndim else value.unsqueeze(0)
        row["n_token"], row["n_atom"] = batch["token_mask"].shape[-1], batch["atom_mask"].shape[-1]
        row["n_msa"] = batch["msa"].shape[1]
        if args.dump:
            args.dump.mkdir(parents=True, exist_ok=True)
            save_file(dict(flat(batch)), args.dump / "features.safetensors")
        start = time.perf_counter()
        result = original(batch, batch_idx)
        row["predict_step"] = time.perf_counter() - start
        if result is None:
            raise SystemExit("the prediction failed")
        if args.dump:
            outputs = {k: v for k, v in result[1].items() if not k.endswith("_logits")}
            save_file(dict(flat(outputs)), args.dump / "outputs.safetensors")
        return result

    module.predict_step = predict_step


def stages(seconds: dict[str, list[float]]) -> dict:
    trunk = ("template_embedder", "msa_module_embedder", "msa_module", "pairformer_stack")
    cycles = [sum(parts) for parts in zip(*(seconds[s] for s in trunk))]
    return {
        "input_embedder": sum(seconds["input_embedder"]),
        "trunk_cycles": cycles,
        **{stage: sum(seconds[stage]) for stage in trunk},
        "denoise_first": seconds["denoise"][0],
        "denoise_step": statistics.median(seconds["denoise"]),
        "denoise_total": sum(seconds["denoise"]),
        "confidence": sum(seconds["confidence"]),
    }


def rounded(value):
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    args = parse()
    os.environ.setdefault("WANDB_MODE", "disabled")
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # before torch is loaded
    import torch

    torch.set_num_threads(args.threads)
    clock, row = Clock(), {}
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        from openfold3.entry_points.experiment_runner import InferenceExperimentRunner
        from openfold3.projects.of3_all_atom.config.inference_query_format import InferenceQuerySet

        os.chdir(args.query.parent)  # alignment paths are relative to the query
        queries = InferenceQuerySet.from_json(args.query)
        runner = InferenceExperimentRunner(experiment(args, Path(folder)))
        runner.setup()
        row["ready"] = time.perf_counter() - START
        watch(runner.lightning_module.model, clock)
        patch(runner.lightning_module, clock, args, row)
        runner.run(queries)
        runner.cleanup()
        row["wall"] = time.perf_counter() - START
        os.chdir("/")
    if "predict_step" not in row:
        raise SystemExit("no prediction was made")
    usage = {who: resource.getrusage(which).ru_maxrss // 1024
             for who, which in (("peak_rss_mb", resource.RUSAGE_SELF), ("worker_rss_mb", resource.RUSAGE_CHILDREN))}
    name = next(iter(json.loads(args.query.read_text())["queries"]))
    out = {
        "program": f"openfold3 {version('openfold3')}",
        "torch": version("torch"),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "query": name,
        "checkpoint": args.checkpoint.name,
        "n_step": args.steps,
        "n_sample": args.samples,
        "seed": args.seed,
        **row,
        **stages(clock.seconds),
        **usage,
    }
    print(json.dumps(rounded(out)))


if __name__ == "__main__":
    main()
