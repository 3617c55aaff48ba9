//! The networks.
pub mod af3;
pub mod openfold3;
