//! A sound component for another world: a command, which exports `wasi:cli/run` and no processor.

fn main() {
    println!("nobody calls me");
}
