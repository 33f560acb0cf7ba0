//! Strangers' names as names of files, and back. Pure.
//!
//! Lower-case letters, digits, `_`, `-` and `.` stand for themselves, `+x` for the capital X, `%2f` for any other byte,
//! and so does a dot in front. What gets too long that way is written in base 32 behind a `=` instead. A name has exactly
//! one form, no form has a capital, a slash or a zero in it, and none is `.`, `..` or begins with `~`, which is kept for
//! files that are being written. Two names never meet in one file, whatever the file system thinks of capitals.

use data_encoding::BASE32_DNSSEC as BASE32;

/// Longest name of a container or object: 241 bytes in base 32, and a file's name may have 255.
pub const NAME_BYTES_MAX: usize = 150;

/// Longest form that is read by people; beyond it base 32 is shorter.
const READABLE_BYTES_MAX: usize = 240;

/// The name of the file.
pub(super) fn encode(name: &str) -> String {
    let mut readable = String::with_capacity(name.len());
    for (n, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if n == 0 => readable.push_str("%2e"),
            b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => readable.push(char::from(byte)),
            b'A'..=b'Z' => {
                readable.push('+');
                readable.push(char::from(byte.to_ascii_lowercase()));
            }
            byte => readable.push_str(&format!("%{byte:02x}")),
        }
    }
    match readable.len() <= READABLE_BYTES_MAX {
        true => readable,
        false => format!("={}", BASE32.encode(name.as_bytes())),
    }
}

/// The name that a file stands for; `None` for a file that no name encodes to.
pub(super) fn decode(file: &str) -> Option<String> {
    let bytes = match file.strip_prefix('=') {
        Some(coded) => BASE32.decode(coded.as_bytes()).ok()?,
        None => decode_readable(file.as_bytes())?,
    };
    let name = String::from_utf8(bytes).ok()?;
    (is_name(&name) && encode(&name) == file).then_some(name)
}

/// Whether it may be the name of something.
pub(super) fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}

fn decode_readable(mut file: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(file.len());
    while let Some((first, rest)) = file.split_first() {
        let taken = match first {
            b'+' => {
                name.push(rest.first()?.to_ascii_uppercase());
                1
            }
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                name.push(u8::from_str_radix(digits, 16).ok()?);
                2
            }
            byte => {
                name.push(*byte);
                0
            }
        };
        file = &rest[taken..];
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_attack_become_names_of_files() {
        // Goal: no form leaves its folder, is hidden, or is taken for a file being written. Method: a table.
        for (name, file) in [
            ("photo-1.jpg", "photo-1.jpg"),
            ("IMG_1.JPG", "+i+m+g_1.+j+p+g"),
            (".", "%2e"),
            ("..", "%2e."),
            ("../x", "%2e.%2fx"),
            ("a/b", "a%2fb"),
            ("a\0b", "a%00b"),
            ("~1", "%7e1"),
            ("=x", "%3dx"),
            ("%2e", "%252e"),
            ("+a", "%2ba"),
            ("\u{e4}", "%c3%a4"),
        ] {
            assert_eq!(encode(name), file);
            assert_eq!(decode(file).as_deref(), Some(name));
        }
        let long = "\u{e4}".repeat(75);
        assert!(encode(&long).starts_with('=') && encode(&long).len() == 241);
        assert_eq!(decode(&encode(&long)), Some(long));
        assert!(
            !is_name("") && !is_name(&"x".repeat(NAME_BYTES_MAX + 1)) && is_name(&"x".repeat(NAME_BYTES_MAX))
        );
        for file in ["", "~1", "A", "a%", "a%2", "a%2G", "a%41", "+", ".x", "=", "=a", "%2E", "%ff"] {
            assert_eq!(decode(file), None, "{file}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_name_has_one_file_and_every_file_one_name(
            name in "\\PC{1,37}|[./~=+%A-Za-z\\x00]{1,150}",
            other in "[./~=+%Aa]{1,4}|\\PC{1,8}",
        ) {
            // Goal: both ways for any text, and nothing that a file system could misread. Method: arbitrary names.
            let file = encode(&name);
            prop_assert!(file.len() <= 255 && !file.starts_with(['.', '~']));
            prop_assert!(file.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && !byte.is_ascii_uppercase()));
            if is_name(&name) {
                prop_assert_eq!(decode(&file), Some(name.clone()));
            }
            prop_assert_eq!(file == encode(&other), name == other);
            if let Some(decoded) = decode(&other) {
                prop_assert_eq!(encode(&decoded), other);
            }
        }
    }
}
