"""Writes dictionary.cif: components of targets that the program knows by itself, from the chemical component dictionary inside
Biotite (public domain), heavy atoms only, with one RDKit conformer each in the columns of the ideal coordinates.

    pip install biotite==1.6.0 rdkit==2025.9.6
    python src/chem/data/regen_dictionary.py
"""

from pathlib import Path

import biotite.structure.info.ccd as dictionary
import numpy as np
from rdkit import Chem
from rdkit.Chem import AllChem

HERE = Path(__file__).parent
STANDARD = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL UNK"
NUCLEOTIDES = "A G C U N DA DG DC DT DN"
MODIFIED = (
    "MSE SEP TPO PTR HYP SAR MEA CCS 9KK CSO CSD OCS CME CSX SCY YCM MLY M3L MLZ ALY KCX LLP PCA TYS TRQ HIC NEP MHO SME "
    "FME CGU AIB NLE ORN DAL DAR DSG DAS DCY DGN DGL DHI DIL DLE DLY MED DPN DPR DSN DTH DTR DTY DVA ABA BMT MVA MLE CRO"
)
CAPS = "ACE NH2 NME FOR"
IONS = "ZN MG CA NA K CL MN FE FE2 CU CU1 NI CO CD IOD BR HG"
LIGANDS = (
    "SO4 PO4 GOL EDO ACT PEG PG4 DMS MPD TRS MES EPE CIT FMT IMD BME ATP ADP AMP ANP ACP GTP GDP GNP GSP UDP UTP CTP NAD NAI NAP "
    "NDP FAD FMN SAM SAH HEM HEC COA ACO PLP TPP BTN RAP NAG NDG MAN BMA FUC GAL GLC BGC SIA XYP RTL REA CLR PLM OLA STR EST"
)
ORDERS = {"SING": Chem.BondType.SINGLE, "DOUB": Chem.BondType.DOUBLE, "TRIP": Chem.BondType.TRIPLE}
SEED = 42


def conformer(names, elements, charges, ideal, bonds):
    """Positions of all atoms: one ETKDGv3 embedding with the stereochemistry of the ideal coordinates, or those themselves."""
    known = np.isfinite(ideal).all(1)
    editable = Chem.RWMol()
    for element, charge in zip(elements, charges):
        atom = Chem.Atom(element.capitalize())
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)
        editable.AddAtom(atom)
    for a, b, order in bonds:
        editable.AddBond(names.index(a), names.index(b), ORDERS.get(order, Chem.BondType.SINGLE))
    molecule = editable.GetMol()
    start = Chem.Conformer(len(names))
    for i, x in enumerate(np.nan_to_num(ideal)):
        start.SetAtomPosition(i, x.tolist())
    molecule.AddConformer(start, assignId=True)
    if known.all() and len(names) > 1 and Chem.SanitizeMol(molecule, catchErrors=True) == 0:
        Chem.AssignStereochemistryFrom3D(molecule)
        settings = AllChem.ETKDGv3()
        settings.clearConfs, settings.randomSeed, settings.timeout = False, SEED, 5
        if (made := AllChem.EmbedMolecule(molecule, settings)) > 0:
            return molecule.GetConformer(made).GetPositions()
    return np.where(known[:, None], ideal, np.nan)


def word(text):
    return f'"{text}"' if not text or any(c in text for c in " '\"#") else text


def block(code, tables):
    comp, atoms, bonds = tables
    one = np.nonzero(comp["id"] == code)[0][0]
    a = np.nonzero(atoms["comp_id"] == code)[0]
    b = np.nonzero(bonds["comp_id"] == code)[0]
    column = lambda table, name, rows: table[name][rows]
    names, elements = column(atoms, "atom_id", a).tolist(), column(atoms, "type_symbol", a).tolist()
    charges = [int(c) if c.lstrip("+-").isdigit() else 0 for c in column(atoms, "charge", a)]
    ideal = np.stack([column(atoms, f"pdbx_model_Cartn_{d}_ideal", a) for d in "xyz"], 1)
    ideal = np.where(np.isin(ideal, ["?", ".", ""]), "nan", ideal).astype(float)
    pairs = list(zip(*(column(bonds, f"atom_id_{i}", b) for i in (1, 2)), np.char.upper(column(bonds, "value_order", b))))
    positions = conformer(names, elements, charges, ideal, pairs)
    about = [column(comp, key, one) for key in ("type", "one_letter_code")]
    lines = [f"data_{code}", f"_chem_comp.id {code}", f"_chem_comp.type {word(str(about[0]))}"]
    lines += [f"_chem_comp.one_letter_code {word(str(about[1]) or '?')}", "loop_"]
    items = ["atom_id", "type_symbol", "charge", "pdbx_leaving_atom_flag", *(f"pdbx_model_Cartn_{d}_ideal" for d in "xyz")]
    lines += [f"_chem_comp_atom.{item}" for item in items]
    leaving = column(atoms, "pdbx_leaving_atom_flag", a)
    heavy = [i for i, element in enumerate(elements) if element not in ("H", "D")]
    for i in heavy:
        x = " ".join("?" if np.isnan(v) else f"{v:.4f}" for v in positions[i])
        lines.append(f"{word(names[i])} {elements[i]} {charges[i]} {leaving[i]} {x}")
    kept = {names[i] for i in heavy}
    pairs = [(x, y) for x, y, _ in pairs if x in kept and y in kept]
    if pairs:
        lines += ["loop_", "_chem_comp_bond.atom_id_1", "_chem_comp_bond.atom_id_2"]
        lines += [f"{word(x)} {word(y)}" for x, y in pairs]
    return "\n".join(lines)


def main():
    ccd = dictionary.get_ccd()
    names = {
        "chem_comp": ["id", "type", "one_letter_code"],
        "chem_comp_atom": ["comp_id", "atom_id", "type_symbol", "charge", "pdbx_leaving_atom_flag"]
        + [f"pdbx_model_Cartn_{d}_ideal" for d in "xyz"],
        "chem_comp_bond": ["comp_id", "atom_id_1", "atom_id_2", "value_order"],
    }
    tables = [{name: ccd[key][name].as_array(str) for name in columns} for key, columns in names.items()]
    parents = [line.split("\t")[0] for line in (HERE / "parents.tsv").read_text().splitlines()[1:]]
    wanted = " ".join([STANDARD, NUCLEOTIDES, MODIFIED, CAPS, IONS, LIGANDS]).split() + parents
    known = set(tables[0]["id"].tolist())
    codes = [code for code in dict.fromkeys(wanted) if code in known]
    print("not in the dictionary:", [code for code in wanted if code not in known])
    text = "# made by regen_dictionary.py; the ideal coordinates are RDKit conformers\n"
    text += "\n".join(block(code, tables) for code in codes) + "\n"
    (HERE / "dictionary.cif").write_text(text)
    print(len(codes), "components,", len(text), "bytes")


if __name__ == "__main__":
    main()
