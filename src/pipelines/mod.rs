//! A whole job: a plan in, files out.
