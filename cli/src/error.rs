//! What goes wrong, said once and in one way.

use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::io;

/// A failure: a sentence that says what is wrong, and one that says what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Error {
    /// What is wrong.
    #[serde(rename = "error")]
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Each thing that is in the way, where it is several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<Obstacle>,
    /// Whoever read what this program printed does not read on: no failure, and nothing to say.
    #[serde(skip)]
    pub unread: bool,
    /// The exit status that goes with it.
    #[serde(skip)]
    pub status: u8,
}

/// The exit status of a command that failed.
pub const FAILED: u8 = 1;
/// The exit status of a command line that makes no sense.
pub const MISUNDERSTOOD: u8 = 2;

/// Something that is in the way of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Obstacle {
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether `--force` goes on in spite of it.
    pub forceable: bool,
}

impl Error {
    /// What is wrong, and what to do about it.
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::plain(what) }
    }

    /// What is wrong, where the sentence says it all.
    pub fn plain(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: None,
            obstacles: Vec::new(),
            unread: false,
            status: FAILED,
        }
    }

    /// Gives the error the exit status of a command line that makes no sense.
    pub fn misunderstood(self) -> Self {
        Self { status: MISUNDERSTOOD, ..self }
    }

    /// Nobody reads what is printed.
    pub fn unread() -> Self {
        Self { unread: true, ..Self::plain("nobody reads the output") }
    }

    /// A file that cannot be read, written or opened.
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
    vfio_irq_nvme::DiskError,
    vfio_irq_nvme::driver::Error,
    vfio_irq_user::pci::FunctionError
);
said!(vfio_irq_user::ServerError, vfio_irq_user::ClientError);
