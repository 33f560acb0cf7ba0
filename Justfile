# `just` lists the recipes. CI runs `ci`, the same commands as here.

export CARGO_TARGET_DIR := env("CARGO_TARGET_DIR", justfile_directory() / "target")
export PATH := CARGO_TARGET_DIR / "tools/bin" + ":" + env("PATH") + ":/usr/sbin"
guests := CARGO_TARGET_DIR / "guests"

_list:
    @just --list --unsorted

# A gateway, a leaf node and a hub on this machine, for a minute, with a cut link and a killed gateway; --broker for the other door
demo *ARGS: (_deps "demo") guests
    cargo build --locked --release
    "$CARGO_TARGET_DIR/release/frond" demo --component "{{ guests }}/wasm32-wasip2/release/limits.wasm" {{ ARGS }}

# All tests; without a filter also those of `test-lattice`
test *ARGS: (_deps "test") guests
    cd components && cargo test --locked --target-dir "{{ guests }}"
    cargo test --locked {{ ARGS }}
    {{ if ARGS == "" { "just test-lattice" } else { "" } }}

# Those with wasmCloud's own client and wadm; needs the program and the guests that `just test` builds
test-lattice *ARGS:
    cd tests/lattice && FROND="${FROND:-$CARGO_TARGET_DIR/debug/frond}" cargo test --locked --target-dir "$CARGO_TARGET_DIR/lattice" {{ ARGS }}

# Format, lints, licences and sources
check: (_deps "check")
    cargo fmt --check
    cargo clippy --locked --all-targets -- -D warnings
    cd components && cargo fmt --check && cargo clippy --locked --all-targets --target-dir "{{ guests }}" -- -D warnings
    cd tests/lattice && cargo fmt --check && cargo clippy --locked --all-targets --target-dir "$CARGO_TARGET_DIR/lattice" -- -D warnings
    cargo deny --locked check bans licenses sources

# Known vulnerabilities of the dependencies; needs the advisory database from the network
advisories: (_deps "check")
    cargo deny --locked check advisories

# The components, and the misbehaving ones of the tests
guests: (_deps "demo")
    cd components && cargo build --locked --release --target wasm32-wasip2 --target-dir "{{ guests }}"
    cd tests/guests && cargo build --locked --release --target wasm32-wasip2 --target-dir "{{ guests }}"

# Components in C and JavaScript, built and run over a recording; says which of their tools is missing. Not part of CI
examples *NAMES: (_deps "demo")
    cargo build --locked --release
    components/examples/run "$CARGO_TARGET_DIR/release/frond" {{ NAMES }}

# Kills the gateway ROUNDS times at random and at every fault point, and compares what was sent with what arrived
crash ROUNDS="300": (_deps "test") guests
    FROND_CRASH_ROUNDS={{ ROUNDS }} cargo test --locked --test it -- crash --nocapture

# Runs Eclipse Paho's interoperability tests (a checkout of paho.mqtt.testing) against the listener of a started gateway
conformance CHECKOUT HOST="127.0.0.1" PORT="1883" *TESTS:
    python3 tests/conformance/run.py "{{ CHECKOUT }}/interoperability" {{ HOST }} {{ PORT }} {{ TESTS }}

# What is measured, each beside its peer; prints tables
bench *NAMES: (_deps "test") guests
    cargo bench --locked {{ if NAMES == "" { "" } else { "--bench " + replace(NAMES, " ", " --bench ") } }}

# Fuzzes one target (block_decode, payload_decode, topic_match; listener_packets builds without the host) for SECONDS; needs cargo-fuzz
fuzz TARGET SECONDS="60":
    cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run {{ if TARGET == "listener_packets" { "--no-default-features" } else { "" } }} --target-dir "$CARGO_TARGET_DIR/fuzz" {{ TARGET }} -- -max_total_time={{ SECONDS }}

# The image for a card and the update bundle, into the target folder's `image`
image *ARGS: (_deps "image")
    image/build {{ ARGS }}

# Boots the image with a console and says what to type next; `--help` says what else
qemu *ARGS: (_deps "image")
    qemu/boot {{ ARGS }}

# Boots the image through every scenario, headless; names run only those
test-image *NAMES: (_deps "image")
    image/build --quick --follow --twice
    qemu/run {{ NAMES }}

# What CI runs
ci: check test test-image

_deps WANT:
    @.ci/deps {{ WANT }}
