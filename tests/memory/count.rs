//! An allocator that counts the large arrays of the process by the size of the buffer that each would be.
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use fold::ops::metal::buffer_bytes;

/// Smaller arrays are not counted: they are indices, parameters and what the runtime needs.
const LEAST: usize = 32 << 10;

/// For each power of two, buffers of this size at the moment and the most so far.
static LIVE: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];
static MOST: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn class(size: usize) -> usize {
    buffer_bytes(size as u64).trailing_zeros() as usize
}

// SAFETY: every request goes to the system's allocator as it came; only numbers are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= LEAST {
            let class = class(layout.size());
            let live = LIVE[class].fetch_add(1, Ordering::Relaxed) + 1;
            MOST[class].fetch_max(live, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the one needed here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if layout.size() >= LEAST {
            LIVE[class(layout.size())].fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise is the one needed here.
        unsafe { System.dealloc(start, layout) }
    }
}

static BEFORE: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

/// Bytes of so many buffers of each size.
fn bytes(buffers: &[AtomicU64]) -> u64 {
    buffers.iter().enumerate().map(|(i, n)| n.load(Ordering::Relaxed) << i).sum()
}

/// Counts from now on.
pub fn start() {
    settle();
    BEFORE.store(bytes(&LIVE), Ordering::Relaxed);
    PEAK.store(0, Ordering::Relaxed);
}

/// The pool gives back what is free.
pub fn settle() {
    PEAK.fetch_max(bytes(&MOST), Ordering::Relaxed);
    MOST.iter().zip(&LIVE).for_each(|(most, live)| most.store(live.load(Ordering::Relaxed), Ordering::Relaxed));
}

/// Most bytes of arrays and pool since the start, beyond the arrays that there were.
pub fn held() -> u64 {
    settle();
    PEAK.load(Ordering::Relaxed).saturating_sub(BEFORE.load(Ordering::Relaxed))
}
