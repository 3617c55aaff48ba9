"""Reads the files of a prediction with gemmi, Biotite and python-modelcif and checks that all say the same.

    pip install -r tests/validate/requirements.txt
    python tests/validate/read_outputs.py OUT/<name> [OUT/<name> ...]

Each argument is a query's folder as `fold predict --format cif,pdb` writes it (the PDB files are optional).
"""

import csv
import json
import sys
import warnings
from pathlib import Path

import gemmi
import modelcif.reader
import numpy as np
from biotite.structure.io import pdb, pdbx

METRICS = {"pLDDT": "global", "pTM": "global", "ipTM": "global"}


def check(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def close(a, b, tolerance: float, what: str) -> None:
    a, b = np.asarray(a, float), np.asarray(b, float)
    check(a.shape == b.shape, f"{what}: shapes {a.shape} and {b.shape}")
    worst = np.abs(a - b).max() if a.size else 0.0
    check(worst <= tolerance, f"{what}: differs by {worst}")


def read_gemmi(path: Path) -> dict:
    document = gemmi.cif.read(str(path))
    check(len(document) == 1, "one data block")
    structure = gemmi.make_structure_from_block(document[0])
    structure.setup_entities()
    model = structure[0]
    atoms = [(c.name, r.seqid.num, r.name, a) for c in model for r in c for a in r]
    for chain in model:
        polymer = chain.get_polymer()
        check(len(polymer) == len(chain), f"chain {chain.name}: all residues are of the polymer")
        check(polymer.check_polymer_type() == gemmi.PolymerType.PeptideL, f"chain {chain.name} is a peptide")
        entity = structure.get_entity_of(polymer)
        check([r.name for r in polymer] == list(entity.full_sequence), f"chain {chain.name}: sequence of its entity")
        check(all(r.label_seq == r.seqid.num for r in chain), f"chain {chain.name}: both numberings")
        check(all(r.subchain == chain.name for r in chain), f"chain {chain.name}: both ids")
    check(all(a.occ == 1.0 for *_, a in atoms), "occupancies")
    return {
        "chains": [c.name for c in model],
        "atoms": [(c, n, r, a.name, a.element.name.upper()) for c, n, r, a in atoms],
        "positions": [a.pos.tolist() for *_, a in atoms],
        "b": [a.b_iso for *_, a in atoms],
        "sequences": {c.name: gemmi.one_letter_code([r.name for r in c]) for c in model},
    }


def read_modelcif(path: Path) -> dict:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with path.open() as file:
            (system,) = modelcif.reader.read(file, reject_old_file=False)
    (group,) = system.model_groups
    (model,) = group
    check(model.assembly is not None, "the model has an assembly")
    whole = {type(m).type: m.value for m in model.qa_metrics if isinstance(m, modelcif.qa_metric.Global)}
    local = [m for m in model.qa_metrics if isinstance(m, modelcif.qa_metric.Local)]
    check(set(whole) <= set(METRICS) and "pLDDT" in whole, f"metrics {sorted(whole)}")
    check({s.name for s in system.software} >= {"fold"}, "software")
    return {
        "atoms": [(a.asym_unit.id, a.seq_id, a.atom_id, a.type_symbol) for a in model.get_atoms()],
        "positions": [(a.x, a.y, a.z) for a in model.get_atoms()],
        "sequences": {a.id: "".join(c.code_canonical for c in a.entity.sequence) for a in system.asym_units},
        "global": whole,
        "local": [(m.residue.asym.id, m.residue.seq_id, m.value) for m in local],
    }


def read_biotite(path: Path) -> dict:
    if path.suffix == ".pdb":
        atoms = pdb.PDBFile.read(path).get_structure(model=1, extra_fields=["b_factor"])
    else:
        atoms = pdbx.get_structure(pdbx.CIFFile.read(path), model=1, extra_fields=["b_factor"], use_author_fields=False)
    names = zip(atoms.chain_id, atoms.res_id, atoms.res_name, atoms.atom_name, atoms.element)
    return {"atoms": [(str(c), int(n), str(r), str(a), str(e)) for c, n, r, a, e in names], "positions": atoms.coord, "b": atoms.b_factor}


def check_sample(prefix: str) -> dict:
    cif = Path(f"{prefix}_model.cif")
    summary = json.loads(Path(f"{prefix}_summary_confidences.json").read_text())
    arrays = json.loads(Path(f"{prefix}_confidences.json").read_text())
    g, m, b = read_gemmi(cif), read_modelcif(cif), read_biotite(cif)
    check(g["atoms"] == b["atoms"], "gemmi and Biotite read the same atoms")
    check([(c, n, a, e) for c, n, _, a, e in g["atoms"]] == m["atoms"], "gemmi and modelcif read the same atoms")
    close(g["positions"], b["positions"], 1e-3, "positions of Biotite")
    close(g["positions"], m["positions"], 1e-6, "positions of modelcif")
    check(g["sequences"] == m["sequences"], "sequences")
    pdb_file = Path(f"{prefix}_model.pdb")
    if pdb_file.exists():
        p = read_biotite(pdb_file)
        check(p["atoms"] == g["atoms"], "the PDB file has the same atoms")
        close(p["positions"], g["positions"], 1e-3, "positions of the PDB file")
        close(p["b"], g["b"], 1e-3, "B factors of the PDB file")
        check(len(gemmi.read_structure(str(pdb_file))[0]) == len(g["chains"]), "gemmi reads the PDB file")

    check(g["chains"] == summary["chain_ids"], "chains in the summary")
    n_chain, n_token = len(g["chains"]), len(arrays["token_res_ids"])
    check(n_token == sum(map(len, g["sequences"].values())), "tokens")
    close(arrays["atom_plddts"], g["b"], 0.0051, "pLDDT and B factor")
    check(arrays["atom_chain_ids"] == [a[0] for a in g["atoms"]], "chains of atoms")
    residues = list(dict.fromkeys((c, n) for c, n, *_ in g["atoms"]))
    check(list(zip(arrays["token_chain_ids"], arrays["token_res_ids"])) == residues, "tokens and residues")
    for key, largest in (("pae", 32), ("pde", 32), ("contact_probs", 1)):
        values = np.array(arrays[key], float)
        check(values.shape == (n_token, n_token) and values.min() >= 0 and values.max() <= largest, key)
    for key in ("chain_pair_iptm", "chain_pair_pae_min", "bespoke_iptm"):
        check(np.array(summary[key], float).shape == (n_chain, n_chain), key)
    close(np.diag(summary["chain_pair_iptm"]), summary["chain_ptm"], 1e-6, "diagonal of chain_pair_iptm")
    asym = np.array(arrays["token_chain_ids"])
    pae = np.array(arrays["pae"])
    least = [[pae[np.ix_(asym == i, asym == j)].min() for j in g["chains"]] for i in g["chains"]]
    close(least, summary["chain_pair_pae_min"], 1e-6, "chain_pair_pae_min")
    close(np.mean(arrays["atom_plddts"]), summary["avg_plddt"], 0.006, "avg_plddt")
    close(m["global"]["pLDDT"], summary["avg_plddt"], 0.0051, "pLDDT of the model")
    close(m["global"]["pTM"], summary["ptm"], 6e-5, "pTM of the model")
    check(("ipTM" in m["global"]) == (n_chain > 1), "ipTM is for several chains")
    check([(c, n) for c, n, _ in m["local"]] == residues, "pLDDT of every residue")
    means = [np.mean([x for a, x in zip(g["atoms"], g["b"]) if a[:2] == r]) for r in residues]
    close([v for *_, v in m["local"]], means, 0.0101, "pLDDT of residues")
    score = 0.8 * summary["iptm"] + 0.2 * summary["ptm"] + 0.5 * summary["fraction_disordered"] - 100 * summary["has_clash"]
    close(score, summary["ranking_score"], 5e-6, "ranking_score")
    return summary


def check_folder(folder: Path) -> None:
    name = folder.name
    samples = sorted(folder.glob("seed-*_sample-*"))
    check(bool(samples), f"{folder}: no samples")
    scores = {}
    for sample in samples:
        seed, number = sample.name.removeprefix("seed-").split("_sample-")
        scores[seed, number] = check_sample(f"{sample}/{name}_{sample.name}")["ranking_score"]
    with (folder / f"{name}_ranking_scores.csv").open() as file:
        rows = {(r["seed"], r["sample"]): float(r["ranking_score"]) for r in csv.DictReader(file)}
    check(rows == scores, "ranking_scores.csv")
    best = check_sample(f"{folder}/{name}")
    check(best["ranking_score"] == max(scores.values()), "the best sample is copied up")
    print(f"{folder}: {len(samples)} samples, {len(best['chain_ids'])} chains: gemmi, Biotite and modelcif agree")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        check_folder(Path(argument))
    if len(sys.argv) < 2:
        sys.exit(__doc__)
