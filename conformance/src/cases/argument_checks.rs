//! Checks of SET_IRQS before the request has any effect: rules C. Each is tried on every index that
//! the device has, idle and active, and must change nothing.

use super::{Dut, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

type Spoilt = Vec<Vec<u8>>;

fn all_refused(dut: &mut Dut<'_>, spoilt: &Spoilt, expected: Answer, when: &str) -> Verdict {
    for bytes in spoilt {
        let answer = dut.target.set_irqs(bytes)?;
        super::dut::check(answer == expected, || {
            format!("{when}: {bytes:?} answered {answer}, not {expected}")
        })?;
    }
    Ok(())
}

/// Makes bad requests out of a valid one, which attaches an eventfd to vector 0 of the index with
/// so many vectors. Fails unless each gets the expected answer and changes nothing.
fn refused(
    dut: &mut Dut<'_>,
    expected: Answer,
    spoil: impl Fn(&Request, u32) -> Spoilt,
) -> Verdict {
    for index in Index::ALL {
        let count = dut.info(index)?.count;
        if count == 0 {
            continue;
        }
        let [mine, bad] = dut.fds()?;
        let spoilt = spoil(&Request::attach(index, 0, &[bad]), count);
        all_refused(dut, &spoilt, expected, &format!("{index:?} idle"))?;
        dut.idle_or_unset(index)?;
        match dut.attach(index, 0, &[mine]) {
            Err(Stop::NotApplicable(_)) => continue,
            attached => attached?,
        }
        all_refused(dut, &spoilt, expected, &format!("{index:?} active"))?;
        dut.loops_to(index, 0, &[mine], &[bad])?;
        dut.ok(&Request::disable(index))?;
    }
    Ok(())
}

impl Dut<'_> {
    /// Fails if the index is active, or an eventfd of ERR or REQ is set.
    fn idle_or_unset(&mut self, index: Index) -> Verdict {
        self.expect(&Request::disable(index), Answer::EINVAL)
    }
}

/// Returns variations of a request, as bytes.
fn variations<const N: usize>(change: [&dyn Fn(&mut Request); N], request: &Request) -> Spoilt {
    let changed = |change: &dyn Fn(&mut Request)| {
        let mut request = request.clone();
        change(&mut request);
        request.bytes()
    };
    change.into_iter().map(changed).collect()
}

fn of_flags(request: &Request, all: &[u32]) -> Spoilt {
    let with = |flags: &u32| Request { flags: *flags, ..request.clone() }.bytes();
    all.iter().map(with).collect()
}

