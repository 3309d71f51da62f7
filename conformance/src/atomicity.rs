//! Sends a request over six active vectors whose fifth descriptor is bad, and reports which vectors
//! still deliver interrupts of the device (`CONTRACT.md`, B-01).

use crate::target::{Core, Target};
use crate::{Answer, Error, Index, Request};
use std::fmt;

const VECTORS: u32 = 6;

/// The result of the experiment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The answer to the bad request.
    pub answer: Answer,
    /// Vectors that delivered a device interrupt before the request.
    pub before: Vec<u32>,
    /// Vectors that delivered a device interrupt after the request.
    pub after: Vec<u32>,
}

impl Report {
    /// Returns true if every vector delivers after the request as before.
    pub fn is_atomic(&self) -> bool {
        self.before == self.after
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "before: device interrupts arrive on vectors {:?}", self.before)?;
        writeln!(f, "SET_IRQS over 0..{VECTORS} with a bad fifth descriptor: {}", self.answer)?;
        writeln!(f, "after: device interrupts arrive on vectors {:?}", self.after)?;
        let (answer, alive) = (self.answer, self.after.len());
        write!(f, "atomicity errno={answer} alive={alive} of={VECTORS} atomic={}", self.is_atomic())
    }
}

/// Raises each vector. Waits for the `awaited` vectors only, the last of them last, because its
/// signal comes after the others. Returns the vectors whose eventfd was signalled.
fn alive(target: &mut dyn Target, fds: &[i32], awaited: &[i32]) -> Result<Vec<u32>, Error> {
    for (vector, fd) in (0..).zip(fds) {
        target.signals(*fd)?;
        target.raise(Index::Msix, vector)?;
    }
    for fd in awaited {
        target.wait(*fd)?;
    }
    let mut alive = Vec::new();
    for (vector, fd) in (0..).zip(fds) {
        if target.signals(*fd)? > 0 {
            alive.push(vector);
        }
    }
    Ok(alive)
}

/// Runs the experiment on a freshly opened device with MSI-X. Returns the report.
pub fn run(target: &mut dyn Target) -> Result<Report, Error> {
    let fds = (0..VECTORS).map(|_| target.eventfd()).collect::<Result<Vec<_>, _>>()?;
    let attached = target.set_irqs(&Request::attach(Index::Msix, 0, &fds).bytes())?;
    if attached != Answer::OK {
        return Err(Error::Refused { step: "attaching six vectors of MSI-X", answer: attached });
    }
    target.ready(Index::Msix, VECTORS)?;
    let before = alive(target, &fds, &fds)?;
    let mut bad = fds.clone();
    if let Some(fifth) = bad.get_mut(4) {
        // A descriptor above every limit is never open.
        *fifth = i32::MAX;
    }
    let answer = target.set_irqs(&Request::attach(Index::Msix, 0, &bad).bytes())?;
    // In Linux, only the last vector still delivers.
    let spared = if target.core() == Core::C { fds.len().saturating_sub(1) } else { 0 };
    let after = alive(target, &fds, fds.get(spared..).unwrap_or_default())?;
    Ok(Report { answer, before, after })
}
