//! Confidences as AlphaFold 3 writes them, with OpenFold3's further scores.
//!
//! `<x>_summary_confidences.json`: scores of the structure, its chains and pairs of chains. `<x>_confidences.json`: arrays
//! per atom and per pair of tokens, one a line. Numbers have as many decimals as mean something; NaN is `null`.
use std::fmt::Write;

/// What the arrays file holds, in AlphaFold 3's order; then OpenFold3's PDE.
#[derive(Debug, Clone, Copy)]
pub struct Confidences<'a> {
    /// `[n_atom]`.
    pub atom_chain_ids: &'a [&'a str],
    /// `[n_atom]` 0-100.
    pub atom_plddts: &'a [f32],
    /// `[n_token, n_token]` probability of a distance below 8 Å.
    pub contact_probs: &'a [f32],
    /// `[n_token, n_token]` in Å; row = token aligned on; of models that have it.
    pub pae: Option<&'a [f32]>,
    /// `[n_token]`.
    pub token_chain_ids: &'a [&'a str],
    /// `[n_token]`.
    pub token_res_ids: &'a [i32],
    /// `[n_token, n_token]` in Å; of models that have it.
    pub pde: Option<&'a [f32]>,
}

/// What the summary holds. `n` chains, in the order of `chain_ids`.
#[derive(Debug, Clone, Default)]
pub struct Summary<'a> {
    /// `[n]`.
    pub chain_ids: Vec<&'a str>,
    /// `[n]` mean ipTM with the other chains.
    pub chain_iptm: Vec<f32>,
    /// `[n, n]`; the diagonal is the chains' pTM.
    pub chain_pair_iptm: Vec<f32>,
    /// `[n, n]` in Å.
    pub chain_pair_pae_min: Vec<f32>,
    /// `[n]`.
    pub chain_ptm: Vec<f32>,
    /// 0-1.
    pub fraction_disordered: f32,
    /// Do chains overlap?
    pub has_clash: bool,
    /// 0-1.
    pub iptm: f32,
    /// 0-1.
    pub ptm: f32,
    /// What samples are ranked by.
    pub ranking_score: f32,
    /// 0-100.
    pub avg_plddt: f32,
    /// In Å.
    pub gpde: f32,
    /// `[n, n]`.
    pub bespoke_iptm: Vec<f32>,
    /// The model.
    pub model: &'a str,
    /// What the reader must know, such as that the model is untrained.
    pub warning: Option<String>,
}

/// What the summary of an AlphaFold2 prediction holds.
#[derive(Debug, Clone, Default)]
pub struct Af2Summary<'a> {
    /// `[n]`.
    pub chain_ids: Vec<&'a str>,
    /// `[n, n]` in Å; of models that have it.
    pub chain_pair_pae_min: Option<Vec<f32>>,
    /// `[n]` 0-100.
    pub chain_plddt: Vec<f32>,
    /// 0-1; of models that have it.
    pub iptm: Option<f32>,
    /// 0-1; of models that have it.
    pub ptm: Option<f32>,
    /// What predictions are ranked by.
    pub ranking_score: f32,
    /// 0-100.
    pub avg_plddt: f32,
    /// Passes after the first.
    pub n_recycles: usize,
    /// How far the last pass is from the one before, in Å; `None` of a single pass.
    pub change: Option<f32>,
    /// The model, such as `model_1_ptm`.
    pub model: &'a str,
}

/// Decimals of scores between 0 and 1, as OpenFold3 writes them.
const SCORE: u32 = 6;
/// Decimals of distances in Å and of pLDDT.
const VALUE: u32 = 2;

/// Formats the arrays file.
pub fn format_confidences(c: &Confidences<'_>) -> String {
    let n = c.token_res_ids.len();
    let mut out = String::with_capacity(16 * c.atom_plddts.len() + 16 * n * n);
    out += "{\n\"atom_chain_ids\": ";
    array(&mut out, c.atom_chain_ids, |out, id| *out += &string(id));
    out += ",\n\"atom_plddts\": ";
    numbers(&mut out, c.atom_plddts, VALUE);
    out += ",\n\"contact_probs\": ";
    matrix(&mut out, c.contact_probs, n, VALUE);
    if let Some(pae) = c.pae {
        out += ",\n\"pae\": ";
        matrix(&mut out, pae, n, VALUE);
    }
    out += ",\n\"token_chain_ids\": ";
    array(&mut out, c.token_chain_ids, |out, id| *out += &string(id));
    out += ",\n\"token_res_ids\": ";
    array(&mut out, c.token_res_ids, |out, id| {
        let _ = write!(out, "{id}"); // writing to a text cannot fail
    });
    if let Some(pde) = c.pde {
        out += ",\n\"pde\": ";
        matrix(&mut out, pde, n, VALUE);
    }
    out += "\n}\n";
    out
}

