//! imagefmt
