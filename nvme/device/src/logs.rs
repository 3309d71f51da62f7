//! Log pages: errors, health, firmware.

use crate::Common;
use crate::counts::get;
use crate::identify::{ERRORS, MOST_PAGES, is_ours, put};
use std::collections::VecDeque;
use vfio_irq_nvme_spec::{Command, Status, low};

/// The log page of errors.
const ERROR_LOG: u8 = 0x01;

/// The size of an entry in bytes.
const ENTRY: usize = 64;

/// The errors since the controller was enabled, the latest first.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    count: u64,
    entries: VecDeque<[u8; ENTRY]>,
}

impl Errors {
    pub(crate) fn note(&mut self, queue: u16, command: &Command, status: Status) {
        self.count += 1;
        let mut entry = [0; ENTRY];
        put(&mut entry, 0, &self.count.to_le_bytes());
        put(&mut entry, 8, &queue.to_le_bytes());
        put(&mut entry, 10, &command.id().to_le_bytes());
        put(&mut entry, 12, &(status.bits() << 1).to_le_bytes());
        // The parameter error location is not reported.
        put(&mut entry, 14, &u16::MAX.to_le_bytes());
        if queue != 0 {
            put(&mut entry, 16, &command.wide(10).to_le_bytes());
        }
        put(&mut entry, 24, &command.namespace().to_le_bytes());
        self.entries.truncate(ERRORS - 1);
        self.entries.push_front(entry);
    }

    fn page(&self) -> Vec<u8> {
        let mut page: Vec<u8> = self.entries.iter().flatten().copied().collect();
        page.resize(ERRORS * ENTRY, 0);
        page
    }
}

/// Returns the bytes of a log page that Get Log Page asks for, or its error status.
pub(crate) fn read(command: &Command, errors: &Errors, common: &Common) -> Result<Vec<u8>, Status> {
    let (number, upper) = (command.word(10), command.word(11));
    let words = u64::from(low(number >> 16)) | u64::from(low(upper)) << 16;
    let len = usize::try_from((words + 1) * 4).map_err(|_| Status::INVALID_FIELD)?;
    if len > 4096 << MOST_PAGES {
        return Err(Status::INVALID_FIELD);
    }
    let id = number.to_le_bytes()[0];
    if id == 0x02 && !is_ours(command.namespace()) && command.namespace() != 0 {
        return Err(Status::INVALID_NAMESPACE);
    }
    let page = match id {
        ERROR_LOG => errors.page(),
        0x02 => health(common, errors.count),
        0x03 => firmware(),
        _ => return Err(Status::LOG_PAGE),
    };
    let offset = usize::try_from(command.wide(12)).map_err(|_| Status::INVALID_FIELD)?;
    let from = page.get(offset..).filter(|_| offset % 4 == 0).ok_or(Status::INVALID_FIELD)?;
    let mut bytes = vec![0; len];
    bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    Ok(bytes)
}

/// Returns true if reading the log page allows the next event (Retain Asynchronous Event).
pub(crate) fn clears_events(command: &Command) -> bool {
    let retain = command.word(10) >> 15 & 1 != 0;
    command.word(10).to_le_bytes()[0] == ERROR_LOG && !retain
}

/// SMART / Health: in good health, as what is emulated is.
fn health(common: &Common, errors: u64) -> Vec<u8> {
    let counters = &common.counters;
    let mut page = vec![0; 512];
    let mut wide = |at: usize, value: u64| put(&mut page, at, &u128::from(value).to_le_bytes());
    // Thousands of blocks, rounded up.
    wide(32, get(&counters.read_blocks).div_ceil(1000));
    wide(48, get(&counters.written_blocks).div_ceil(1000));
    wide(64, get(&counters.reads));
    wide(80, get(&counters.writes));
    wide(112, get(&counters.enabled));
    wide(160, get(&counters.media_failures));
    wide(176, errors);
    // 300 K; all of the spare blocks, of which 10 % are to be left.
    put(&mut page, 1, &300_u16.to_le_bytes());
    put(&mut page, 3, &[100, 10]);
    page
}

/// Firmware Slot Information: the first slot is active.
fn firmware() -> Vec<u8> {
    let mut page = vec![0; 512];
    put(&mut page, 0, &[1]);
    let version = env!("CARGO_PKG_VERSION").bytes().chain(std::iter::repeat(b' '));
    let version: Vec<u8> = version.take(8).collect();
    put(&mut page, 8, &version);
    page
}
