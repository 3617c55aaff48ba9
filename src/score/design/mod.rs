//! Designs judged and ranked as PXDesign (f788441) and PXDesignBench (633f5d1) do: what is measured on structures, success flags, order,
//! the table of results. Which designs are alike in structure is this program's own.
pub mod clusters;
pub mod rank;
pub mod rmsd;
pub mod secondary;
pub mod summary;
pub mod tm_align;
pub mod tm_score;

/// The network of the second filter, after which its columns are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondModel {
    /// Protenix, base.
    Protenix,
    /// Protenix, mini.
    ProtenixMini,
    /// OpenFold3. The thresholds were found for Protenix.
    OpenFold3,
}

impl SecondModel {
    /// All of them; where a design was judged by several, the first counts.
    pub const ALL: [Self; 3] = [Self::Protenix, Self::ProtenixMini, Self::OpenFold3];

    /// Its name on the command line and in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Protenix => "protenix",
            Self::ProtenixMini => "protenix-mini",
            Self::OpenFold3 => "openfold3",
        }
    }

    /// What its columns begin with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Protenix => "ptx",
            Self::ProtenixMini => "ptx_mini",
            Self::OpenFold3 => "of3",
        }
    }

    /// Its name in columns of flags and names of folders.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Protenix => "Protenix",
            Self::ProtenixMini => "Protenix-mini",
            Self::OpenFold3 => "OpenFold3",
        }
    }
}

/// AlphaFold2 on target and binder from an initial guess, and on the binder alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstScores {
    /// Of the binder in the complex, 0-1.
    pub plddt: f64,
    /// Of the complex.
    pub ptm: f64,
    /// Of the complex.
    pub iptm: f64,
    /// Binder with all, in 31 Å.
    pub pae: f64,
    /// Binder with target, in 31 Å.
    pub i_pae: f64,
    /// The same in Å.
    pub unscaled_i_pae: f64,
    /// Of the binder alone, 0-1.
    pub monomer_plddt: f64,
    /// Of the binder alone.
    pub monomer_ptm: f64,
    /// Of the binder alone, in 31 Å.
    pub monomer_pae: f64,
    /// The binder alone against the binder in the complex, Å.
    pub bound_unbound_rmsd: f64,
    /// The binder alone against the design, Å.
    pub binder_rmsd: f64,
    /// The complex against the design, Å.
    pub complex_rmsd: f64,
}

/// A network of AlphaFold3's family on target and binder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SecondScores {
    /// 0-100.
    pub plddt: f64,
    /// Of the binder.
    pub ptm_binder: f64,
    /// Mean over the target's chains.
    pub ptm_target: f64,
    /// Of the complex.
    pub iptm: f64,
    /// Of the complex.
    pub ptm: f64,
    /// Of the binder with the others.
    pub iptm_binder: f64,
    /// The complex against the design, laid on a chain of the target, Å.
    pub rmsd: f64,
}

/// A design with all that is known of it. A number that could not be had is NaN; it passes no filter and is ranked last.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name of the task.
    pub task: String,
    /// The binder.
    pub sequence: String,
    /// The first filter.
    pub first: FirstScores,
    /// The second, where there was one.
    pub second: Option<SecondScores>,
    /// Fractions of the binder's residues in helices, in strands and in neither.
    pub elements: [f64; 3],
    /// Radius of gyration of the binder's CA atoms, Å.
    pub rg: f64,
}

/// Rounded to decimal places as numpy does: the nearest, of two the even one.
pub fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round_ties_even() / scale
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A design that passes every filter.
    pub fn row() -> Row {
        let first = FirstScores {
            plddt: 0.95,
            ptm: 0.8,
            iptm: 0.8,
            pae: 0.1,
            i_pae: 0.15,
            unscaled_i_pae: 4.65,
            monomer_plddt: 0.9,
            monomer_ptm: 0.8,
            monomer_pae: 0.1,
            bound_unbound_rmsd: 0.5,
            binder_rmsd: 0.6,
            complex_rmsd: 1.5,
        };
        let second = SecondScores {
            plddt: 91.5,
            ptm_binder: 0.9,
            ptm_target: 0.8,
            iptm: 0.85,
            ptm: 0.85,
            iptm_binder: 0.9,
            rmsd: 1.2,
        };
        let (task, sequence) = ("task".to_owned(), "MKTV".to_owned());
        Row { task, sequence, first, second: Some(second), elements: [0.5, 0.25, 0.25], rg: 11.5 }
    }

    #[test]
    fn halves_go_to_the_even_number() {
        assert_eq!([0.0005, 0.0015, 2.675].map(|v| rounded(v, 3)), [0., 0.002, 2.675]);
        assert!(rounded(f64::NAN, 2).is_nan());
    }
}
