//! The terminal side of a pipeline: a bar on stderr, or a plain line now and then where stderr is no terminal; results as
//! JSON lines on stdout if asked for.
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::pipelines::progress::Progress;
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

/// Between two plain lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Shows a pipeline on the terminal.
pub struct Terminal {
    bar: Option<ProgressBar>,
    json: bool,
    stage: String,
    done: u64,
    total: u64,
    started: Instant,
    shown: Option<Instant>,
}

impl Terminal {
    /// With `json`, each result is a line on stdout.
    pub fn new(json: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(1);
            let style = "{bar:30} {percent:>3}%  {msg}  elapsed {elapsed}  left {eta}";
            bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self { bar, json, stage: String::new(), done: 0, total: 1, started: Instant::now(), shown: None }
    }

    /// Takes the bar away; what it said stays as plain lines.
    pub fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn plain_line(&mut self) {
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= INTERVAL);
        if self.bar.is_some() || !due || self.stage.is_empty() {
            return;
        }
        self.shown = Some(Instant::now());
        let share = self.done as f64 / self.total.max(1) as f64;
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = if share > 0.01 { format!(", {:.0} s left", elapsed * (1.0 / share - 1.0)) } else { String::new() };
        eprintln!("fold: {:.0} % {} ({elapsed:.0} s{left})", 100.0 * share, self.stage);
    }
}

impl Progress for Terminal {
    fn begin(&mut self, total: u64) {
        (self.total, self.done, self.started) = (total.max(1), 0, Instant::now());
        if let Some(bar) = &self.bar {
            bar.set_length(self.total);
            bar.reset();
        }
    }

    fn stage(&mut self, text: &str) {
        self.stage = text.to_owned();
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
        self.plain_line();
    }

    fn advance(&mut self, units: u64) {
        self.done += units;
        if let Some(bar) = &self.bar {
            bar.inc(units);
        }
        self.plain_line();
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("fold: {text}")),
            None => eprintln!("fold: {text}"),
        }
    }

    fn result(&mut self, record: &serde_json::Value) {
        if self.json {
            // A reader that has gone away wants no more lines; the files are written all the same.
            let _ = writeln!(std::io::stdout(), "{record}");
        }
    }
}

/// An error and its causes on one line, without saying twice what a cause repeats.
pub fn chain(error: &anyhow::Error) -> String {
    chain_of(error.as_ref())
}

/// The same of an error that is not wrapped.
pub fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// To stdout; a reader that has gone away (`| head`) is no fault.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("standard output"),
        _ => Ok(()),
    }
}
