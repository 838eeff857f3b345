//! The bus: what every user may do on it is tried on real servers, and so is what must come of those who do more.

mod backpressure;
mod credentials;
mod dead_letters;
mod directory;
mod doctor;
mod forged;
mod lone;
mod matrix;
mod raw;
mod rebuild;
mod subscribers;
