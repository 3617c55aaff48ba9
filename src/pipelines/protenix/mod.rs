//! Protenix as a whole job: the second filter of designed binders.
pub mod filter;
