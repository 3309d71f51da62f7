//! Changes the driver of a function, and undoes the change.

use crate::error::Error;
use crate::file;
use crate::pci::at_boot::{self, AtBoot};
use crate::pci::driver::driver;
use crate::pci::{Bdf, System};
use schemars::JsonSchema;
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A change of a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// Purpose of the change.
    pub why: String,
    /// The file.
    pub file: PathBuf,
    /// The value that is written; `None` if the file is removed.
    pub value: Option<String>,
    /// Whether the file is an attribute in sysfs, or one that the step makes or removes.
    #[serde(skip)]
    pub kind: Kind,
}

/// The kind of file that a step changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An attribute in sysfs, which takes a value.
    Attribute,
    /// A file that others read.
    File,
}

impl Step {
    /// Returns the step that makes a file, or removes it.
    pub fn file(why: String, file: PathBuf, text: Option<String>) -> Self {
        Self { why, file, value: text, kind: Kind::File }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (why, file) = (&self.why, self.file.display());
        match (self.kind, &self.value) {
            (_, None) => write!(f, "rm {file}    # {why}"),
            (Kind::Attribute, Some(value)) => {
                let value = if value.is_empty() { "''" } else { value };
                write!(f, "echo {value} > {file}    # {why}")
            }
            (Kind::File, Some(text)) => write!(f, "cat > {file} <<'END'    # {why}\n{text}END"),
        }
    }
}

/// The driver of a function, its driver_override and what binds it at boot, before a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Before {
    bdf: Bdf,
    wish: String,
    driver: Option<String>,
    at_boot: Vec<AtBoot>,
}

impl Before {
    /// Reads the current state.
    pub fn of(system: &System, bdf: Bdf) -> Self {
        let wish = system.text(bdf.directory().join("driver_override")).unwrap_or_default();
        let wish = if wish == "(null)" { String::new() } else { wish };
        let (driver, at_boot) = (driver(system, bdf), at_boot::all(system, bdf));
        Self { bdf, wish, driver, at_boot }
    }

    fn step(&self, system: &System, why: String, file: &str, value: &str) -> Step {
        attribute(why, system.path(self.bdf.directory().join(file)), value)
    }

    /// Returns the steps to another driver, or to the function's own.
    pub fn steps_to(&self, system: &System, wanted: Option<&str>) -> Vec<Step> {
        let bdf = self.bdf.to_string();
        let why = wanted.map_or("any driver may have it".to_owned(), |wanted| {
            format!("only {wanted} may have it")
        });
        let mut steps = vec![self.step(system, why, "driver_override", wanted.unwrap_or_default())];
        if let Some(driver) = &self.driver {
            steps.push(self.step(system, format!("take it from {driver}"), "driver/unbind", &bdf));
        }
        let file = system.path("sys/bus/pci/drivers_probe");
        steps.push(attribute("look for its driver".to_owned(), file, &bdf));
        steps
    }

    /// Returns the steps after which a function that no VFIO driver has is its own driver's. A
    /// binding that could not be made at boot may have left the override.
    pub fn steps_home(&self, system: &System) -> Vec<Step> {
        let mut steps = self.steps_to(system, None);
        if self.driver.is_some() {
            // Its driver keeps it.
            steps.truncate(usize::from(!self.wish.is_empty()));
        }
        steps
    }

    /// Restores the recorded state.
    ///
    /// # Errors
    ///
    /// If the state could not be restored.
    pub fn restore(&self, system: &System) -> Result<(), Error> {
        let bdf = self.bdf.to_string();
        let now = Self::of(system, self.bdf);
        let is_new = |file: &AtBoot| self.at_boot.iter().all(|kept| kept.file != file.file);
        for new in now.at_boot.iter().filter(|file| is_new(file)) {
            take(&Step::file(String::new(), new.file.clone(), None))?;
        }
        for kept in self.at_boot.iter().filter(|kept| !now.at_boot.contains(kept)) {
            take(&Step::file(String::new(), kept.file.clone(), Some(kept.text.clone())))?;
        }
        if now.wish != self.wish {
            take(&self.step(system, String::new(), "driver_override", &self.wish))?;
        }
        if driver(system, self.bdf) == self.driver {
            return Ok(());
        }
        if driver(system, self.bdf).is_some() {
            take(&self.step(system, String::new(), "driver/unbind", &bdf))?;
        }
        let Some(old) = &self.driver else { return Ok(()) };
        // An override that names another driver keeps the old one away. A rule of udev sets it before
        // the bind at boot.
        let hinders = !self.wish.is_empty() && self.wish != *old;
        let wish = |wish: &str| take(&self.step(system, String::new(), "driver_override", wish));
        if hinders {
            wish("")?;
        }
        let file = system.path(format!("sys/bus/pci/drivers/{old}/bind"));
        take(&attribute(String::new(), file, &bdf))?;
        if hinders {
            wish(&self.wish)?;
        }
        if driver(system, self.bdf).as_ref() == Some(old) {
            return Ok(());
        }
        Err(Error::plain(format!("{old} did not take {} back", self.bdf)))
    }
}

fn attribute(why: String, file: PathBuf, value: &str) -> Step {
    Step { why, file, value: Some(value.to_owned()), kind: Kind::Attribute }
}

/// Takes a step.
///
/// # Errors
///
/// The error of the system.
pub fn take(step: &Step) -> Result<(), Error> {
    let Some(value) = &step.value else {
        return std::fs::remove_file(&step.file)
            .map_err(|error| Error::file("remove", &step.file, &error));
    };
    let written = match step.kind {
        Kind::Attribute => write(&step.file, value),
        Kind::File => step
            .file
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| file::replace(&step.file, value)),
    };
    written.map_err(|error| Error::file("write", &step.file, &error))
}

/// Writes an attribute.
fn write(file: &Path, value: &str) -> io::Result<()> {
    // An empty value would result in no write.
    let mut file = std::fs::OpenOptions::new().write(true).open(file)?;
    file.write_all(format!("{value}\n").as_bytes())
}
