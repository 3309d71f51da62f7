//! Sends about three thousand valid and invalid requests to a device and tabulates the answers. The
//! table is the same in every run, so two cores' tables are compared line by line
//! ([`crate::compare`]).

use crate::target::Target;
use crate::{Answer, Error, Index, Info, Request, flags, requests};
use std::fmt;

/// How far two cores may differ in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Latitude {
    /// Not at all.
    Same,
    /// GET_IRQ_INFO of MSI and MSI-X: MASKABLE may be set (`CONTRACT.md`, I-07).
    Maskable,
    /// MASK and UNMASK of MSI and MSI-X with NONE and BOOL: Linux returns ENOTTY (`CONTRACT.md`,
    /// B-03).
    Mask,
}

impl Latitude {
    /// All latitudes, each with its letter in a table.
    pub const ALL: [(Self, char); 3] =
        [(Self::Same, '='), (Self::Maskable, 'i'), (Self::Mask, 'm')];
}

/// One request and its answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// How far two cores may differ in this row.
    pub latitude: Latitude,
    /// The active index and the request.
    pub request: String,
    /// The answer.
    pub answer: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = Latitude::ALL.iter().find(|(latitude, _)| *latitude == self.latitude);
        let letter = letter.map_or('=', |(_, letter)| *letter);
        write!(f, "{letter} {} -> {}", self.request, self.answer)
    }
}

/// The one of INTx, MSI and MSI-X that is active while a request is sent.
type State = Option<Index>;

/// Attached vectors in a state, if the index has so many.
const ATTACHED: u32 = 3;

/// A descriptor of a request, named so that the table does not depend on numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fd {
    Eventfd,
    Detach,
    Below,
    Closed,
    Other,
}

impl Fd {
    const ALL: [Self; 5] = [Self::Eventfd, Self::Detach, Self::Below, Self::Closed, Self::Other];
}

/// The table while it is filled.
struct Table<'t> {
    target: &'t mut dyn Target,
    mine: Vec<i32>,
    eventfd: i32,
    other: i32,
    rows: Vec<Row>,
}

/// Sends every request to a freshly opened device. Returns the table.
pub fn table(target: &mut dyn Target) -> Result<Vec<Row>, Error> {
    let mine = (0..ATTACHED).map(|_| target.eventfd()).collect::<Result<_, _>>()?;
    let (eventfd, other) = (target.eventfd()?, target.other_file()?);
    let mut table = Table { target, mine, eventfd, other, rows: Vec::new() };
    table.infos()?;
    for state in [None, Some(Index::Intx), Some(Index::Msi), Some(Index::Msix)] {
        if table.enter(state)? {
            table.state(state)?;
        }
    }
    table.leave()?;
    Ok(table.rows)
}

fn name(index: u32) -> String {
    Index::from_raw(index).map_or_else(|| index.to_string(), |index| format!("{index:?}"))
}

