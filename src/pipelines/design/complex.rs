//! The complex of a design in files: names from the features, coordinates from the network.
use crate::chem::atom_layout::{ATOM37, CA};
use crate::chem::restype::{CODES, GLY, UNKNOWN};
use crate::features::af2::N_ATOM37;
use crate::features::af2::design::KnownChain;
use crate::features::pxdesign::{DESIGNED, DESIGNED_CODE, DesignChain, DesignStructure};
use crate::geometry::Vec3;
use crate::io::complex::{Site, format};
use crate::io::coordinates;
use crate::pipelines::protenix::filter::Predicted;

/// What stands behind the name of a sample in the file's data block, as in PXDesign's files.
const BLOCK: &str = "predicted_by_protenix";

/// Id of a chain in files.
pub fn file_id(chain: &DesignChain) -> String {
    format!("{}0", chain.id)
}

/// mmCIF of sample `name` of a task, with its atoms at `positions`, Å.
pub fn cif(task: &str, name: &str, structure: &DesignStructure, positions: &[[f32; 3]]) -> String {
    let ids: Vec<String> = structure.chains.iter().map(file_id).collect();
    let sites: Vec<Site<'_>> = structure
        .atoms
        .iter()
        .zip(positions)
        .map(|(atom, &position)| {
            let residue = structure.residue_of(atom);
            let chain = &structure.chains[residue.chain];
            Site {
                chain: &ids[residue.chain],
                strand: &chain.id,
                entity: residue.chain + 1,
                polymer: chain.polymer,
                number: residue.number,
                code: &residue.name,
                is_hetero: chain.is_ligand,
                name: &atom.name,
                element: &atom.element,
                position,
                b_factor: 0.,
            }
        })
        .collect();
    format(&format!("{name}_{BLOCK}"), task, &sites)
}

/// The coordinates of a file that [`cif`] has written of the same complex, in Å.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn positions(text: &str, structure: &DesignStructure) -> Result<Vec<[f32; 3]>, String> {
    let chains = coordinates::parse(text).map_err(|fault| fault.to_string())?;
    let residues = chains.iter().flat_map(|chain| &chain.residues);
    let atoms: Vec<_> = residues.flat_map(|residue| residue.atoms.iter().map(move |atom| (residue, atom))).collect();
    if atoms.len() != structure.atoms.len() {
        return Err(format!("{} atoms, the task has {}", atoms.len(), structure.atoms.len()));
    }
    atoms
        .iter()
        .zip(&structure.atoms)
        .map(|((residue, atom), expected)| {
            let of = structure.residue_of(expected);
            if (&residue.code, residue.number, &atom.name) != (&of.name, Some(of.number), &expected.name) {
                return Err(format!("no atom {} of residue {} {}", expected.name, of.name, of.number));
            }
            Ok(atom.position)
        })
        .collect()
}

/// Residues of the complex that AlphaFold2 and the sequence model have letters for, with their atoms at `positions`; a chain without
/// any is left out. Of the binder the letters are not known yet.
pub fn known_chains(structure: &DesignStructure, positions: &[[f32; 3]]) -> (Vec<KnownChain>, KnownChain) {
    let mut chains = vec![KnownChain::default(); structure.chains.len()];
    let atoms: Vec<_> = structure.atoms.iter().zip(positions).collect();
    for atoms in atoms.chunk_by(|(a, _), (b, _)| a.residue == b.residue) {
        let residue = structure.residue_of(atoms[0].0);
        let is_designed = residue.restype == DESIGNED;
        if structure.chains[residue.chain].is_ligand || residue.restype >= UNKNOWN && !is_designed {
            continue;
        }
        let (mut x, mut mask) = ([[0.; 3]; N_ATOM37], [0.; N_ATOM37]);
        for (atom, position) in atoms {
            if let Some(place) = ATOM37.iter().position(|name| *name == atom.name) {
                x[place] = **position;
                mask[place] = 1.;
            }
        }
        let chain = &mut chains[residue.chain];
        chain.restype.push(if is_designed { GLY } else { residue.restype });
        chain.residue_index.push(residue.number);
        chain.positions.extend(x);
        chain.mask.extend(mask);
    }
    let binder = chains.pop().unwrap_or_default();
    chains.retain(|chain| !chain.restype.is_empty());
    (chains, binder)
}

