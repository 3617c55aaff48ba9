//! Bytes to plain structs and back; no chemistry, no tensors.
