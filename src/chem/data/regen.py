#!/usr/bin/env python3
"""Write components.tsv and conformers.tsv: atoms and reference conformers of the standard amino acids.

Atoms are those of the wwPDB chemical component dictionary inside biotite, in its order, without hydrogens and without the
leaving OXT; formal charges are the dictionary's. Conformers are RDKit ETKDGv3 embeddings of the whole component with
hydrogens, seeds 1 to 8, as OpenFold3 0.5.0 makes them (core/data/primitives/structure/conformer.py), with one difference:
the stereochemistry is taken from the dictionary's ideal coordinates, so that every residue is an L-amino acid. The
official program assigns it to ligands only, and about half of its reference conformers of residues are mirror images.

    python regen.py        (made with biotite 1.6.0 and rdkit 2025.9.6)
"""

from pathlib import Path

import biotite
import biotite.structure.info as info
import rdkit
from biotite.interface.rdkit import to_mol
from rdkit import Chem
from rdkit.Chem import AllChem

RESIDUES = (
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL UNK"
).split()
N_CONFORMER = 8


def main() -> None:
    here = Path(__file__).parent
    atoms = ["component\tatom\telement\tcharge"]
    conformers = ["component\tconformer\tatom\tx\ty\tz"]
    for name in RESIDUES:
        array = info.residue(name)
        array = array[array.element != "H"]
        mol = to_mol(array, kekulize=True)
        Chem.SanitizeMol(mol)
        Chem.AssignStereochemistryFrom3D(mol)
        mol.RemoveConformer(0)
        kept = [i for i in range(len(array)) if array.atom_name[i] != "OXT"]
        for i in kept:
            charge = mol.GetAtomWithIdx(i).GetFormalCharge()
            atoms.append(f"{name}\t{array.atom_name[i]}\t{array.element[i].capitalize()}\t{charge}")
        whole = Chem.AddHs(mol)
        for k in range(N_CONFORMER):
            parameters = AllChem.ETKDGv3()
            parameters.randomSeed = k + 1
            if AllChem.EmbedMolecule(whole, parameters) != 0:
                raise SystemExit(f"{name}: no conformer with seed {k + 1}")
            xyz = whole.GetConformer().GetPositions()
            for i in kept:
                x, y, z = (f"{v + 0.0:.4f}" for v in xyz[i])
                conformers.append(f"{name}\t{k}\t{array.atom_name[i]}\t{x}\t{y}\t{z}")
    (here / "components.tsv").write_text("\n".join(atoms) + "\n")
    (here / "conformers.tsv").write_text("\n".join(conformers) + "\n")
    print("biotite", biotite.__version__, "rdkit", rdkit.__version__)


if __name__ == "__main__":
    main()
