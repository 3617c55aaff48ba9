//! What molecules are: alphabets, components, reference conformers.
