//! What molecules are: alphabets, components, reference conformers.
pub mod atom_layout;
pub mod ccd;
pub mod conformer;
pub mod dictionary;
pub mod restype;
