//! Errors, reported once and in one form.

use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::io;

/// A failure: one sentence that says what is wrong, and one that says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Error {
    /// What is wrong.
    #[serde(rename = "error")]
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// The obstacles, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// The reader of the output is gone. That is no failure, and nothing is printed.
    #[serde(skip)]
    pub unread: bool,
    /// The exit status of the program.
    #[serde(skip)]
    pub status: u8,
}

/// The exit status of a command that failed.
pub const FAILED: u8 = 1;
/// The exit status of an invalid command line.
pub const MISUNDERSTOOD: u8 = 2;

/// An obstacle to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Obstacle {
    /// What the obstacle is.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether `--force` ignores it.
    pub forceable: bool,
}

impl Error {
    /// Returns an error with a remedy.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::plain(what) }
    }

    /// Returns an error whose sentence needs no remedy.
    pub fn plain(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: None,
            obstacles: Vec::new(),
            unread: false,
            status: FAILED,
        }
    }

    /// Gives the error the exit status of an invalid command line.
    pub fn misunderstood(self) -> Self {
        Self { status: MISUNDERSTOOD, ..self }
    }

    /// Returns the error for output without a reader.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::plain("the output has no reader") }
    }

    /// Returns the error for a file that cannot be read, written or opened.
    pub fn file(verb: &str, path: &std::path::Path, source: &io::Error) -> Self {
        let what = format!("cannot {verb} {}: {source}", path.display());
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::new(what, "run this as root"),
            _ => Self::plain(what),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "; {remedy}")?;
        }
        for Obstacle { what, remedy, forceable } in &self.obstacles {
            write!(f, "\n  - {what}: {remedy}")?;
            if *forceable {
                f.write_str(", or say --force")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

macro_rules! said {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Error {
            fn from(error: $kind) -> Self {
                Self::plain(error.to_string())
            }
        }
    )*};
}
said!(
    vfio_irq::Error,
    vfio_irq_nvme_device::DiskError,
    vfio_irq_nvme_driver::Error,
    vfio_irq_user::pci::FunctionError
);
said!(vfio_irq_user::ServerError, vfio_irq_user::ClientError, vfio_irq_conformance::Error);
