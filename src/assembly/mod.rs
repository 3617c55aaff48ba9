//! A query with its chemistry looked up.
