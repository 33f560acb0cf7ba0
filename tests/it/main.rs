//! it

mod codec;
mod compat;
