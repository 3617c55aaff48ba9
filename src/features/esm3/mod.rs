//! What ESM3 reads of a protein: seven tracks of tokens and coordinates, each two longer than the protein, as the tokenisers of
//! esm 3.2.1 make them (`esm/tokenization`, `esm/utils/encoding.py`).
pub mod function;
pub mod sequence;
pub mod structure;
pub mod vocabulary;

/// A kind of information about each residue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Track {
    /// Amino acids.
    Sequence,
    /// Codes of local structure.
    Structure,
    /// Secondary structure in eight classes.
    SecondaryStructure,
    /// Solvent accessible surface.
    Sasa,
    /// Hashed function terms, eight tokens a residue.
    Function,
    /// Annotated sites, sixteen tokens a residue.
    ResidueAnnotations,
}

/// A token of a residue: one id, or as many as the track is deep.
pub type Token = Vec<u16>;

impl Track {
    /// Ids of a residue.
    pub fn depth(self) -> usize {
        match self {
            Self::Function => FUNCTION_DEPTH,
            Self::ResidueAnnotations => RESIDUE_DEPTH,
            _ => 1,
        }
    }

    /// The id of what is to be found.
    pub fn mask(self) -> u16 {
        match self {
            Self::Sequence => sequence_id::MASK,
            Self::Structure => structure_id::MASK,
            _ => PAD,
        }
    }

    /// The ids before the first and behind the last residue.
    pub fn ends(self) -> [u16; 2] {
        match self {
            Self::Sequence => [sequence_id::BOS, sequence_id::EOS],
            Self::Structure => [structure_id::BOS, structure_id::EOS],
            _ => [PAD; 2],
        }
    }
}

/// Tokens of a residue on the function track.
pub const FUNCTION_DEPTH: usize = 8;
/// Tokens of a residue on the residue annotation track.
pub const RESIDUE_DEPTH: usize = 16;

/// Ids of the sequence track that are no amino acids.
pub mod sequence_id {
    /// Begins a protein.
    pub const BOS: u16 = 0;
    /// Fills up a batch.
    pub const PAD: u16 = 1;
    /// Ends a protein.
    pub const EOS: u16 = 2;
    /// A character without a token.
    pub const UNKNOWN: u16 = 3;
    /// Between two chains.
    pub const CHAIN_BREAK: u16 = 31;
    /// To be found.
    pub const MASK: u16 = 32;
}

/// Ids of the structure track that are no codes; codes are below.
pub mod structure_id {
    /// To be found; also the number of codes.
    pub const MASK: u16 = 4096;
    /// Ends a protein.
    pub const EOS: u16 = 4097;
    /// Begins a protein.
    pub const BOS: u16 = 4098;
    /// Fills up a batch.
    pub const PAD: u16 = 4099;
    /// Between two chains.
    pub const CHAIN_BREAK: u16 = 4100;
}

/// Mask, ends and padding of the other tracks are one id.
pub const PAD: u16 = 0;
/// The function or annotation of a residue is known to be none.
pub const NONE: u16 = 3;
/// A function without a known term.
pub const UNKNOWN: u16 = 2;
/// The first id with a meaning on the tracks of secondary structure and surface.
pub const FIRST_CLASS: u16 = 3;
/// The first id with a meaning on the tracks of functions and annotations.
pub const FIRST_LABEL: u16 = 4;

/// Positions of N, CA and C of a residue in Å; missing atoms are not finite.
pub type Backbone = [[f32; 3]; 3];

/// Atoms of the residues, one entry for each token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Coordinates {
    /// In the frame of the whole structure's mean backbone.
    pub backbone: Vec<Backbone>,
    /// Has the residue any atom at all?
    pub has_atom: Vec<bool>,
}

