target := env("CARGO_TARGET_DIR", justfile_directory() / "target")

# Builds the components, and the guests for tests, for wasm32-wasip2.
guests:
    cd components && cargo build --locked --release --target wasm32-wasip2 --target-dir "{{ target }}/guests"
    cd tests/guests && cargo build --locked --release --target wasm32-wasip2 --target-dir "{{ target }}/guests"

# Tests the parts of the components that need no gateway.
test-guests:
    cd components && cargo test --locked --target-dir "{{ target }}/guests"