impl Table<'_> {
    fn infos(&mut self) -> Result<(), Error> {
        for index in [0, 1, 2, 3, 4, 5, 6, u32::MAX] {
            for (argsz, len) in
                [(16, 16), (0, 16), (15, 16), (17, 16), (u32::MAX, 16), (16, 15), (16, 0), (0, 0)]
            {
                self.info(index, argsz, len)?;
            }
        }
        Ok(())
    }

    fn info(&mut self, index: u32, argsz: u32, len: usize) -> Result<(), Error> {
        let mut bytes = Info { argsz, ..requests::ask(index) }.to_bytes();
        let answer = self.target.get_irq_info(bytes.get_mut(..len).unwrap_or_default())?;
        let info = Info::from_bytes(&bytes);
        let said = if answer == Answer::OK {
            format!("{answer} flags {:#x} count {}", info.flags, info.count)
        } else {
            answer.to_string()
        };
        let latitude = if matches!(index, 1 | 2) { Latitude::Maskable } else { Latitude::Same };
        let request = format!("info {} argsz {argsz} readable {len}", name(index));
        self.rows.push(Row { latitude, request, answer: said });
        Ok(())
    }

    fn count(&mut self, index: u32) -> Result<u32, Error> {
        let mut bytes = requests::ask(index).to_bytes();
        let answer = self.target.get_irq_info(&mut bytes)?;
        Ok(if answer == Answer::OK { Info::from_bytes(&bytes).count } else { 0 })
    }

    /// Disables the active index.
    fn leave(&mut self) -> Result<(), Error> {
        for index in Index::ALL {
            self.target.set_irqs(&Request::disable(index).bytes())?;
        }
        Ok(())
    }

    /// Disables everything and brings the device into a state. Returns false if the device has no
    /// such state.
    fn enter(&mut self, state: State) -> Result<bool, Error> {
        self.leave()?;
        let Some(index) = state else { return Ok(true) };
        let vectors = self.count(index.raw())?.min(ATTACHED);
        let vectors = usize::try_from(vectors).unwrap_or(0);
        let fds = self.mine.get(..vectors).unwrap_or_default();
        let attached = self.target.set_irqs(&Request::attach(index, 0, fds).bytes())?;
        Ok(vectors > 0 && attached == Answer::OK)
    }

    fn state(&mut self, state: State) -> Result<(), Error> {
        for index in [0, 1, 2, 3, 4, 5, u32::MAX] {
            let count = self.count(index)?;
            for action in [flags::TRIGGER, flags::MASK, flags::UNMASK] {
                self.ranges(state, index, count, action)?;
                self.descriptors(state, index, count, action)?;
            }
            self.oddities(state, index)?;
        }
        Ok(())
    }

    /// Sends every kind of data on ranges inside, at and beyond the bounds.
    fn ranges(&mut self, state: State, index: u32, n: u32, action: u32) -> Result<(), Error> {
        let mut ranges = vec![
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
            (2, 2),
            (n.saturating_sub(1), 0),
            (n.saturating_sub(1), 1),
            (0, n),
            (n, 0),
            (n, 1),
            (0, n + 1),
            (1, u32::MAX),
            (u32::MAX, 1),
            (u32::MAX, 0),
        ];
        ranges.sort_unstable();
        ranges.dedup();
        for (start, count) in ranges {
            for form in [flags::NONE, flags::BOOL, flags::FDS] {
                // Data for as many vectors as the index can have; larger ranges carry no more.
                let elements = usize::try_from(count.min(n + 1)).unwrap_or(0);
                let data = match form {
                    flags::BOOL => vec![1; elements],
                    flags::FDS => self.eventfd.to_ne_bytes().repeat(elements),
                    _ => Vec::new(),
                };
                let size = if form == flags::FDS { 4 } else { u32::from(form == flags::BOOL) };
                let argsz = count.saturating_mul(size).saturating_add(Request::HEADER);
                let flags = action | form;
                self.ask(state, &Request { argsz, flags, index, start, count, data }, "")?;
            }
        }
        Ok(())
    }

    /// Sends every kind of descriptor: alone, after a valid one, and beyond the attached vectors.
    fn descriptors(&mut self, state: State, index: u32, n: u32, action: u32) -> Result<(), Error> {
        for fd in Fd::ALL {
            self.fds(state, (index, action, 0), &[fd])?;
            if n >= 2 {
                self.fds(state, (index, action, 0), &[Fd::Eventfd, fd])?;
                self.fds(state, (index, action, 0), &[fd, Fd::Eventfd])?;
                self.fds(state, (index, action, n - 1), &[fd])?;
            }
        }
        Ok(())
    }

    fn fds(&mut self, state: State, at: (u32, u32, u32), kinds: &[Fd]) -> Result<(), Error> {
        let (index, action, start) = at;
        let number = |kind: &Fd| match kind {
            Fd::Eventfd => self.eventfd,
            Fd::Detach => -1,
            Fd::Below => -2,
            Fd::Closed => i32::MAX,
            Fd::Other => self.other,
        };
        let fds: Vec<_> = kinds.iter().map(number).collect();
        let request = Request { index, ..Request::fds(action, Index::Intx, start, &fds) };
        self.ask(state, &request, &format!(" {kinds:?}"))
    }

    /// Sends invalid flags, wrong sizes, and requests without data.
    fn oddities(&mut self, state: State, index: u32) -> Result<(), Error> {
        let good = Request { index, ..Request::attach(Index::Intx, 0, &[self.eventfd]) };
        let (none, bool, fds) = (flags::NONE, flags::BOOL, flags::FDS);
        let (mask, unmask, trigger) = (flags::MASK, flags::UNMASK, flags::TRIGGER);
        for odd in [
            0,
            none,
            fds,
            trigger,
            mask | unmask | none,
            mask | trigger | bool,
            unmask | trigger | fds,
            trigger | none | bool,
            trigger | bool | fds,
            mask | none | fds,
            trigger | fds | 0x40,
            trigger | none | 0x8000_0000,
        ] {
            self.ask(state, &Request { flags: odd, ..good.clone() }, "")?;
        }
        for argsz in [0, 19, 20, 23, 25, u32::MAX] {
            self.ask(state, &Request { argsz, ..good.clone() }, "")?;
        }
        for flags in
            [trigger | fds, trigger | bool, mask | fds, unmask | bool, fds, fds | mask | trigger]
        {
            let absent = Request { flags, data: Vec::new(), ..good.clone() };
            self.ask(state, &absent, " unreadable data")?;
        }
        for len in [0, 4, 19] {
            let bytes = good.bytes();
            let answer = self.target.set_irqs(bytes.get(..len).unwrap_or_default())?;
            self.push(state, &good, &format!(" readable {len}"), answer);
        }
        Ok(())
    }

    fn ask(&mut self, state: State, request: &Request, note: &str) -> Result<(), Error> {
        let answer = self.target.set_irqs(&request.bytes())?;
        self.push(state, request, note, answer);
        // In Linux, a checked request that fails may have changed something.
        if answer.0 >= 0 || request.flags & flags::FDS != 0 {
            self.enter(state)?;
        }
        Ok(())
    }

    fn push(&mut self, state: State, request: &Request, note: &str, answer: Answer) {
        let action = request.flags & (flags::MASK | flags::UNMASK | flags::TRIGGER);
        let masks = matches!(request.index, 1 | 2)
            && matches!(action, flags::MASK | flags::UNMASK)
            && request.flags & flags::FDS == 0;
        let latitude = if masks { Latitude::Mask } else { Latitude::Same };
        let state = state.map_or_else(|| "idle".into(), |index| format!("{index:?}"));
        let request = format!("{state}: {request}{note}");
        self.rows.push(Row { latitude, request, answer: answer.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Simulator;
    use vfio_irq_engine::sim::IrqCaps;

    #[test]
    fn the_table_is_long_and_the_same_at_every_run() {
        let rows =
            || table(&mut Simulator::new(IrqCaps::default())).expect("the simulator answers");
        let first = rows();
        assert!(first.len() > 1000, "{} rows", first.len());
        assert_eq!(first, rows());
        assert!(first.iter().any(|row| row.answer == "ENOTTY"), "no ENOTTY");
    }
}