/// The chains of [`known_chains`], the binder with them, as places among all.
pub fn known(structure: &DesignStructure) -> Vec<usize> {
    let is_known = |restype: u8| restype < UNKNOWN || restype == DESIGNED;
    let has_letters = |chain: usize| structure.residues.iter().any(|r| r.chain == chain && is_known(r.restype));
    (0..structure.chains.len()).filter(|&i| !structure.chains[i].is_ligand && has_letters(i)).collect()
}

/// CA atoms of atom37.
pub fn cas(positions: &[[f32; 3]]) -> Vec<Vec3> {
    positions.chunks(N_ATOM37).map(|x| x[CA].map(f64::from)).collect()
}

/// A file that [`cif`] has written, with the designed letters 0-19 in place of the residues to design.
pub fn named(text: &str, sequence: &[u8]) -> String {
    let name = |line: &str| -> Option<String> {
        let mut words: Vec<&str> = line.split(' ').collect();
        // Codes and number of a row of atoms, and of a row of the sequence.
        let (codes, number): (&[usize], usize) = if words[0] == "ATOM" { (&[5, 11], 8) } else { (&[2], 3) };
        let place = words.get(number)?.parse::<usize>().ok()?.checked_sub(1)?;
        let code = CODES[usize::from(*sequence.get(place)?)];
        for &at in codes {
            (*words.get(at)? == DESIGNED_CODE).then_some(())?;
            words[at] = code;
        }
        Some(words.join(" "))
    };
    let lines = text.lines().map(|line| name(line).unwrap_or_else(|| line.to_owned()) + "\n");
    lines.collect()
}

/// mmCIF of a structure that a network of AlphaFold3's family has predicted of proteins, its chains called `ids`, with the pLDDT of each atom.
pub fn cif_of_prediction(name: &str, ids: &[String], predicted: &Predicted) -> String {
    let (f, c) = (&predicted.features, &predicted.confidence);
    let names: Vec<String> = f.ref_atom_name.iter().map(atom_name).collect();
    let sites: Vec<Site<'_>> = (0..f.n_atom())
        .map(|atom| {
            let token = f.atom_to_token[atom];
            let chain = c.asym_ids.binary_search(&f.asym_id[token]).unwrap_or_default();
            Site {
                chain: &ids[chain],
                strand: &ids[chain],
                entity: chain + 1,
                polymer: Some("polypeptide(L)"),
                number: f.residue_index[token],
                code: CODES[usize::from(f.restype[token].min(UNKNOWN))],
                is_hetero: false,
                name: &names[atom],
                element: &names[atom][..1],
                position: predicted.positions[atom],
                b_factor: c.plddt[atom],
            }
        })
        .collect();
    format(name, name, &sites)
}

/// The name of which the features have the codes.
fn atom_name(codes: &[u8; 4]) -> String {
    codes.iter().map(|code| char::from(code + b' ')).collect::<String>().trim_end().to_owned()
}

/// mmCIF of chains in atom37 with all atoms that their residues have; `b_factors` of each residue.
pub fn cif_of_chains(name: &str, ids: &[String], chains: &[KnownChain], b_factors: &[f32]) -> String {
    let mut sites = Vec::new();
    let mut b_factors = b_factors.iter();
    for (c, chain) in chains.iter().enumerate() {
        for (i, (&restype, &number)) in chain.restype.iter().zip(&chain.residue_index).enumerate() {
            let b_factor = b_factors.next().copied().unwrap_or_default();
            for place in (0..N_ATOM37).filter(|place| chain.mask[i * N_ATOM37 + place] > 0.) {
                sites.push(Site {
                    chain: &ids[c],
                    strand: &ids[c],
                    entity: c + 1,
                    polymer: Some("polypeptide(L)"),
                    number,
                    code: CODES[usize::from(restype)],
                    is_hetero: false,
                    name: ATOM37[place],
                    element: &ATOM37[place][..1],
                    position: chain.positions[i * N_ATOM37 + place],
                    b_factor,
                });
            }
        }
    }
    format(name, name, &sites)
}
