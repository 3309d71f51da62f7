//! The "newc" archive that the kernel unpacks as its first file system.

use std::collections::BTreeSet;
use std::io::Write;

use cpio::newc::{self, ModeFileType};

use crate::error::{Error, Result};

/// An archive to which files are added one by one.
#[derive(Debug, Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    dirs: BTreeSet<String>,
}

impl Cpio {
    /// Adds a directory and its parents.
    pub fn dir(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.dirs.insert(path.to_owned()) {
            return Ok(());
        }
        self.entry(path, ModeFileType::Directory, 0o755, &[])
    }

    /// Adds a file with these permissions.
    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, ModeFileType::Regular, permissions, content)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.entry(path, ModeFileType::Symlink, 0o777, target.as_bytes())
    }

    /// Returns the whole archive.
    pub fn finish(self) -> Result<Vec<u8>> {
        Ok(newc::trailer(self.bytes)?)
    }

    fn entry(&mut self, path: &str, kind: ModeFileType, mode: u32, content: &[u8]) -> Result<()> {
        let path = path.trim_start_matches('/');
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.dir(parent)?;
        }
        let size = u32::try_from(content.len())
            .map_err(|_| Error::other(format!("{path} is too large for the first file system")))?;
        let entry = newc::Builder::new(path).mode(mode).set_mode_file_type(kind);
        let mut writer = entry.write(&mut self.bytes, size);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Cpio;

    #[test]
    fn parents_come_first_and_once() {
        let mut cpio = Cpio::default();
        cpio.file("a/b/c", 0o755, b"hello").unwrap();
        cpio.file("a/b/d", 0o644, b"").unwrap();
        let bytes = cpio.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(name).unwrap_or(usize::MAX);
        assert!(at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"));
        assert_eq!(text.matches("a/b\0").count(), 1);
    }
}
