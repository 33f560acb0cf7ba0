//! What is wrong with a configuration, and where: every problem with file, line, column and key, all of them at once.
//!
//! What can be wrong is listed in `fault.rs`. Here is how it is placed, ordered and printed, and how the nearest known
//! word is found.

use std::fmt;

use super::fault::{Doubt, Fault};

/// Most problems reported at a time; after a hundred the reader has seen the pattern.
pub const PROBLEMS_MAX: usize = 100;

/// Where in a file, counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Something found in a configuration, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding<K> {
    /// The file, as it was named when it was read.
    pub file: String,
    /// Where in it; `None` when it is about the file as a whole.
    pub at: Option<Position>,
    /// Which key: `journal.commit_interval`, or `stream "press": reduce.window`. Empty at the top level.
    pub key: String,
    /// What was found.
    pub what: K,
}

/// Why a configuration is refused: one of possibly many reasons.
pub type Problem = Finding<Fault>;

/// Something that is allowed and probably not meant.
pub type Warning = Finding<Doubt>;

/// The configuration is refused. `Display` prints one line for each problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one, in the order of files and lines.
    pub problems: Vec<Problem>,
}

// === impl Finding ===

impl<K: fmt::Display> fmt::Display for Finding<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(at) = self.at {
            write!(f, ":{}", at.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

// === impl ConfigError ===

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let newline = if n == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The known word nearest to `word`, if one is near enough to be meant: a third of its letters may differ.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Words beyond this are not slips of the pen, and the distance takes time in proportion to their length.
    const WORD_CHARS_MAX: usize = 64;
    let letters: Vec<char> = word.chars().flat_map(char::to_lowercase).take(WORD_CHARS_MAX + 1).collect();
    if letters.len() > WORD_CHARS_MAX {
        return None;
    }
    let allowed = (letters.len() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (distance(&letters, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour to turn one word into the other (optimal string
/// alignment: swapped letters, the commonest slip, count once).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_the_one_that_was_meant() {
        // Goal: slips are recognised, other words are left alone. Method: slips of each kind against real keys.
        let known = ["topics", "time", "qos", "reduce", "payload_bytes_max", "full"];
        let guess = |word| nearest(word, known);
        assert_eq!(guess("topcis"), Some("topics"), "swapped");
        assert_eq!(guess("topic"), Some("topics"), "one missing");
        assert_eq!(guess("Topics"), Some("topics"), "case");
        assert_eq!(guess("ful"), Some("full"), "short");
        assert_eq!(guess("payload_max_bytes"), None, "too far");
        assert_eq!(guess("window"), None, "another word");
        assert_eq!(guess(""), None);
        assert_eq!(guess(&"t".repeat(10_000)), None);
    }

    #[test]
    fn distances_are_symmetric_and_count_edits() {
        // Goal: the distance is the one documented. Method: known pairs, both ways round.
        let chars = |w: &str| w.chars().collect::<Vec<_>>();
        for (a, b, edits) in
            [("", "", 0), ("", "abc", 3), ("ab", "ba", 1), ("kitten", "sitting", 3), ("a", "b", 1)]
        {
            assert_eq!(distance(&chars(a), &chars(b)), edits, "{a} {b}");
            assert_eq!(distance(&chars(b), &chars(a)), edits, "{b} {a}");
        }
    }
}
