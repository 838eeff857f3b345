//! catalyst
fn main() {}
