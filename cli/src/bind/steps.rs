//! Changes the driver of a function, and undoes the change.

use crate::error::Error;
use crate::pci::Bdf;
use crate::pci::System;
use crate::pci::driver::driver;
use schemars::JsonSchema;
use serde::Serialize;
use std::path::PathBuf;

/// A write to a file of sysfs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub struct Step {
    /// Purpose of the write.
    pub why: String,
    /// The file.
    pub file: PathBuf,
    /// The value that is written.
    pub value: String,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = if self.value.is_empty() { "''" } else { &self.value };
        write!(f, "echo {value} > {}    # {}", self.file.display(), self.why)
    }
}

/// The driver of a function, and its driver_override, before a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Before {
    bdf: Bdf,
    wish: String,
    driver: Option<String>,
}

impl Before {
    /// Reads the current state.
    pub fn of(system: &System, bdf: Bdf) -> Self {
        let wish = system.text(bdf.directory().join("driver_override")).unwrap_or_default();
        let wish = if wish == "(null)" { String::new() } else { wish };
        Self { bdf, wish, driver: driver(system, bdf) }
    }

    fn step(&self, system: &System, why: String, file: &str, value: &str) -> Step {
        Step { why, file: system.path(self.bdf.directory().join(file)), value: value.to_owned() }
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
        steps.push(Step { why: "look for its driver".to_owned(), file, value: bdf });
        steps
    }

    /// Restores the recorded state.
    ///
    /// # Errors
    ///
    /// If the state could not be restored.
    pub fn restore(&self, system: &System) -> Result<(), Error> {
        let bdf = self.bdf.to_string();
        take(&self.step(system, String::new(), "driver_override", &self.wish))?;
        if driver(system, self.bdf) == self.driver {
            return Ok(());
        }
        if driver(system, self.bdf).is_some() {
            take(&self.step(system, String::new(), "driver/unbind", &bdf))?;
        }
        let Some(old) = &self.driver else { return Ok(()) };
        let file = system.path(format!("sys/bus/pci/drivers/{old}/bind"));
        take(&Step { why: String::new(), file, value: bdf })?;
        if driver(system, self.bdf).as_ref() == Some(old) {
            return Ok(());
        }
        Err(Error::plain(format!("{old} did not take {} back", self.bdf)))
    }
}

/// Makes the write of a step.
///
/// # Errors
///
/// The error of the system.
pub fn take(step: &Step) -> Result<(), Error> {
    use std::io::Write;
    // An empty value would result in no write.
    let value = format!("{}\n", step.value);
    let file = std::fs::OpenOptions::new().write(true).open(&step.file);
    let written = file.and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(|error| Error::file("write", &step.file, &error))
}
