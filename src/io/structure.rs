//! A predicted structure as plain data: what the mmCIF and PDB writers need.

/// A structure with its chemistry, confidence and origin.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Structure {
    /// Name of the data block and entry.
    pub name: String,
    /// One line on what this is, with any warning.
    pub title: String,
    /// Program and model that made it.
    pub origin: Origin,
    /// Distinct sequences, by their number - 1.
    pub entities: Vec<Entity>,
    /// In the order of `atoms`.
    pub chains: Vec<Chain>,
    /// Atoms of a chain together, atoms of a residue together.
    pub atoms: Vec<Atom>,
    /// Scores of the whole structure besides the mean pLDDT: pTM and ipTM, 0-1.
    pub ptm: Option<f32>,
    /// See `ptm`; `None` for a single chain.
    pub iptm: Option<f32>,
}

/// Program and model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// Version of this program.
    pub version: String,
    /// Name of the model, such as OpenFold3.
    pub model: String,
    /// Its release.
    pub release: String,
}

/// Chains of one protein sequence.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entity {
    /// Free text of the user.
    pub description: Option<String>,
    /// Component codes; residue `i` has number `i + 1`.
    pub components: Vec<String>,
    /// One letter for each residue.
    pub sequence: String,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    /// The user's id.
    pub id: String,
    /// Index of its entity.
    pub entity: usize,
}

/// An atom.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Atom {
    /// Index of its chain.
    pub chain: usize,
    /// Residue number in the chain, from 1.
    pub residue: usize,
    /// Name, such as CA.
    pub name: String,
    /// Element symbol, such as C.
    pub element: String,
    /// In Å.
    pub position: [f32; 3],
    /// 0-100.
    pub plddt: f32,
}

impl Structure {
    /// Component code of an atom's residue.
    pub fn component(&self, atom: &Atom) -> &str {
        &self.entities[self.chains[atom.chain].entity].components[atom.residue - 1]
    }

    /// Mean pLDDT of each residue, as (chain, residue number, mean), in order.
    pub fn residue_plddt(&self) -> Vec<(usize, usize, f32)> {
        let same = |a: &Atom, b: &Atom| (a.chain, a.residue) == (b.chain, b.residue);
        let mean = |atoms: &[Atom]| (atoms[0].chain, atoms[0].residue, mean_plddt(atoms));
        self.atoms.chunk_by(same).map(mean).collect()
    }

    /// Mean pLDDT of all atoms; NaN without atoms.
    pub fn mean_plddt(&self) -> f32 {
        mean_plddt(&self.atoms)
    }
}

fn mean_plddt(atoms: &[Atom]) -> f32 {
    (atoms.iter().map(|a| f64::from(a.plddt)).sum::<f64>() / atoms.len() as f64) as f32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two chains of one entity (M G), one of another (S), with an id of two letters and one that must be quoted.
    pub fn example() -> Structure {
        let residue = |code: &str| -> Vec<&str> {
            match code {
                "MET" => vec!["N", "CA", "C", "O", "CB", "CG", "SD", "CE"],
                "GLY" => vec!["N", "CA", "C", "O"],
                _ => vec!["N", "CA", "C", "O", "CB", "OG"],
            }
        };
        let entity = |codes: &[&str], sequence: &str, description: Option<&str>| Entity {
            description: description.map(str::to_owned),
            components: codes.iter().map(ToString::to_string).collect(),
            sequence: sequence.to_owned(),
        };
        let entities = vec![entity(&["MET", "GLY"], "MG", Some("it's a \"test\"; x")), entity(&["SER"], "S", None)];
        let chains: Vec<Chain> =
            [("A", 0), ("B", 0), ("C", 1)].map(|(id, entity)| Chain { id: id.into(), entity }).into();
        let mut atoms = Vec::new();
        for (chain, entity) in chains.iter().map(|c| c.entity).enumerate() {
            for (i, code) in entities[entity].components.iter().enumerate() {
                for name in residue(code) {
                    let k = atoms.len() as f32;
                    atoms.push(Atom {
                        chain,
                        residue: i + 1,
                        name: name.to_owned(),
                        element: name[..1].to_owned(),
                        position: [k * 1.5 - 9.0, -0.0004 * k, 100.0 + 0.125 * k],
                        plddt: 40.0 + k,
                    });
                }
            }
        }
        let origin = Origin { version: "0.1.0".into(), model: "OpenFold3".into(), release: "0.5.0".into() };
        let title = "Predicted structure of example".to_owned();
        let name = "example 1".to_owned();
        Structure { name, title, origin, entities, chains, atoms, ptm: Some(0.5), iptm: Some(0.25) }
    }
}