/// Formats the summary.
pub fn format_summary(s: &Summary<'_>) -> String {
    let n = s.chain_ids.len();
    let mut fields: Vec<(&str, String)> = Vec::new();
    let of = |write: &dyn Fn(&mut String)| {
        let mut out = String::new();
        write(&mut out);
        out
    };
    let score = |x: f32| of(&|out| number(out, x, SCORE));
    let scores = |x: &[f32]| of(&|out| numbers(out, x, SCORE));
    let pairs = |x: &[f32], decimals| of(&|out| matrix(out, x, n, decimals));
    fields.push(("chain_ids", of(&|out| array(out, &s.chain_ids, |out, id| *out += &string(id)))));
    fields.push(("chain_iptm", scores(&s.chain_iptm)));
    fields.push(("chain_pair_iptm", pairs(&s.chain_pair_iptm, SCORE)));
    fields.push(("chain_pair_pae_min", pairs(&s.chain_pair_pae_min, VALUE)));
    fields.push(("chain_ptm", scores(&s.chain_ptm)));
    fields.push(("fraction_disordered", score(s.fraction_disordered)));
    fields.push(("has_clash", score(f32::from(u8::from(s.has_clash)))));
    fields.push(("iptm", score(s.iptm)));
    fields.push(("ptm", score(s.ptm)));
    fields.push(("ranking_score", score(s.ranking_score)));
    fields.push(("avg_plddt", score(s.avg_plddt)));
    fields.push(("gpde", score(s.gpde)));
    fields.push(("bespoke_iptm", pairs(&s.bespoke_iptm, SCORE)));
    fields.push(("model", string(s.model)));
    if let Some(warning) = &s.warning {
        fields.push(("warning", string(warning)));
    }
    object(fields)
}

/// Formats the summary of an AlphaFold2 prediction.
pub fn format_af2_summary(s: &Af2Summary<'_>) -> String {
    let of = |write: &dyn Fn(&mut String)| {
        let mut out = String::new();
        write(&mut out);
        out
    };
    let score = |x: f32| of(&|out| number(out, x, SCORE));
    let mut fields = vec![("chain_ids", of(&|out| array(out, &s.chain_ids, |out, id| *out += &string(id))))];
    if let Some(pae) = &s.chain_pair_pae_min {
        fields.push(("chain_pair_pae_min", of(&|out| matrix(out, pae, s.chain_ids.len(), VALUE))));
    }
    fields.push(("chain_plddt", of(&|out| numbers(out, &s.chain_plddt, VALUE))));
    fields.extend([("iptm", s.iptm), ("ptm", s.ptm)].into_iter().filter_map(|(key, x)| Some((key, score(x?)))));
    fields.push(("ranking_score", score(s.ranking_score)));
    fields.push(("avg_plddt", score(s.avg_plddt)));
    fields.push(("n_recycles", s.n_recycles.to_string()));
    fields.extend(s.change.map(|change| ("recycle_change", score(change))));
    fields.push(("model", string(s.model)));
    object(fields)
}

fn object(fields: Vec<(&str, String)>) -> String {
    let lines: Vec<_> = fields.into_iter().map(|(key, value)| format!(" \"{key}\": {value}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn array<T: Copy>(out: &mut String, items: &[T], write: impl Fn(&mut String, T)) {
    out.push('[');
    for (i, &item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

fn numbers(out: &mut String, values: &[f32], decimals: u32) {
    array(out, values, |out, x| number(out, x, decimals));
}

/// Rows of `n`.
fn matrix(out: &mut String, values: &[f32], n: usize, decimals: u32) {
    let rows: Vec<&[f32]> = values.chunks(n.max(1)).collect();
    array(out, &rows, |out, row| numbers(out, row, decimals));
}

/// Rounded to at most this many decimals, without zeros at the end; `null` if not finite.
fn number(out: &mut String, x: f32, decimals: u32) {
    let scale = 10i64.pow(decimals);
    let scaled = (f64::from(x) * scale as f64).round();
    if !scaled.is_finite() || scaled.abs() > 9e15 {
        *out += "null";
        return;
    }
    let scaled = scaled as i64;
    let (whole, part) = (scaled.abs() / scale, scaled.abs() % scale);
    let sign = if scaled < 0 { "-" } else { "" };
    let _ = write!(out, "{sign}{whole}"); // writing to a text cannot fail
    if part > 0 {
        let digits = format!("{part:0width$}", width = decimals as usize);
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let of = |x, decimals| {
            let mut out = String::new();
            number(&mut out, x, decimals);
            out
        };
        for (x, decimals, want) in [
            (0.0, 2, "0"),
            (-0.0, 2, "0"),
            (-0.004, 2, "0"),
            (31.75, 2, "31.75"),
            (0.1, 6, "0.1"),
            (1.005, 6, "1.005"),
            (-99.27806, 6, "-99.278061"),
            (100.0, 2, "100"),
            (0.02, 2, "0.02"),
            (f32::NAN, 2, "null"),
            (f32::INFINITY, 2, "null"),
        ] {
            assert_eq!(of(x, decimals), want);
        }
    }

    #[test]
    fn files_are_json() {
        let text = format_confidences(&Confidences {
            atom_chain_ids: &["A", "A", "\"B"],
            atom_plddts: &[50.126, 1.0, f32::NAN],
            contact_probs: &[0.0, 0.5, 0.5, 1.0],
            pae: Some(&[0.25, 31.0, 7.125, 0.25]),
            token_chain_ids: &["A", "\"B"],
            token_res_ids: &[1, 1],
            pde: Some(&[0.0; 4]),
        });
        assert_eq!(text.lines().count(), 9);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["atom_plddts"].to_string(), "[50.13,1,null]");
        assert_eq!(json["pae"].to_string(), "[[0.25,31],[7.13,0.25]]");
        assert_eq!(json["token_chain_ids"][1], "\"B");
        let summary = Summary {
            chain_ids: vec!["A", "B"],
            chain_pair_iptm: vec![0.5, 0.25, 0.25, 0.5],
            fraction_disordered: f32::NAN,
            has_clash: true,
            warning: Some("untrained".to_owned()),
            ..Summary::default()
        };
        let json: serde_json::Value = serde_json::from_str(&format_summary(&summary)).unwrap();
        assert_eq!(json["chain_pair_iptm"].to_string(), "[[0.5,0.25],[0.25,0.5]]");
        assert!(json["fraction_disordered"].is_null() && json["has_clash"] == 1 && json["warning"] == "untrained");
    }
}
