//! diskmap
