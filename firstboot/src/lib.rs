//! The job a machine finishes by itself after its first start.
