//! The networks.
pub mod af2;
pub mod af3;
pub mod esm3;
pub mod openfold3;
pub mod protenix;
pub mod pxdesign;
pub mod triangles;
