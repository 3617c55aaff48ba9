//! What was asked: plain data and its dialects.
