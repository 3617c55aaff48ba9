//! How much memory the program's own values take: an allocator that counts. What is mapped from a file (weights) is not in it.
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of the bytes that are held and of the most that were. The crates that count reset
/// no peak, or copy at every reallocation.
#[derive(Debug)]
pub struct Counting;

/// Bytes held now; 0 in a program that does not allocate by [`Counting`].
pub fn held() -> usize {
    HELD.load(Relaxed)
}

/// The most bytes held since the last call, and counts anew from what is held now.
pub fn take_peak() -> usize {
    PEAK.swap(held(), Relaxed)
}

fn grown(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed) + bytes;
    // Nearly always false, and a read is cheaper than a maximum that all threads write.
    if held > PEAK.load(Relaxed) {
        PEAK.fetch_max(held, Relaxed);
    }
}

// SAFETY: every call is the system allocator's own; counting touches no memory it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let place = unsafe { System.alloc(layout) };
        if !place.is_null() {
            grown(layout.size());
        }
        place
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let place = unsafe { System.alloc_zeroed(layout) };
        if !place.is_null() {
            grown(layout.size());
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) };
        HELD.fetch_sub(layout.size(), Relaxed);
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let moved = unsafe { System.realloc(place, layout, size) };
        if !moved.is_null() {
            // A block that moves is there twice for a moment.
            let also = if moved == place { size.saturating_sub(layout.size()) } else { size };
            grown(also);
            HELD.fetch_sub(layout.size() + also - size, Relaxed);
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_held_and_the_most() {
        let layout = Layout::from_size_align(1000, 8).expect("a layout");
        let larger = Layout::from_size_align(3000, 8).expect("a layout");
        let before = held();
        // SAFETY: one block, of the layouts that it has at each call.
        unsafe {
            let place = Counting.alloc(layout);
            assert_eq!(held(), before + 1000);
            let place = Counting.realloc(place, layout, 3000);
            assert_eq!(held(), before + 3000);
            Counting.dealloc(place, larger);
        }
        assert_eq!(held(), before);
        assert!(take_peak() >= before + 3000);
        assert_eq!(take_peak(), before);
    }
}
