#!/usr/bin/env python3
"""Write rigid_groups.tsv and chi_angles.tsv: ideal residue geometry as AlphaFold2 has it.

Positions in Å of each atom in the frame of its rigid group (AF2 SI 1.8.4 and Table 2; `alphafold/common/residue_constants.py`,
`rigid_group_atom_positions`), atoms in atom14 order; groups 0 backbone, 3 psi, 4-7 chi1-chi4. For each chi angle its four atoms and
whether a half turn gives the same residue (`chi_angles_atoms`, `chi_pi_periodic`).

    python regen_rigid_groups.py        (made with alphafold-colabfold 2.3.27)
"""

from pathlib import Path

from alphafold.common import residue_constants as rc


def main() -> None:
    here = Path(__file__).parent
    atoms, chis = ["residue\tatom\tgroup\tx\ty\tz"], ["residue\tchi\ta\tb\tc\td\tperiodic"]
    for i, letter in enumerate(rc.restypes):
        name = rc.restype_1to3[letter]
        known = {atom: (group, xyz) for atom, group, xyz in rc.rigid_group_atom_positions[name]}
        for atom in filter(None, rc.restype_name_to_atom14_names[name]):
            group, xyz = known[atom]
            atoms.append("\t".join([name, atom, str(group), *map(str, xyz)]))
        for k, names in enumerate(rc.chi_angles_atoms[name]):
            chis.append("\t".join([name, str(k + 1), *names, str(int(rc.chi_pi_periodic[i][k]))]))
    (here / "rigid_groups.tsv").write_text("\n".join(atoms) + "\n")
    (here / "chi_angles.tsv").write_text("\n".join(chis) + "\n")


if __name__ == "__main__":
    main()
