//! The fault suite: real servers and services, broken on purpose; what was acknowledged must survive.

mod devices;

fn main() {}
