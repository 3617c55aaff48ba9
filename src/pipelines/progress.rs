//! What a pipeline tells whoever watches it.

/// A pipeline's view of its watcher: a terminal, a log, a test.
pub trait Progress {
    /// The job has `total` units of work; units are chosen so that equal numbers take about equal time.
    fn begin(&mut self, total: u64);
    /// What is being done now.
    fn stage(&mut self, text: &str);
    /// `units` more are done.
    fn advance(&mut self, units: u64);
    /// Something the user should read, beside the bar.
    fn note(&mut self, text: &str);
    /// A result is complete: one JSON object.
    fn result(&mut self, record: &serde_json::Value);
}

/// Watches nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _total: u64) {}
    fn stage(&mut self, _text: &str) {}
    fn advance(&mut self, _units: u64) {}
    fn note(&mut self, _text: &str) {}
    fn result(&mut self, _record: &serde_json::Value) {}
}
