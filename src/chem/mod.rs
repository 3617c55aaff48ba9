//! What molecules are: alphabets, components, reference conformers.
pub mod ccd;
pub mod conformer;
pub mod restype;
