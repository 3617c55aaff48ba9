//! When a long run is to end before it is done: at a signal, or when its time is over.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Asked between two steps of a run.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    signal: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

/// Why a run ends before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT or SIGTERM.
    Signal,
    /// The time that it was given is over.
    Time,
}

impl Stop {
    /// Ends the run when `signal` is set, and after `time`.
    pub fn new(signal: Arc<AtomicBool>, time: Option<Duration>) -> Self {
        Self { signal, deadline: time.and_then(|time| Instant::now().checked_add(time)) }
    }

    /// Why the run is to end now, if it is.
    pub fn asked(&self) -> Option<Reason> {
        if self.signal.load(Ordering::Relaxed) {
            return Some(Reason::Signal);
        }
        self.deadline.filter(|deadline| Instant::now() >= *deadline).map(|_| Reason::Time)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Signal => "by a signal",
            Self::Time => "at the end of its time (--max-time)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_or_the_time_ends_a_run() {
        let signal = Arc::new(AtomicBool::new(false));
        let stop = Stop::new(signal.clone(), None);
        assert_eq!(stop.asked(), None);
        signal.store(true, Ordering::Relaxed);
        assert_eq!(stop.asked(), Some(Reason::Signal));
        assert_eq!(Stop::new(Arc::default(), Some(Duration::ZERO)).asked(), Some(Reason::Time));
        assert_eq!(Stop::new(Arc::default(), Some(Duration::from_secs(1000))).asked(), None);
    }
}
