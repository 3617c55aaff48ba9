//! One function per fused operation.
