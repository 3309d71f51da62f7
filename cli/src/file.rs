//! Writes files that others read.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Replaces a file, as [`Destination`] does. All users can read a new one, whatever the umask.
///
/// # Errors
///
/// The error of the system.
pub fn replace(file: &Path, text: &str) -> io::Result<()> {
    let mut to = Destination::of(file)?;
    if let Kind::New { mode } = &mut to.kind {
        *mode = Some(0o644);
    }
    to.write(text.as_bytes())
}

/// A file that is replaced as a whole, so that its readers see the old content or the new one; or a
/// device or a pipe, which is written to.
pub struct Destination {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    /// No file yet. Without a mode, it gets that of the umask.
    New { mode: Option<u32> },
    /// A file, which keeps its permissions.
    File(Permissions),
    /// A device or a pipe, which a file must not replace.
    Stream,
}

impl Destination {
    /// Finds out what `path` is. What a link leads to is replaced, not the link.
    ///
    /// # Errors
    ///
    /// If it is a directory or a link that leads nowhere, or if no file can be made beside it.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (path, kind) = match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if there.is_file() => {
                let mode = there.permissions().mode() & 0o777;
                (std::fs::canonicalize(path)?, Kind::File(Permissions::from_mode(mode)))
            }
            Ok(_) => (path.to_owned(), Kind::Stream),
            // A link that leads nowhere stays what it is.
            Err(error) if error.kind() != io::ErrorKind::NotFound || path.is_symlink() => {
                return Err(error);
            }
            Err(_) => (path.to_owned(), Kind::New { mode: None }),
        };
        let found = Self { path, kind };
        if !matches!(found.kind, Kind::Stream) {
            drop(found.temporary()?);
        }
        Ok(found)
    }

    /// Writes the content. A file stays as it is if that fails.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub fn write(&self, content: &[u8]) -> io::Result<()> {
        if let Kind::Stream = self.kind {
            return OpenOptions::new().write(true).open(&self.path)?.write_all(content);
        }
        let mut new = self.temporary()?;
        new.write_all(content)?;
        new.as_file().sync_all()?;
        new.persist(&self.path)?;
        Ok(())
    }

    /// Makes a file beside the destination, which is removed when it is dropped.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        // The umask reduces the creation's mode. No other user may open what is private.
        let (first, then) = match &self.kind {
            Kind::New { mode: None } | Kind::Stream => (0o666, None),
            Kind::New { mode: Some(mode) } => (0o600, Some(Permissions::from_mode(*mode))),
            Kind::File(permissions) => (0o600, Some(permissions.clone())),
        };
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(first))
            .tempfile_in(directory.unwrap_or(Path::new(".")))?;
        then.map_or(Ok(()), |permissions| file.as_file().set_permissions(permissions))?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::replace;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    #[test]
    fn a_file_is_replaced_and_a_device_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        replace(&file, "old").unwrap();
        assert_eq!(mode(), 0o644);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();
        replace(&link, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(mode(), 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        replace(Path::new("/dev/null"), "text").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(replace(dir.path(), "text").is_err(), "a directory");
        symlink("nowhere", dir.path().join("loose")).unwrap();
        assert!(replace(&dir.path().join("loose"), "text").is_err());
        assert!(!dir.path().join("nowhere").exists());
    }
}
