//! The link to the lattice.

pub mod leaf_conf;
