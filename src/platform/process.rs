//! What a process costs: memory and descriptors, as the kernel counts them. Owns nothing, keeps nothing.

use std::path::PathBuf;

/// Why the kernel's figures are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// No such process, or not ours to look at, or a kernel without this file (older than 4.14).
    #[error("{path} cannot be read")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file does not say it.
    #[error("{path} has no line with the proportional set size")]
    NoPss {
        /// Which file.
        path: PathBuf,
    },
}

/// Proportional set size of this process in bytes: its own memory, and its share of what it has in common with others.
pub fn pss_bytes() -> Result<u64, ProcessError> {
    pss_bytes_in(PathBuf::from("/proc/self/smaps_rollup"))
}

/// Proportional set size of another process of the same user.
pub fn pss_bytes_of(pid: u32) -> Result<u64, ProcessError> {
    pss_bytes_in(PathBuf::from(format!("/proc/{pid}/smaps_rollup")))
}

/// Descriptors that this process has open.
pub fn open_fds() -> Result<usize, ProcessError> {
    let path = PathBuf::from("/proc/self/fd");
    match std::fs::read_dir(&path) {
        // One of them is the directory that is being read.
        Ok(entries) => Ok(entries.count().saturating_sub(1)),
        Err(source) => Err(ProcessError::Read { path, source }),
    }
}

fn pss_bytes_in(path: PathBuf) -> Result<u64, ProcessError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => pss_line(&text).ok_or(ProcessError::NoPss { path }),
        Err(source) => Err(ProcessError::Read { path, source }),
    }
}

/// `Pss:     1234 kB`, among others that begin alike.
fn pss_line(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_among_its_neighbours() {
        // Goal: the right line and unit. Method: a text as the kernel writes it, and texts without the line.
        let text =
            "5577-7ffe ---p 0 00:00 0 [rollup]\nRss: 900 kB\nPss:                 812 kB\nPss_Dirty: 9 kB\n";
        assert_eq!(pss_line(text), Some(812 * 1_024));
        assert_eq!(pss_line("Rss: 900 kB\nPss_Dirty: 9 kB\n"), None);
        assert_eq!(pss_line("Pss: many kB\n"), None);
    }

    #[test]
    fn memory_that_is_used_and_files_that_are_open_count() {
        // Goal: the figures are of this process. Method: touch 32 MiB and open twenty files, and look. Other tests run in
        // the same process and give memory back, so that only what is held here is sure.
        let touched = std::hint::black_box(vec![1_u8; 32 << 20]);
        let after = pss_bytes_of(std::process::id()).unwrap();
        assert!(after.min(pss_bytes().unwrap()) > 32 << 20, "{after}");
        drop(touched);
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        assert!(open_fds().unwrap() >= files.len() + 3);
    }
}
