//! The transport under attack: what breaks its rules is refused or ends, and a well-behaved caller beside it never
//! notices.

mod connections;
mod crowd;
mod floods;
mod frames;
mod messages;
mod paths;
mod served;
mod shutdown;
mod streams;

/// How much of an attack runs: a tenth, to take seconds, or with `CATALYST_TEST_FULL=1` all of it.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests have no settings of their own"
)]
fn whole(count: usize) -> usize {
    if std::env::var("CATALYST_TEST_FULL").is_ok_and(|value| value == "1") {
        count
    } else {
        count / 10
    }
}

/// Tells a figure to the one who runs the tests with `--nocapture`.
#[expect(
    clippy::print_stderr,
    reason = "figures are for people, not for asserts"
)]
fn note(figure: &str) {
    eprintln!("{figure}");
}
