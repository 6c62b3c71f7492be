//! What the tests of the whole are made of.

pub mod chaos;
pub mod direct;
pub mod harness;
pub mod matrix;
