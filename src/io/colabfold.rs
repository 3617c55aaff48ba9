//! Files as ColabFold 1.6.3 and its AlphaFold write them: the PDB file (`protein.to_pdb`), the scores, the aligned errors.
use std::fmt::Write;

use serde_json::{Map, Value, json};

/// A residue of the PDB file.
#[derive(Debug, Clone)]
pub struct PdbResidue<'a> {
    /// Three letters.
    pub code: &'a str,
    /// Chain.
    pub chain: char,
    /// Number in the chain.
    pub number: i32,
    /// 0-100: the B factor of its atoms.
    pub plddt: f32,
    /// Names and positions in Å, in the order of atom37.
    pub atoms: Vec<(&'a str, [f32; 3])>,
}

/// What a score file holds, for `n` residues.
#[derive(Debug, Clone, Copy)]
pub struct Scores<'a> {
    /// `[n]` 0-100.
    pub plddt: &'a [f32],
    /// `[n, n]` in Å, of models that have it.
    pub pae: Option<&'a [f32]>,
    /// 0-1, of models that have it.
    pub ptm: Option<f32>,
    /// 0-1, of complexes.
    pub iptm: Option<f32>,
    /// Of complexes: two chains, and ipSAE, pDockQ and pDockQ2 of the first towards the second.
    pub interfaces: &'a [((char, char), [f64; 3])],
}

/// The PDB file. Coordinates too large for their columns widen them, as in the official one.
pub fn format_pdb(residues: &[PdbResidue<'_>]) -> String {
    let mut lines = vec!["MODEL     1".to_owned()];
    let mut serial = 0;
    for (i, r) in residues.iter().enumerate() {
        for (name, [x, y, z]) in &r.atoms {
            serial += 1;
            let (chain, number, element) = (r.chain, r.number, &name[..1]);
            let name = if name.len() == 4 { (*name).to_owned() } else { format!(" {name}") };
            lines.push(format!(
                "ATOM  {serial:>5} {name:<4} {:>3} {chain}{number:>4}    {x:>8.3}{y:>8.3}{z:>8.3}{:>6.2}{:>6.2}          {element:>2}",
                r.code, 1., r.plddt
            ));
        }
        if residues.get(i + 1).is_none_or(|next| next.chain != r.chain) {
            serial += 1;
            lines.push(format!("TER   {serial:>5}      {:>3} {}{:>4}", r.code, r.chain, r.number));
        }
    }
    lines.extend(["ENDMDL", "END"].map(str::to_owned));
    lines.iter().fold(String::new(), |mut out, line| {
        let _ = writeln!(out, "{line:<80}"); // writing to a text cannot fail
        out
    })
}

/// The score file: two decimals but for the largest error.
pub fn format_scores(s: &Scores<'_>) -> String {
    let mut scores = Map::new();
    let list = |x: &[f32]| Value::from(x.iter().map(|v| two(f64::from(*v))).collect::<Vec<f64>>());
    scores.insert("plddt".into(), list(s.plddt));
    if let Some(pae) = s.pae {
        let largest = pae.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.insert("max_pae".into(), json!(f64::from(largest)));
        scores.insert("pae".into(), pae.chunks(s.plddt.len().max(1)).map(list).collect());
        for (key, score) in [("ptm", s.ptm), ("iptm", s.iptm)] {
            scores.extend(score.map(|x| (key.into(), json!(two(f64::from(x))))));
        }
        for (k, (key, decimals)) in [("ipsae", 6), ("pdockq", 4), ("pdockq2", 4)].iter().enumerate() {
            let of = s.interfaces.iter().filter(|((a, b), _)| *key != "pdockq" || order(*a) < order(*b));
            let of: Map<String, Value> =
                of.map(|((a, b), x)| (format!("{a}-{b}"), json!(decimal(x[k], *decimals)))).collect();
            if !s.interfaces.is_empty() {
                scores.insert((*key).into(), of.into());
            }
        }
    }
    Value::from(scores).to_string()
}

/// The file of the aligned errors, from a score file: as Python's `json` writes it.
pub fn format_pae(scores: &Value) -> String {
    let list = |row: &Value| {
        let row: Vec<String> = row.as_array().into_iter().flatten().map(Value::to_string).collect();
        format!("[{}]", row.join(", "))
    };
    let rows: Vec<String> = scores["pae"].as_array().into_iter().flatten().map(list).collect();
    let (rows, largest) = (rows.join(", "), &scores["max_pae"]);
    format!("{{\"predicted_aligned_error\": [{rows}], \"max_predicted_aligned_error\": {largest}}}")
}

/// Chains are compared in the order A-Z, a-z, 0-9 of their ids.
fn order(chain: char) -> (bool, bool, char) {
    (chain.is_ascii_digit(), chain.is_ascii_lowercase(), chain)
}

/// As `numpy.around(x, 2)`.
fn two(x: f64) -> f64 {
    (x * 100.).round_ties_even() / 100.
}

/// As Python's `round`.
fn decimal(x: f64, decimals: usize) -> f64 {
    format!("{x:.decimals$}").parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_have_the_official_keys() {
        let between = [(('A', 'B'), [0.123_456_7, 0.02, 0.5]), (('B', 'A'), [0.1, 0.02, 0.25])];
        let scores = Scores {
            plddt: &[94.166, 100.],
            pae: Some(&[0.25, 31.755, 2.5, 0.75]),
            ptm: Some(0.567),
            iptm: Some(0.125),
            interfaces: &between,
        };
        let text = format_scores(&scores);
        let want = "{\"plddt\":[94.17,100.0],\"max_pae\":31.7549991607666,\"pae\":[[0.25,31.75],[2.5,0.75]],\"ptm\":0.57,\
                    \"iptm\":0.12,\"ipsae\":{\"A-B\":0.123457,\"B-A\":0.1},\"pdockq\":{\"A-B\":0.02},\
                    \"pdockq2\":{\"A-B\":0.5,\"B-A\":0.25}}";
        assert_eq!(text, want);
        let want = "{\"predicted_aligned_error\": [[0.25, 31.75], [2.5, 0.75]], \"max_predicted_aligned_error\": 31.7549991607666}";
        assert_eq!(format_pae(&serde_json::from_str(&text).unwrap()), want);
    }
}
