//! Working memory of the kernels: kept by each thread, so that an operation costs no page faults when it runs again.
use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(vec![]) };
}

/// What a thread keeps at most; larger arrays are freed after use.
const KEEP_LINES: usize = (256 << 20) / size_of::<Line>();

/// Frees what this thread has kept: for the end of a stage whose large arrays the next one does not need.
pub fn release() {
    KEPT.with_borrow_mut(Vec::clear);
}

/// A cache line of values.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through the slice of f32")] [f32; 16]);

/// An array of f32 with old values in it, on a cache line; back to the thread when dropped.
pub struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    /// At least `len` values.
    pub fn new(len: usize) -> Self {
        let need = len.div_ceil(16);
        let mut lines = KEPT.with_borrow_mut(|kept| {
            // The smallest that is large enough, else the largest.
            let fits = (0..kept.len()).filter(|&i| kept[i].len() >= need).min_by_key(|&i| kept[i].len());
            let best = fits.or_else(|| (0..kept.len()).max_by_key(|&i| kept[i].len()));
            best.map(|i| kept.swap_remove(i)).unwrap_or_default()
        });
        if lines.len() < need {
            drop(lines); // never both
            lines = zeros(need);
        }
        Self { lines, len }
    }
}

/// `n` lines of zeros; large ones are not touched, since the system hands out zeros.
fn zeros(n: usize) -> Vec<Line> {
    let layout = Layout::array::<Line>(n).expect("an array that fits the address space");
    if layout.size() == 0 {
        return vec![];
    }
    // SAFETY: of the layout of `n` lines, not empty; zeros are values of f32.
    unsafe {
        let start = alloc_zeroed(layout);
        if start.is_null() {
            handle_alloc_error(layout)
        }
        Vec::from_raw_parts(start.cast(), n, n)
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` f32, all initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        if lines.len() <= KEEP_LINES {
            // A thread that is ending keeps nothing.
            let _ = KEPT.try_with(|kept| kept.borrow_mut().push(lines));
        }
    }
}

/// An array that tasks write to at places that do not overlap.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    start: *mut f32,
    len: usize,
    array: PhantomData<&'a mut [f32]>,
}

// SAFETY: access goes through `unsafe` functions whose callers keep the tasks apart.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Shares `array` while this value and its copies live.
    pub fn new(array: &'a mut [f32]) -> Self {
        Self { start: array.as_mut_ptr(), len: array.len(), array: PhantomData }
    }

    /// Shares `array` for reading only: whoever gets this value may not write through it.
    pub(super) fn read_only(array: &'a [f32]) -> Self {
        Self { start: array.as_ptr().cast_mut(), len: array.len(), array: PhantomData }
    }

    /// The `len` values from `start` on, to be read.
    ///
    /// # Safety
    ///
    /// Nothing writes these values while the slice lives.
    pub unsafe fn read(self, start: usize, len: usize) -> &'a [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a part of an array that is not in it");
        // SAFETY: inside the array, and nobody writes there.
        unsafe { std::slice::from_raw_parts(self.start.add(start), len) }
    }

    /// The `len` values from `start` on.
    ///
    /// # Safety
    ///
    /// Nothing else reads or writes these values while the slice lives.
    pub unsafe fn part(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "a part of an array that is not in it");
        // SAFETY: inside the array, and the caller has it for itself.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }

    /// The values from `start` to the end of the `rows`-th stretch of `len`, stretches `step` apart; as a pointer, because
    /// what lies between them may be another task's.
    pub fn rows(self, start: usize, rows: usize, step: usize, len: usize) -> *mut f32 {
        assert!(rows == 0 || start + (rows - 1) * step + len <= self.len, "rows of an array that are not in it");
        // SAFETY: inside the array.
        unsafe { self.start.add(start) }
    }
}
