//! Checks of SET_IRQS before the request has any effect: rules C. Each is tried on every index that
//! the device has, idle and active, and must change nothing.

use super::dut::{check, need};
use super::{Dut, Stop, Verdict, cases};
use crate::{Answer, Index, Request, flags};

const FORMS: [u32; 3] = [flags::NONE, flags::BOOL, flags::FDS];

/// Sends each of these. Fails unless each gets the expected answer.
fn all_refused(dut: &mut Dut<'_>, bad: &[Vec<u8>], expected: Answer, when: &str) -> Verdict {
    for bytes in bad {
        let answer = dut.target.set_irqs(bytes)?;
        check(answer == expected, || {
            format!("{when}: {bytes:?} answered {answer}, not {expected}")
        })?;
    }
    Ok(())
}

/// Makes bad requests out of a valid one, which attaches an eventfd to vector 0 of the index with
/// so many vectors. Fails unless each gets the expected answer and changes nothing.
fn bytes_refused(
    dut: &mut Dut<'_>,
    expected: Answer,
    spoil: impl Fn(&Request, u32) -> Vec<Vec<u8>>,
) -> Verdict {
    for index in dut.indexes()? {
        let count = dut.info(index)?.count;
        if count == 0 {
            continue;
        }
        let [mine, bad] = dut.fds()?;
        let spoilt = spoil(&Request::attach(index, 0, &[bad]), count);
        all_refused(dut, &spoilt, expected, &format!("{index:?} idle"))?;
        // Disabling fails if the index is idle, and if the eventfd of ERR or REQ is unset.
        dut.expect(&Request::disable(index), Answer::EINVAL)?;
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

/// As [`bytes_refused`], with requests whose header can be read.
fn refused(
    dut: &mut Dut<'_>,
    expected: Answer,
    spoil: impl Fn(&Request, u32) -> Vec<Request>,
) -> Verdict {
    bytes_refused(dut, expected, |good, count| {
        spoil(good, count).iter().map(Request::bytes).collect()
    })
}

/// Fails unless the valid request with each of these flags gets the expected answer.
fn flags_refused(dut: &mut Dut<'_>, expected: Answer, all: &[u32]) -> Verdict {
    refused(dut, expected, |good, _| {
        all.iter().map(|flags| Request { flags: *flags, ..good.clone() }).collect()
    })
}

/// Returns a request that carries eventfds, and the same with NONE.
fn in_two_forms(request: Request) -> [Request; 2] {
    [request.clone(), Request { flags: flags::TRIGGER | flags::NONE, ..request }]
}

cases! {
    /// argsz below 20 is EINVAL.
    fn c01_short_argsz(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            [0, 1, 16, 19].map(|argsz| Request { argsz, ..good.clone() }).into()
        })
    }

    /// An index above 4 is EINVAL.
    fn c02_unknown_index(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            [5, 6, 256, 1 << 31, u32::MAX].map(|index| Request { index, ..good.clone() }).into()
        })
    }

    /// A start and a count whose sum does not fit 32 bits are EINVAL.
    fn c03_overflow(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let ranges = [(1, u32::MAX), (u32::MAX, 1), (u32::MAX, u32::MAX), (1 << 31, 1 << 31)];
            let with = |(start, count)| Request { start, count, argsz: u32::MAX, ..good.clone() };
            ranges.map(with).into_iter().flat_map(in_two_forms).collect()
        })
    }

    /// An unknown flag is EINVAL.
    fn c04_unknown_flag(dut) {
        let known = flags::TRIGGER | flags::FDS;
        flags_refused(dut, Answer::EINVAL, &[6, 7, 16, 31].map(|bit| known | 1 << bit))
    }

    /// A start at or beyond the count is EINVAL, even with count 0.
    fn c05_start_beyond(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let disable = Request { flags: flags::TRIGGER | flags::NONE, count: 0, ..good.clone() };
            let at = |start| [Request { start, ..good.clone() }, Request { start, ..disable.clone() }];
            [count, count.saturating_add(1), u32::MAX].into_iter().flat_map(at).collect()
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
        need(tried, "the device has vectors of every index")
    }

    /// An end beyond the count is EINVAL.
    fn c06_end_beyond(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let long = |count| Request { count, argsz: u32::MAX, ..good.clone() };
            let counts = [count + 1, count + 2, count * 2, 0x1000_0000];
            counts.map(long).into_iter().flat_map(in_two_forms).collect()
        })
    }

    /// No kind of data is EINVAL.
    fn c07_no_data_bit(dut) {
        flags_refused(dut, Answer::EINVAL, &[flags::TRIGGER, flags::MASK, flags::UNMASK, 0])
    }

    /// Two kinds of data are EINVAL.
    fn c07_two_data_bits(dut) {
        let [none, bool, fds] = FORMS;
        let several = [none | bool, none | fds, bool | fds, none | bool | fds];
        flags_refused(dut, Answer::EINVAL, &several.map(|forms| forms | flags::TRIGGER))
    }

    /// An argsz with less room than the count needs is EINVAL.
    fn c08_no_room(dut) {
        refused(dut, Answer::EINVAL, |good, _| {
            let bools = Request { flags: flags::TRIGGER | flags::BOOL, ..good.clone() };
            let short = [(good, 20), (good, 21), (good, 23), (&bools, 20)];
            short.map(|(request, argsz)| Request { argsz, ..request.clone() }).into()
        })
    }

    /// An argsz with more room than needed succeeds.
    fn c08_more_room_is_fine(dut) {
        dut.on(&[Index::Err, Index::Req], |dut, index| {
            let fd = dut.fd()?;
            for argsz in [24, 25, 4096, u32::MAX] {
                dut.ok(&Request { argsz, ..Request::attach(index, 0, &[fd]) })?;
            }
            dut.loops_to(index, 0, &[fd], &[])
        })
    }

    /// A header that cannot be read is EFAULT.
    fn c09_unreadable_header(dut) {
        bytes_refused(dut, Answer::EFAULT, |good, _| {
            [0, 1, 4, 19].map(|len| good.bytes()[..len].to_vec()).into()
        })
    }

    /// Data that cannot be read is EFAULT, for every action, even if the core needs no data.
    fn c09_unreadable_data(dut) {
        bytes_refused(dut, Answer::EFAULT, |good, _| {
            let actions = [flags::TRIGGER, flags::MASK, flags::UNMASK].into_iter();
            let cut = |action| [(flags::FDS, 0), (flags::FDS, 3), (flags::BOOL, 0)].map(|(form, left)| {
                Request { flags: action | form, ..good.clone() }.bytes()[..20 + left].to_vec()
            });
            actions.flat_map(cut).collect()
        })
    }

    /// An EINVAL comes before the EFAULT of data that cannot be read.
    fn c09_einval_comes_first(dut) {
        refused(dut, Answer::EINVAL, |good, count| {
            let unreadable = Request { data: Vec::new(), ..good.clone() };
            let flags = [good.flags | 1 << 6, good.flags | flags::NONE];
            [
                Request { argsz: 19, ..unreadable.clone() },
                Request { index: 5, ..unreadable.clone() },
                Request { flags: flags[0], ..unreadable.clone() },
                Request { start: count, ..unreadable.clone() },
                Request { flags: flags[1], ..unreadable.clone() },
                Request { argsz: 23, ..unreadable },
            ]
            .into()
        })
    }

    /// No action is ENOTTY.
    fn c10_no_action(dut) {
        flags_refused(dut, Answer::ENOTTY, &FORMS)
    }

    /// Several actions are ENOTTY.
    fn c10_several_actions(dut) {
        let (mask, unmask, trigger) = (flags::MASK, flags::UNMASK, flags::TRIGGER);
        let several = [mask | unmask, mask | trigger, unmask | trigger, mask | unmask | trigger];
        let all = several.map(|actions| FORMS.map(|form| actions | form));
        flags_refused(dut, Answer::ENOTTY, all.as_flattened())
    }

    /// The EFAULT of data that cannot be read comes before the ENOTTY of the action.
    fn c10_efault_comes_first(dut) {
        refused(dut, Answer::EFAULT, |good, _| {
            [flags::FDS, flags::FDS | flags::MASK | flags::UNMASK]
                .map(|flags| Request { flags, data: Vec::new(), ..good.clone() })
                .into()
        })
    }
}
