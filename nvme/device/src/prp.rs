//! Physical region pages (PRP): the data of a command in guest memory.

use vfio_irq_nvme_spec::Command;
use vfio_irq_nvme_spec::Status;
use vfio_irq_user::Memory;

/// A segment of guest memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) len: usize,
}

/// Computes the segments of `len` bytes of a command's data. Adjacent pages become one segment.
///
/// # Errors
///
/// Returns `PRP_OFFSET` for a misaligned pointer, and `DATA_TRANSFER` if a list cannot be read.
pub(crate) fn map(
    memory: &Memory,
    page: u32,
    command: &Command,
    len: usize,
    segments: &mut Vec<Segment>,
) -> Result<(), Status> {
    segments.clear();
    let page = u64::from(page);
    let (first, second) = (command.prp1(), command.prp2());
    if first % 4 != 0 {
        return Err(Status::PRP_OFFSET);
    }
    let len = len as u64;
    let here = len.min(page - first % page);
    push(segments, first, here);
    let rest = len - here;
    if rest == 0 {
        return Ok(());
    }
    if rest <= page {
        aligned(second, page)?;
        push(segments, second, rest);
        return Ok(());
    }
    if second % 8 != 0 {
        return Err(Status::PRP_OFFSET);
    }
    walk(memory, page, second, rest, segments)
}

/// Follows a list. Its first page may begin anywhere, so it may hold a pointer alone; those after it
/// are whole, and each of them describes data: the walk ends.
fn walk(
    memory: &Memory,
    page: u64,
    list: u64,
    len: u64,
    segments: &mut Vec<Segment>,
) -> Result<(), Status> {
    let (mut list, mut rest) = (list, len);
    let mut chunk = [0_u8; 512];
    while rest > 0 {
        let there = (page - list % page) / 8;
        let wanted = rest.div_ceil(page);
        let chained = wanted > there;
        let entries = if chained { there - 1 } else { wanted };
        let (mut at, end) = (list, list.saturating_add(8 * entries));
        while at < end {
            let bytes = (end - at).min(chunk.len() as u64);
            let part = usize::try_from(bytes).ok().and_then(|n| chunk.get_mut(..n));
            let part = part.ok_or(Status::DATA_TRANSFER)?;
            memory.read(at, part).map_err(|_| Status::DATA_TRANSFER)?;
            for entry in part.as_chunks::<8>().0 {
                let address = u64::from_le_bytes(*entry);
                aligned(address, page)?;
                let here = rest.min(page);
                push(segments, address, here);
                rest -= here;
            }
            at = at.saturating_add(bytes);
        }
        if chained {
            let mut next = [0; 8];
            memory.read(end, &mut next).map_err(|_| Status::DATA_TRANSFER)?;
            list = u64::from_le_bytes(next);
            aligned(list, page)?;
        }
    }
    Ok(())
}

fn aligned(address: u64, page: u64) -> Result<(), Status> {
    if address.is_multiple_of(page) { Ok(()) } else { Err(Status::PRP_OFFSET) }
}

fn push(segments: &mut Vec<Segment>, address: u64, len: u64) {
    // At most a page, so it fits.
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if let Some(last) = segments.last_mut()
        && last.address.checked_add(last.len as u64) == Some(address)
    {
        last.len += len;
        return;
    }
    segments.push(Segment { address, len });
}
