//! Measures what requests for one vector cost while others are active: 1, 2, 4, … up to all of them.

use super::{Figure, Measured, REPETITIONS, WARM_UP, laid_out, put, time};
use crate::vfio::Opener;
use crate::{Answer, Error, Index, Request};
use std::fmt;

/// Repetitions of detaching and attaching.
const PAIRS: usize = 40;

/// The cost of an operation beside a number of active vectors.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// The number of active vectors.
    pub active: usize,
    /// The cost.
    pub figure: Figure,
}

impl Point {
    /// Returns the point as one line of JSON.
    pub fn json(&self) -> String {
        let Self { active, figure } = self;
        serde_json::json!({ "op": figure.op, "active": active, "min": figure.min(), "median": figure.median() })
            .to_string()
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} {}", self.active, self.figure)
    }
}

/// Measures MSI-X of a device. Ends early if the machine has no interrupt for another vector; the
/// points tell how far it came.
///
/// # Errors
///
/// If the device cannot be opened, or refuses a request for another reason than ENOSPC.
pub fn requests(opener: &Opener) -> Result<Vec<Point>, Error> {
    let device = opener.open()?;
    let all = usize::try_from(device.facts()?.msix).unwrap_or(usize::MAX);
    let measured = Measured::with(device, all)?;
    let mut points = Vec::new();
    let (mut active, mut wanted) = (0, 1);
    while active < all {
        let more = measured.attach(active, wanted - active);
        match measured.device.set_irqs(&crate::sys::GuardedBytes::with(&more.bytes())?) {
            Answer::OK => active = wanted,
            Answer::ENOSPC => break,
            answer => {
                let (what, why) = (format!("{active} vectors and more"), answer.to_string());
                return Err(Error::Measure { what, why });
            }
        }
        points.extend(one(&measured, active)?.map(|figure| Point { active, figure }));
        wanted = (active * 2).min(all);
    }
    put(&measured.device, &Request::disable(Index::Msix))?;
    Ok(points)
}

/// Measures requests for the last of `active` vectors.
fn one(measured: &Measured, active: usize) -> Result<[Figure; 3], Error> {
    let last = active - 1;
    let this = measured.attach(last, 1);
    let other = Request { start: this.start, ..measured.attach(measured.eventfds.len() - 1, 1) };
    let turns = laid_out(&[other, this.clone()])?;
    let mut ticks = Vec::new();
    for turn in 0..WARM_UP + REPETITIONS {
        let took = time(&measured.device, &turns[turn % 2], "retarget")?;
        if turn >= WARM_UP {
            ticks.push(took);
        }
    }
    let retarget = Figure::new("retarget", ticks);
    let detach = Request::attach(Index::Msix, this.start, &[-1]);
    let pair = measured.pair(["detach", "attach_again"], [&detach, &this], PAIRS)?;
    let [detach, attach] = <[Figure; 2]>::try_from(pair)
        .map_err(|_| Error::Measure { what: "a pair".into(), why: "it has two figures".into() })?;
    Ok([retarget, detach, attach])
}