cases! {
    /// argsz below 20 is EINVAL.
    fn c01_short_argsz(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let with = |argsz| Request { argsz, ..good.clone() }.bytes();
            [0, 1, 16, 19].map(with).into()
        })
    }

    /// An index above 4 is EINVAL.
    fn c02_unknown_index(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let with = |index| Request { index, ..good.clone() }.bytes();
            [5, 6, 256, 0x8000_0000, u32::MAX].map(with).into()
        })
    }

    /// A start and a count whose sum does not fit 32 bits are EINVAL.
    fn c03_overflow(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let with = |(start, count)| Request { start, count, argsz: u32::MAX, ..good.clone() };
            let none = |request: Request| Request {
                flags: flags::TRIGGER | flags::NONE,
                ..request
            };
            [(1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX), (0x8000_0000, 0x8000_0000)]
                .into_iter()
                .flat_map(|range| [with(range).bytes(), none(with(range)).bytes()])
                .collect()
        })
    }

    /// An unknown flag is EINVAL.
    fn c04_unknown_flag(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let extra = [1 << 6, 1 << 7, 1 << 16, 1 << 31].map(|extra| good.flags | extra);
            of_flags(good, &extra)
        })
    }

    /// A start at or beyond the count is EINVAL, even with count 0.
    fn c05_start_beyond(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let starts = [count, count.saturating_add(1), u32::MAX];
            let off = |start| Request {
                flags: flags::TRIGGER | flags::NONE,
                start,
                count: 0,
                ..good.clone()
            };
            let with = |start| Request { start, ..good.clone() };
            starts.into_iter().flat_map(|s| [with(s).bytes(), off(s).bytes()]).collect()
        })
    }

    /// On an index without vectors every request is EINVAL.
    fn c05_no_vectors_at_all(dut) {
        let mut tried = false;
        for index in [Index::Intx, Index::Msi, Index::Msix] {
            if dut.info(index)?.count != 0 {
                continue;
            }
            tried = true;
            let fd = dut.fd()?;
            for request in [
                Request::disable(index),
                Request::loopback(index, 0, 1),
                Request::attach(index, 0, &[fd]),
                Request::attach(index, 0, &[]),
                Request::mask(index, 0, 1),
                Request::unmask(index, 0, 0),
            ] {
                dut.expect(&request, Answer::EINVAL)?;
            }
        }
        super::dut::need(tried, "the device has vectors of every index")
    }

    /// An end beyond the count is EINVAL.
    fn c06_end_beyond(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let long = |count: u32| Request { count, argsz: u32::MAX, ..good.clone() };
            let none = |request: Request| Request {
                flags: flags::TRIGGER | flags::NONE,
                ..request
            };
            [count + 1, count + 2, count * 2, 0x1000_0000]
                .into_iter()
                .flat_map(|count| [long(count).bytes(), none(long(count)).bytes()])
                .collect()
        })
    }

    /// No kind of data is EINVAL.
    fn c07_no_data_bit(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            of_flags(good, &[flags::TRIGGER, flags::MASK, flags::UNMASK, 0])
        })
    }

    /// Two kinds of data are EINVAL.
    fn c07_two_data_bits(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let pairs = [
                flags::NONE | flags::BOOL,
                flags::NONE | flags::FDS,
                flags::BOOL | flags::FDS,
                flags::NONE | flags::BOOL | flags::FDS,
            ];
            of_flags(good, &pairs.map(|pair| pair | flags::TRIGGER))
        })
    }

    /// An argsz with less room than the count needs is EINVAL.
    fn c08_no_room(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let bools = |r: &mut Request| r.flags = flags::TRIGGER | flags::BOOL;
            variations([&|r| r.argsz = 20, &|r| r.argsz = 21, &|r| r.argsz = 23, &|r| {
                bools(r);
                r.argsz = 20;
            }], good)
        })
    }

    /// An argsz with more room than needed succeeds.
    fn c08_more_room_is_fine(dut) {
        for index in [Index::Err, Index::Req] {
            let fd = dut.fd()?;
            for argsz in [24, 25, 4096, u32::MAX] {
                dut.ok(&Request { argsz, ..Request::attach(index, 0, &[fd]) })?;
            }
            dut.loops_to(index, 0, &[fd], &[])?;
        }
        Ok(())
    }

    /// A header that cannot be read is EFAULT.
    fn c09_unreadable_header(dut) {
        refused(dut, Answer::EFAULT, |good, _| {
            let bytes = good.bytes();
            [0, 1, 4, 19].into_iter().filter_map(|n| Some(bytes.get(..n)?.to_vec())).collect()
        })
    }

    /// Data that cannot be read is EFAULT, for every action, even if the core needs no data.
    fn c09_unreadable_data(dut) {
        refused(dut, Answer::EFAULT, |good, _| {
            let cut = |action: u32, form: u32, left: usize| {
                let mut bytes = Request { flags: action | form, ..good.clone() }.bytes();
                bytes.truncate(20 + left);
                bytes
            };
            [flags::TRIGGER, flags::MASK, flags::UNMASK]
                .into_iter()
                .flat_map(|action| {
                    [(flags::FDS, 0), (flags::FDS, 3), (flags::BOOL, 0)]
                        .map(|(form, left)| cut(action, form, left))
                })
                .collect()
        })
    }

    /// An EINVAL comes before the EFAULT of data that cannot be read.
    fn c09_einval_comes_first(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let unreadable = Request { data: Vec::new(), ..good.clone() };
            variations([
                &|r| r.argsz = 19,
                &|r| r.index = 5,
                &|r| r.flags |= 1 << 6,
                &|r| r.start = count,
                &|r| r.flags |= flags::NONE,
                &|r| r.argsz = 23,
            ], &unreadable)
        })
    }

    /// No action is ENOTTY.
    fn c10_no_action(dut) {
        refused(dut, Answer::ENOTTY, |good, _| {
            of_flags(good, &[flags::NONE, flags::BOOL, flags::FDS])
        })
    }

    /// Several actions are ENOTTY.
    fn c10_several_actions(dut) {
        refused(dut, Answer::ENOTTY, |good, _| {
            let pairs = [
                flags::MASK | flags::UNMASK,
                flags::MASK | flags::TRIGGER,
                flags::UNMASK | flags::TRIGGER,
                flags::MASK | flags::UNMASK | flags::TRIGGER,
            ];
            let forms = [flags::NONE, flags::BOOL, flags::FDS];
            let all: Vec<_> = pairs.iter().flat_map(|p| forms.map(|form| p | form)).collect();
            of_flags(good, &all)
        })
    }

    /// The EFAULT of data that cannot be read comes before the ENOTTY of the action.
    fn c10_efault_comes_first(dut) {
        refused(dut, Answer::EFAULT, |good, _| {
            let unreadable = Request { data: Vec::new(), ..good.clone() };
            of_flags(&unreadable, &[flags::FDS, flags::FDS | flags::MASK | flags::UNMASK])
        })
    }
}
