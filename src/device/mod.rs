//! Where the program computes and how much memory there is.
