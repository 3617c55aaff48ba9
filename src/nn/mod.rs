//! Layers that two or more models have.
