//! catalyst

pub mod stack;
pub mod import;
