//! it

mod config_files;
