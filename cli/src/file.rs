//! Writes files that others read.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Replaces a file, whose readers see the old text or the new one, or leaves it as it is. A device or
/// a pipe is written to.
///
/// # Errors
///
/// The error of the system.
pub fn replace(file: &Path, text: &str) -> io::Result<()> {
    if std::fs::metadata(file).is_ok_and(|known| !known.is_file()) {
        return std::fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes());
    }
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut new = tempfile::Builder::new().tempfile_in(directory.unwrap_or(Path::new(".")))?;
    // The creation's mode would be reduced by the umask, and others read the file.
    new.as_file().set_permissions(PermissionsExt::from_mode(0o644))?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::replace;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn a_file_is_replaced_and_a_device_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "old").unwrap();
        replace(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        replace(Path::new("/dev/null"), "text").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(replace(dir.path(), "text").is_err(), "a directory");
    }
}
