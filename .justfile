# The system on this machine: real PostgreSQL and NATS, nothing to install.
up:
    cargo run -- up

# The fast loop.
check:
    cargo check --workspace --all-targets

# What the compiler does not say.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    $(.ci/tools)/bin/buf lint proto
    $(.ci/tools)/bin/buf format --diff --exit-code proto

# Everything, or the tests whose names hold a word: `just test isolation`.
test *words:
    cargo test --workspace --locked {{ words }}

# Load and ratios; the figures are printed with the machine's size.
bench *options:
    cargo run --release --package catalyst-tests --bin bench -- {{ options }}

# Controls broken one at a time: which tests notice? All, or those whose names hold a word: `just mutants policy`.
mutants *options:
    cargo run --package catalyst-tests --bin mutants -- run {{ options }}

# The alert rules of Prometheus, tried on series made for each of them.
alert-rules:
    $(.ci/promtool) test rules deploy/observability/alerts.test.yaml

# Faults at every moment: all of them, many times, or those whose names are given: `just faults F4 --runs 3`.
faults *options:
    cargo run --package catalyst-tests --bin faults -- run {{ options }}

# A random schedule of faults for so many minutes.
faults-random minutes:
    cargo run --package catalyst-tests --bin faults -- random --minutes {{ minutes }}

# What a submission must pass.
ci:
    .ci/run