/// The tracks of one protein; those that are given have one entry for each residue and one more at each end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tokens {
    /// Ids below 33.
    pub sequence: Option<Vec<u16>>,
    /// Ids below 4101.
    pub structure: Option<Vec<u16>>,
    /// Ids below 11.
    pub secondary_structure: Option<Vec<u16>>,
    /// Ids below 19.
    pub sasa: Option<Vec<u16>>,
    /// Ids below 260.
    pub function: Option<Vec<[u16; FUNCTION_DEPTH]>>,
    /// Ids below 1478.
    pub residue_annotations: Option<Vec<[u16; RESIDUE_DEPTH]>>,
    /// Of a given structure.
    pub coordinates: Option<Coordinates>,
}

/// Tracks that do not have one length, or no track at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackError {
    /// Nothing says how long the protein is.
    #[error("no track is given, so the length of the protein is not known")]
    Empty,
    /// The lengths differ.
    #[error("{first} has {n} residues, {other} has {m}")]
    Lengths {
        /// A track.
        first: &'static str,
        /// Its residues.
        n: usize,
        /// Another track.
        other: &'static str,
        /// Its residues.
        m: usize,
    },
}

impl Tokens {
    /// Tokens of each track, ends included: one number for all tracks that are given.
    pub fn n_token(&self) -> Result<usize, TrackError> {
        let lengths = [
            ("the sequence", self.sequence.as_ref().map(Vec::len)),
            ("the secondary structure", self.secondary_structure.as_ref().map(Vec::len)),
            ("the surface track", self.sasa.as_ref().map(Vec::len)),
            ("the structure", self.structure.as_ref().map(Vec::len)),
            ("the coordinate track", self.coordinates.as_ref().map(|c| c.backbone.len())),
            ("the function track", self.function.as_ref().map(Vec::len)),
            ("the residue annotation track", self.residue_annotations.as_ref().map(Vec::len)),
        ];
        let mut given = lengths.into_iter().filter_map(|(name, n)| Some((name, n?)));
        let (first, n) = given.next().ok_or(TrackError::Empty)?;
        let residues = |n: usize| n.saturating_sub(2);
        match given.find(|(_, m)| *m != n) {
            Some((other, m)) => Err(TrackError::Lengths { first, n: residues(n), other, m: residues(m) }),
            None => Ok(n),
        }
    }

    /// The tokens of a track, if it is given.
    pub fn track(&self, track: Track) -> Option<Vec<Token>> {
        let single = |ids: &Option<Vec<u16>>| Some(ids.as_ref()?.iter().map(|id| vec![*id]).collect());
        match track {
            Track::Sequence => single(&self.sequence),
            Track::Structure => single(&self.structure),
            Track::SecondaryStructure => single(&self.secondary_structure),
            Track::Sasa => single(&self.sasa),
            Track::Function => Some(self.function.as_ref()?.iter().map(|ids| ids.to_vec()).collect()),
            Track::ResidueAnnotations => {
                Some(self.residue_annotations.as_ref()?.iter().map(|ids| ids.to_vec()).collect())
            }
        }
    }

    /// Gives a track; ids that a token lacks are padding.
    pub fn set_track(&mut self, track: Track, tokens: &[Token]) {
        fn deep<const N: usize>(token: &Token) -> [u16; N] {
            std::array::from_fn(|i| token.get(i).copied().unwrap_or(PAD))
        }
        let single = || Some(tokens.iter().map(|token| deep::<1>(token)[0]).collect());
        match track {
            Track::Sequence => self.sequence = single(),
            Track::Structure => self.structure = single(),
            Track::SecondaryStructure => self.secondary_structure = single(),
            Track::Sasa => self.sasa = single(),
            Track::Function => self.function = Some(tokens.iter().map(deep).collect()),
            Track::ResidueAnnotations => self.residue_annotations = Some(tokens.iter().map(deep).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_of_one_length() {
        let mut tokens = Tokens { sequence: Some(vec![0; 5]), sasa: Some(vec![0; 5]), ..Tokens::default() };
        assert_eq!(tokens.n_token(), Ok(5));
        tokens.function = Some(vec![[0; 8]; 6]);
        let error = tokens.n_token().unwrap_err().to_string();
        assert_eq!(error, "the sequence has 3 residues, the function track has 4");
        assert_eq!(Tokens::default().n_token(), Err(TrackError::Empty));
    }
}
