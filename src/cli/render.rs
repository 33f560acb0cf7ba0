//! What people see of bytes and buffers.

use serde_json::Value as Json;

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// One output of `frond buffer peek`.
pub fn output(output: &Json) -> String {
    let mut text = format!(
        "{} {} of stream {}, {} bytes\n",
        output["lane"].as_str().unwrap_or("?"),
        output["seq"],
        output["stream"].as_str().unwrap_or("?"),
        output["bytes"]
    );
    for row in output["rows"].as_array().into_iter().flatten() {
        text.push_str(&format!("  {row}\n"));
    }
    text
}
